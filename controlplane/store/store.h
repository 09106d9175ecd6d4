// SPDX-License-Identifier: Apache-2.0
//
// Keeps a StoredState over the end of the process: today in a file (state_store.h). Cold.
#pragma once

#include <cstdint>
#include <span>

#include "controlplane/store/stored_state.h"
#include "dataplane/core/result.h"

namespace millrace::control {

class Store {
 public:
  virtual ~Store() = default;

  // What was last saved, rows in order of their keys; all defaults when nothing was.
  [[nodiscard]] virtual const StoredState& state() const = 0;

  // Makes `state` the stored one. On failure (disk full, ...) the store holds what it held before,
  // and the next save tries everything again.
  [[nodiscard]] virtual Status save(StoredState state) = 0;
  // Raises the floor alone: before ids below it are given out.
  [[nodiscard]] virtual Status save_id_floor(std::uint32_t id_floor) = 0;
  // The same for these targets alone, as far as they are stored already.
  [[nodiscard]] virtual Status save_targets(std::span<const StoredTarget> targets) = 0;
};

}  // namespace millrace::control
