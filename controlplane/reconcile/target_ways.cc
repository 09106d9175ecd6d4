// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/target_ways.h"

namespace millrace::control {

namespace {

bool has_way(const TargetRecord& target, const ImageContents& given) {
  return (given.targets[target.slot].next_hop.flags & MR_NEXT_HOP_RESOLVED) != 0;
}

// A VLAN's link is its nic's.
std::uint8_t nic_behind(const TargetRecord& target, const ImageContents& given) {
  const std::uint8_t nic = given.targets[target.slot].next_hop.nic;
  return nic < MR_NIC_COUNT_MAX ? nic : given.vlans.at(nic - MR_NIC_COUNT_MAX).nic;
}

void note_nic(TargetRecord& target, std::uint8_t nic) {
  if (target.nic == nic) return;
  target.former_nic = target.nic;
  target.nic = nic;
}

bool is_one_of(const std::optional<std::uint8_t>& nic, NicMask nics) {
  return nic && (nics >> *nic & 1) != 0;
}

}  // namespace

NicMask note_nics(ControlState& state, const ImageContents& given) {
  NicMask nics = 0;
  for (auto& [name, group] : state.groups) {
    for (auto& [key, target] : group.targets) {
      if (has_way(target, given)) note_nic(target, nic_behind(target, given));
      if (target.nic) nics |= NicMask{1} << *target.nic;
    }
  }
  return nics;
}

std::set<TargetKey> targets_behind(NicMask nics, const ControlState& state) {
  std::set<TargetKey> keys;
  for (const auto& [name, group] : state.groups) {
    for (const auto& [key, target] : group.targets) {
      const bool is_behind = is_one_of(target.nic, nics) || is_one_of(target.former_nic, nics);
      if (is_behind || !target.nic) keys.insert(key);
    }
  }
  return keys;
}

void note_ways(ControlState& state, const ImageContents& given, bool is_engine_running,
               std::uint64_t now_ns, GroupQueue& changed) {
  for (auto& [name, group] : state.groups) {
    for (auto& [key, target] : group.targets) {
      const bool is_reached = has_way(target, given);
      if (!is_reached && !is_engine_running) {
        target.no_way_since_ns = 0;
        continue;
      }
      if (note_way(target, is_reached, now_ns)) changed.add(name);
    }
  }
}

}  // namespace millrace::control
