// SPDX-License-Identifier: Apache-2.0
//
// The counters of every listener and target that there is now (observations.h says how one grows).
// Cold.
#pragma once

#include <cstdint>

#include "controlplane/reconcile/control_state.h"
#include "controlplane/reconcile/observations.h"
#include "dataplane/core/config_view.h"
#include "dataplane/shm/stats_reader.h"

namespace millrace::control {

class OwnerCounters {
 public:
  // What is known when owners get their slots.
  struct Start {
    const shm::StatsReader* stats = nullptr;  // null: they cannot be read
    bool is_engine_alive = false;
    // As published last. The next generation is the one that gives new owners their slots.
    const core::ConfigView& in_force;
    std::uint64_t generation = 0;
  };
  // Whoever got a slot just now starts from where the slot's counters stand; whoever lost one is
  // forgotten.
  void begin(const ControlState& state, const Start& start);

  void observe(const ControlState& state, const shm::StatsReader& stats);

  // Another engine runs; as CounterSums::restart().
  void restart(bool has_started) {
    listeners_.restart(has_started);
    targets_.restart(has_started);
  }

  [[nodiscard]] mr_listener_stats listener(std::uint32_t id) const { return listeners_.sum(id); }
  [[nodiscard]] mr_target_stats target(std::uint32_t id) const { return targets_.sum(id); }

 private:
  CounterSums<mr_listener_stats> listeners_;
  CounterSums<mr_target_stats> targets_;
};

}  // namespace millrace::control
