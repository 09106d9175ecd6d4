// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/restore.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "dataplane/core/nanoseconds.h"

namespace millrace::control {

namespace {

StoredGroup stored(const GroupState& group) {
  StoredGroup row{.settings = group.settings,
                  .slot = group.slot,
                  .id = group.id,
                  .listener_port = group.listener_port};
  row.settings.targets.clear();
  return row;
}

GroupState restored(const StoredGroup& row) {
  GroupState group;
  group.settings = row.settings;
  group.listener_port = row.listener_port;
  group.slot = row.slot;
  group.id = row.id;
  return group;
}

TargetRecord restored(const StoredTarget& row, const GroupState& group, const Moment& now) {
  TargetRecord target{.key = row.key,
                      .slot = row.slot,
                      .id = row.id,
                      .identity = target_identity(row.key, group.settings.protocol),
                      .weight = row.weight,
                      .zone = row.zone,
                      .is_configured = row.is_configured,
                      .is_operator_drained = row.is_operator_drained,
                      .registration = row.registration,
                      .drain_deadline_ns = 0,
                      .health = {.state = row.health_state,
                                 .reason = row.health_reason,
                                 .description = row.health_description},
                      .may_have_flows = true};
  if (row.registration == Registration::drained) target.drain_deadline_ns = now.monotonic_ns;
  if (row.registration == Registration::draining) {
    const std::uint64_t left_ns =
        row.drain_deadline_ns - std::min(row.drain_deadline_ns, now.realtime_ns);
    const std::uint64_t left_max_ns = group.settings.deregistration_delay_seconds * kSecondNs;
    target.drain_deadline_ns = now.monotonic_ns + std::min(left_ns, left_max_ns);
  }
  return target;
}

Error contradiction(const std::string& what) {
  return Error{"the stored state contradicts itself: " + what +
               "; move state.db away to start without it"};
}

}  // namespace

StoredTarget to_store(const TargetRecord& target, const Moment& now) {
  StoredTarget out{.key = target.key,
                   .slot = target.slot,
                   .id = target.id,
                   .weight = target.weight,
                   .zone = target.zone,
                   .is_configured = target.is_configured,
                   .is_operator_drained = target.is_operator_drained,
                   .registration = target.registration,
                   .drain_deadline_ns = 0,
                   .health_state = target.health.state,
                   .health_reason = target.health.reason,
                   .health_description = target.health.description};
  if (target.registration == Registration::draining) {
    const std::uint64_t left_ns =
        target.drain_deadline_ns - std::min(target.drain_deadline_ns, now.monotonic_ns);
    // To the second: else the row would differ with every reading of two clocks.
    out.drain_deadline_ns = (now.realtime_ns + left_ns + kSecondNs / 2) / kSecondNs * kSecondNs;
  }
  return out;
}

StoredState to_store(const ControlState& state, std::uint64_t generation_floor, const Moment& now) {
  StoredState out;
  out.id_floor = state.ids.floor();
  out.generation_floor = generation_floor;
  out.config = state.config;
  for (const auto& [key, listener] : state.listeners) {
    out.listeners.push_back({.vip = key.vip,
                             .protocol = key.protocol,
                             .port = key.port,
                             .slot = listener.slot,
                             .id = listener.id});
  }
  for (const auto& [name, group] : state.groups) {
    out.groups.push_back(stored(group));
    for (const auto& [key, target] : group.targets) out.targets.push_back(to_store(target, now));
  }
  return out;
}

Result<ControlState> from_store(const StoredState& stored, const Moment& now) {
  ControlState state(stored.id_floor);
  state.config = stored.config;
  for (const StoredListener& row : stored.listeners) {
    ListenerRecord record;
    record.slot = row.slot;
    record.id = row.id;
    if (row.id >= stored.id_floor || !state.listener_slots.take(row.slot)) {
      return contradiction("listener slot " + std::to_string(row.slot));
    }
    state.listeners.emplace(ListenerKey{row.vip, row.protocol, row.port}, record);
  }
  for (const StoredGroup& row : stored.groups) {
    if (row.id >= stored.id_floor || !state.group_slots.take(row.slot)) {
      return contradiction("target group " + row.settings.name);
    }
    state.groups.emplace(row.settings.name, restored(row));
  }
  for (const StoredTarget& row : stored.targets) {
    const auto group = state.groups.find(row.key.group);
    if (group == state.groups.end() || row.id >= stored.id_floor ||
        !state.target_slots.take(row.slot)) {
      return contradiction("target " + row.key.to_string());
    }
    group->second.targets.emplace(row.key, restored(row, group->second, now));
  }
  return state;
}

void restore_epochs(ControlState& state, const core::ConfigView& published, std::uint64_t now_ns) {
  if (published.image == nullptr) return;
  for (auto& [name, group] : state.groups) {
    if (group.slot >= published.groups.size()) continue;
    const mr_target_group& image = published.groups[group.slot];
    if (image.id != group.id || image.table_offset == 0) continue;
    std::vector<std::uint32_t> ids;
    for (const std::uint32_t slot : published.members(image)) {
      ids.push_back(published.targets[slot].id);
    }
    group.epochs.restore(published.lookup_table(image), ids, now_ns);
  }
}

void restore_ways(ControlState& state, const core::ConfigView& published) {
  for (auto& [name, group] : state.groups) {
    std::vector<TargetRecord*> without;
    bool has_way = false;
    for (auto& [key, target] : group.targets) {
      if (target.slot >= published.targets.size()) continue;
      const mr_target& image = published.targets[target.slot];
      if (image.id != target.id) continue;
      if ((image.next_hop.flags & MR_NEXT_HOP_RESOLVED) != 0) {
        has_way = true;
      } else {
        without.push_back(&target);
      }
    }
    // Without any next hop, the image may be of the first moments, when the kernel had not asked
    // for its neighbours yet.
    if (!has_way) continue;
    for (TargetRecord* target : without) target->is_unreachable = true;
  }
}

}  // namespace millrace::control
