// SPDX-License-Identifier: Apache-2.0
//
// Keeps what was decided in the store, so that nothing is forgotten that an engine has seen. Cold;
// time is an argument.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "controlplane/reconcile/clock.h"
#include "controlplane/reconcile/control_state.h"
#include "controlplane/reconcile/host.h"
#include "controlplane/reconcile/trouble.h"
#include "controlplane/store/store.h"
#include "dataplane/core/result.h"

namespace millrace::control {

class StateKeeper {
 public:
  StateKeeper(std::unique_ptr<Store> store, Host& host)
      : store_(std::move(store)),
        trouble_(host),
        generation_floor_(store_->state().generation_floor) {}

  // Stores all. `generation` is in force; one publish may follow at most, and the stored floor
  // stays ahead of it.
  [[nodiscard]] Status save(const ControlState& state, std::uint64_t generation, const Moment& now);
  // Stores some targets of the state, or all when more than they must be stored. A failure is an
  // alarm, and all is saved later.
  void save_targets(const std::vector<StoredTarget>& targets, const ControlState& state,
                    std::uint64_t generation, const Moment& now);
  // Makes room for `count` ids. None is given out before the store knows: one that was forgotten
  // would be given out twice.
  [[nodiscard]] Status reserve_ids(NumberSource<std::uint32_t>& ids, std::uint32_t count);

  [[nodiscard]] std::uint64_t generation_floor() const { return generation_floor_; }
  [[nodiscard]] const std::string& alarm() const { return trouble_.alarm(); }
  [[nodiscard]] bool is_retry_due(std::uint64_t now_ns) const {
    return trouble_.is_retry_due(now_ns);
  }

 private:
  [[nodiscard]] bool is_floor_reached(std::uint64_t generation) const {
    return generation + 1 >= generation_floor_;
  }
  void note_saved(const Status& saved);

  std::unique_ptr<Store> store_;
  Trouble trouble_;
  std::uint64_t generation_floor_;  // as stored
};

}  // namespace millrace::control
