// SPDX-License-Identifier: Apache-2.0
//
// From the ids that the engine knows to the names that people know. Cold.
#pragma once

#include <cstdint>
#include <unordered_map>

#include "controlplane/reconcile/snapshot.h"

namespace millrace::control {

// Points into a Snapshot, which must outlive it. Ids are never reused, so an id that is not found
// belongs to something that was removed.
class Names {
 public:
  explicit Names(const Snapshot& snapshot) {
    for (const ListenerSnapshot& listener : snapshot.listeners) {
      listeners_.emplace(listener.id, &listener);
    }
    for (const TargetGroupSnapshot& group : snapshot.target_groups) {
      groups_.emplace(group.id, &group);
      for (const TargetSnapshot& target : group.targets) targets_.emplace(target.id, &target);
    }
  }

  [[nodiscard]] const ListenerSnapshot* listener(std::uint32_t id) const {
    return find(listeners_, id);
  }
  [[nodiscard]] const TargetGroupSnapshot* group(std::uint32_t id) const {
    return find(groups_, id);
  }
  [[nodiscard]] const TargetSnapshot* target(std::uint32_t id) const { return find(targets_, id); }

 private:
  template <typename T>
  static const T* find(const std::unordered_map<std::uint32_t, const T*>& map, std::uint32_t id) {
    const auto found = map.find(id);
    return found == map.end() ? nullptr : found->second;
  }

  std::unordered_map<std::uint32_t, const ListenerSnapshot*> listeners_;
  std::unordered_map<std::uint32_t, const TargetGroupSnapshot*> groups_;
  std::unordered_map<std::uint32_t, const TargetSnapshot*> targets_;
};

}  // namespace millrace::control
