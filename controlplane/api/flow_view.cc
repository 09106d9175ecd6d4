// SPDX-License-Identifier: Apache-2.0
#include "controlplane/api/flow_view.h"

#include <boost/json.hpp>

#include "dataplane/core/drop_reason.h"
#include "dataplane/core/wire.h"

namespace millrace::control {
namespace {

namespace json = boost::json;

template <typename T>
bool admits(const std::optional<T>& wanted, const T& value) {
  return !wanted || *wanted == value;
}

std::uint16_t vip_port_of(const mr_flow_record& record, const ListenerSnapshot& listener) {
  return record.vip_port_be != 0 ? core::from_be16(record.vip_port_be) : listener.ports.first;
}

// The target's own, or the one that the client asked for.
std::uint16_t target_port_of(const mr_flow_record& record, const TargetSnapshot& target,
                             const Names& names) {
  const ListenerSnapshot* listener = names.listener(record.listener_id);
  if (target.key.port != 0 || listener == nullptr) return target.key.port;
  return vip_port_of(record, *listener);
}

bool listener_admitted(const FlowFilter& filter, const mr_flow_record& record, const Names& names) {
  if (!filter.vip && !filter.vip_port) return true;
  const ListenerSnapshot* listener = names.listener(record.listener_id);
  return listener != nullptr && admits(filter.vip, listener->vip) &&
         admits(filter.vip_port, vip_port_of(record, *listener));
}

bool target_admitted(const FlowFilter& filter, const mr_flow_record& record, const Names& names) {
  if (!filter.target && !filter.target_port && !filter.target_group) return true;
  const TargetSnapshot* target = names.target(record.target_id);
  return target != nullptr && admits(filter.target, target->key.address) &&
         admits(filter.target_port, target_port_of(record, *target, names)) &&
         admits(filter.target_group, target->key.group);
}

// Time since the flow's last packet. Ticks wrap, and a torn record may name a time to come.
std::uint64_t idle_ms(std::uint32_t last_seen_tick, std::uint64_t monotonic_ns) {
  const std::uint32_t ticks =
      static_cast<std::uint32_t>(monotonic_ns >> MR_TICK_SHIFT) - last_seen_tick;
  const bool is_past = ticks < 0x80000000u;
  return is_past ? (std::uint64_t{ticks} << MR_TICK_SHIFT) / 1'000'000 : 0;
}

}  // namespace

bool matches(const FlowFilter& filter, const mr_flow_record& record, const Names& names) {
  return admits(filter.client, IpAddress{record.client_addr}) &&
         admits(filter.client_port, core::from_be16(record.client_port_be)) &&
         admits(filter.protocol, static_cast<Protocol>(record.protocol)) &&
         admits(filter.state, std::uint32_t{record.state}) &&
         listener_admitted(filter, record, names) && target_admitted(filter, record, names);
}

json::object flow_view(const FlowFound& flow, const Names& names, std::uint64_t monotonic_ns) {
  const mr_flow_record& record = flow.record;
  const ListenerSnapshot* listener = names.listener(record.listener_id);
  const TargetSnapshot* target = names.target(record.target_id);
  const auto flag = [&](mr_flow_flag bit) { return (record.flags & bit) != 0; };
  json::object view{{"client", endpoint_text(IpAddress{record.client_addr},
                                             core::from_be16(record.client_port_be))},
                    {"protocol", to_string(static_cast<Protocol>(record.protocol))},
                    {"state", core::flow_state_name(record.state)},
                    {"idle_ms", idle_ms(record.last_seen_tick, monotonic_ns)},
                    {"reply_seen", flag(MR_FLOW_REPLY_SEEN)},
                    {"orphan", flag(MR_FLOW_ORPHAN_PREV)},
                    {"listener_id", record.listener_id},
                    {"target_id", record.target_id},
                    {"worker", flow.worker}};
  // Null: removed since.
  view["vip"] = listener == nullptr
                    ? json::value(nullptr)
                    : json::value(endpoint_text(listener->vip, vip_port_of(record, *listener)));
  view["target"] = nullptr;
  if (target != nullptr) {
    TargetKey reached = target->key;
    reached.port = target_port_of(record, *target, names);
    view["target"] = reached.to_string();
  }
  return view;
}

}  // namespace millrace::control
