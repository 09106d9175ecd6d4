// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/owner_counters.h"

#include <optional>
#include <unordered_set>

namespace millrace::control {

void OwnerCounters::observe(const ControlState& state, const shm::StatsReader& stats) {
  const std::uint64_t acknowledged = stats.acknowledged_by_all();
  for (const auto& [key, listener] : state.listeners) {
    if (const auto raw = stats.listener(listener.slot)) {
      listeners_.observe(listener.id, *raw, acknowledged);
    }
  }
  for (const auto& [name, group] : state.groups) {
    for (const auto& [key, target] : group.targets) {
      if (const auto raw = stats.target(target.slot)) {
        targets_.observe(target.id, *raw, acknowledged);
      }
    }
  }
}

void OwnerCounters::begin(const ControlState& state, const Start& start) {
  const shm::StatsReader* stats = start.stats;
  // A control plane that starts anew finds its owners in force already.
  const auto first_with = [&](const auto& rows, std::uint32_t slot, std::uint32_t id) {
    const bool is_in_force = slot < rows.size() && rows[slot].id == id;
    return start.generation + (is_in_force ? 0 : 1);
  };
  const bool is_none = stats == nullptr && !start.is_engine_alive;  // one that starts counts from 0
  const auto listener_at = [&](std::uint32_t slot) {
    return stats == nullptr ? std::nullopt : stats->listener(slot);
  };
  const auto target_at = [&](std::uint32_t slot) {
    return stats == nullptr ? std::nullopt : stats->target(slot);
  };
  std::unordered_set<std::uint32_t> listener_ids;
  std::unordered_set<std::uint32_t> target_ids;
  for (const auto& [key, listener] : state.listeners) {
    listener_ids.insert(listener.id);
    listeners_.begin(listener.id, is_none ? mr_listener_stats{} : listener_at(listener.slot),
                     first_with(start.in_force.listeners, listener.slot, listener.id));
  }
  for (const auto& [name, group] : state.groups) {
    for (const auto& [key, target] : group.targets) {
      target_ids.insert(target.id);
      targets_.begin(target.id, is_none ? mr_target_stats{} : target_at(target.slot),
                     first_with(start.in_force.targets, target.slot, target.id));
    }
  }
  listeners_.retain(listener_ids);
  targets_.retain(target_ids);
}

}  // namespace millrace::control
