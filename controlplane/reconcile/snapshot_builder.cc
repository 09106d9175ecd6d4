// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/snapshot_builder.h"

#include "dataplane/core/nanoseconds.h"

namespace millrace::control {

namespace {

TargetSnapshot snapshot_target(const TargetRecord& record, const GroupState& group,
                               const SnapshotSources& sources) {
  const ShownState shown = shown_state(record, group);
  TargetSnapshot target;
  target.key = record.key;
  target.slot = record.slot;
  target.id = record.id;
  target.weight = record.weight;
  target.zone = record.zone;
  target.state = shown.state;
  target.reason = shown.reason;
  target.description = shown.description;
  if (is_probed(record, group)) target.health = record.health.state;
  target.operator_drained = record.is_operator_drained;
  if (record.registration == Registration::draining) {
    const std::uint64_t left_ns =
        record.drain_deadline_ns > sources.now_ns ? record.drain_deadline_ns - sources.now_ns : 0;
    target.drain_seconds_left = static_cast<std::uint32_t>((left_ns + kSecondNs - 1) / kSecondNs);
  }
  const IpAddress& address = record.key.address;
  const std::optional<NextHopInfo> hop = sources.routes.find(address);
  if (!sources.is_engine_unseen) {
    target.next_hop_resolved = hop && hop->resolved;
    target.mtu = hop ? sources.path_mtus.towards(address, group, hop->mtu) : std::uint16_t{0};
    target.next_hop = hop ? hop->text : "not looked up yet";
  }
  if (const auto& table = group.epochs.table()) {
    target.lookup_share = static_cast<double>(group.epochs.slots_owned(record.id)) /
                          static_cast<double>(table->slots.size());
  }
  target.stats = sources.counters.target(record.id);
  return target;
}

}  // namespace

std::vector<VipSnapshot> snapshot_vips(const ControlState& state) {
  std::vector<VipSnapshot> out;
  for (const auto& [vip, record] : state.vips) {
    out.push_back({.load_balancer = record.load_balancer,
                   .vip = vip,
                   .echo = record.echo,
                   .answers_echo = answers_echo(record, state),
                   .no_listener = record.no_listener});
  }
  return out;
}

std::vector<ListenerSnapshot> snapshot_listeners(const SnapshotSources& sources) {
  std::vector<ListenerSnapshot> out;
  for (const auto& [key, record] : sources.state.listeners) {
    out.push_back({.load_balancer = record.load_balancer,
                   .vip = key.vip,
                   .protocol = key.protocol,
                   .ports = record.ports,
                   .slot = record.slot,
                   .id = record.id,
                   .target_group = record.target_group,
                   .forwarding = sources.state.groups.at(record.target_group).settings.forwarding,
                   .tcp_idle_timeout_seconds = record.tcp_idle_timeout_seconds,
                   .stats = sources.counters.listener(record.id)});
  }
  return out;
}

std::vector<TargetGroupSnapshot> snapshot_groups(const SnapshotSources& sources) {
  std::vector<TargetGroupSnapshot> out;
  for (const auto& [name, group] : sources.state.groups) {
    TargetGroupSnapshot shown;
    shown.name = name;
    shown.slot = group.slot;
    shown.id = group.id;
    shown.protocol = group.settings.protocol;
    shown.port = group.settings.port;
    shown.forwarding = group.settings.forwarding;
    shown.routing = routing_of(group);
    shown.table_slots = lookup_size(group);
    shown.slots_with_prev = group.epochs.slots_with_prev();
    if (group.epochs.table() != nullptr) shown.table_digest = group.epochs.table()->digest;
    for (const auto& [key, record] : group.targets) {
      TargetSnapshot target = snapshot_target(record, group, sources);
      shown.registered += may_get_new_flows(record) ? 1 : 0;
      shown.healthy += target.state == TargetState::healthy ? 1 : 0;
      shown.unhealthy += target.state == TargetState::unhealthy ? 1 : 0;
      shown.targets.push_back(std::move(target));
    }
    out.push_back(std::move(shown));
  }
  return out;
}

}  // namespace millrace::control
