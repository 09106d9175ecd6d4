// SPDX-License-Identifier: Apache-2.0
//
// A store that lasts as long as the test, and fails when the test says so.
#pragma once

#include <algorithm>
#include <span>
#include <utility>

#include "controlplane/store/store.h"

namespace millrace::test {

class MemoryStore : public control::Store {
 public:
  bool is_failing = false;

  [[nodiscard]] const control::StoredState& state() const override { return state_; }
  [[nodiscard]] Status save(control::StoredState state) override {
    if (is_failing) return full();
    state_ = std::move(state);
    return ok();
  }
  [[nodiscard]] Status save_id_floor(std::uint32_t id_floor) override {
    if (is_failing) return full();
    state_.id_floor = id_floor;
    return ok();
  }
  [[nodiscard]] Status save_targets(std::span<const control::StoredTarget> targets) override {
    if (is_failing) return full();
    for (const control::StoredTarget& target : targets) {
      const auto found = std::ranges::find(state_.targets, target.key, &control::StoredTarget::key);
      if (found != state_.targets.end()) *found = target;
    }
    return ok();
  }

 private:
  static Status full() { return Error{"no room is left"}; }

  control::StoredState state_;
};

}  // namespace millrace::test
