// SPDX-License-Identifier: Apache-2.0
#include "controlplane/api/views.h"

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <cstdio>
#include <span>

#include "dataplane/core/counter_name.h"
#include "dataplane/core/drop_reason.h"
#include "dataplane/core/nanoseconds.h"

namespace millrace::control {
namespace {

namespace json = boost::json;

std::uint64_t seconds_between(std::uint64_t from_ns, std::uint64_t to_ns) {
  return to_ns > from_ns ? (to_ns - from_ns) / kSecondNs : 0;
}

std::uint64_t count_state(const TargetGroupSnapshot& group, TargetState state) {
  const auto count = std::count_if(group.targets.begin(), group.targets.end(),
                                   [state](const auto& target) { return target.state == state; });
  return static_cast<std::uint64_t>(count);
}

// A number, or a text where there is not one port.
json::value ports_view(const PortRange& ports) {
  return ports.is_one() ? json::value(ports.first) : json::value(ports.to_string());
}
json::value port_view(std::uint16_t port) {
  return ports_view(port == 0 ? PortRange::any() : PortRange::one(port));
}

json::object group_head(const TargetGroupSnapshot& group) {
  return {{"name", group.name},
          {"protocol", to_string(group.protocol)},
          {"port", port_view(group.port)},
          {"forwarding", to_string(group.forwarding)},
          {"fail_open", group.routing == GroupRouting::fail_open},
          {"unchecked", group.routing == GroupRouting::unchecked},
          {"no_target", group.routing == GroupRouting::nobody},
          {"table_slots", group.table_slots},
          {"table_digest", hex_text(group.table_digest)},
          {"slots_with_prev", group.slots_with_prev}};
}

// What the engine counted; null while it cannot be seen.
void add_counts(json::object& view, const EngineSnapshot& engine,
                std::initializer_list<std::pair<const char*, std::uint64_t>> counts) {
  for (const auto& [name, count] : counts) {
    view[name] = engine.is_unseen() ? json::value(nullptr) : json::value(count);
  }
}

json::object target_view(const TargetSnapshot& target, const EngineSnapshot& engine) {
  json::object view{{"target", target.key.to_string()},
                    {"address", target.key.address.to_string()},
                    {"port", port_view(target.key.port)},
                    {"slot", target.slot},
                    {"id", target.id},
                    {"weight", target.weight},
                    {"zone", target.zone},
                    {"state", to_string(target.state)},
                    {"reason", to_string(target.reason)},
                    {"description", target.description},
                    {"health", to_string(target.health)},
                    {"operator_drained", target.operator_drained},
                    {"next_hop", target.next_hop},
                    {"mtu", target.mtu},
                    {"lookup_share", target.lookup_share}};
  view["next_hop_resolved"] =
      target.next_hop_resolved ? json::value(*target.next_hop_resolved) : json::value(nullptr);
  add_counts(view, engine,
             {{"new_flows", target.stats.new_flows},
              {"active_flows", target.stats.active_flows},
              {"packets", target.stats.packets},
              {"bytes", target.stats.bytes},
              {"target_resets", target.stats.target_resets},
              {"unresolved_packets", target.stats.unresolved_packets}});
  view["drain_seconds_left"] =
      target.drain_seconds_left ? json::value(*target.drain_seconds_left) : json::value(nullptr);
  return view;
}

json::object nic_drops_of(const NicSnapshot& nic) {
  return {{"rx_missed", nic.rx_missed},
          {"rx_errors", nic.rx_errors},
          {"rx_no_buffer", nic.rx_no_buffer},
          {"tx_dropped", nic.tx_dropped}};
}

const char* twin_state_name(TwinState state) {
  switch (state) {
    case TwinState::there:
      return "there";
    case TwinState::set_down:
      return "down";
    case TwinState::gone:
      break;
  }
  return "gone";
}

json::object engine_view(const EngineSnapshot& engine, std::uint64_t boottime_ns) {
  json::array nics;
  for (const NicSnapshot& nic : engine.nics) {
    nics.push_back({{"name", nic.name},
                    {"twin", nic.twin},
                    {"mac", nic.mac},
                    {"link_up", nic.link_up},
                    {"has_program", nic.has_program},
                    {"twin_state", twin_state_name(nic.twin_state)},
                    {"unserved_queues", nic.unserved_queues},
                    {"idle_members", nic.idle_members},
                    {"drops", nic_drops_of(nic)}});
  }
  json::array workers;
  for (const WorkerSnapshot& worker : engine.workers) {
    workers.push_back({{"index", worker.index},
                       {"cpu", worker.cpu},
                       {"acknowledged_generation", worker.acknowledged_generation},
                       {"heartbeat_age_ms", worker.heartbeat_age_ms},
                       {"flows_active", worker.flows_active},
                       {"flows_capacity", worker.flows_capacity},
                       {"turn_ns_max", worker.turn_ns_max}});
  }
  const bool has_started = engine.start_ns != 0;
  return {{"running", engine.is_running()},
          {"forwarding", engine.is_forwarding()},
          {"unseen", engine.is_unseen()},
          {"kind", engine.kind},
          {"wanted_kind", engine.wanted_kind},
          {"pid", engine.pid},
          {"uptime_seconds", has_started ? seconds_between(engine.start_ns, boottime_ns) : 0},
          {"adopted_generation", engine.adopted_generation},
          {"refused_generation", engine.refused_generation},
          {"refused_reason", engine.refused_reason},
          {"problem", engine.problem},
          {"flow_table_dir", engine.flow_table_dir},
          {"nics", std::move(nics)},
          {"workers", std::move(workers)}};
}

// What could not be read, so that an answer about the engine is not whole.
json::array unread(const EngineSnapshot& engine) {
  return engine.is_unseen() ? json::array{json::value(engine.problem)} : json::array{};
}

json::object counters_of(std::span<const std::uint64_t> counters) {
  json::object view;
  for (std::size_t i = 0; i < counters.size(); ++i) view[core::counter_name(i)] = counters[i];
  return view;
}

// Without MR_DROP_NONE, which is no reason.
json::object drops_of(std::span<const std::uint64_t> drops) {
  json::object view;
  for (std::uint32_t i = 1; i < drops.size(); ++i) view[core::drop_reason_name(i)] = drops[i];
  return view;
}

}  // namespace

std::string hex_text(std::uint64_t value) {
  std::array<char, 19> text{};
  std::snprintf(text.data(), text.size(), "0x%016llx", static_cast<unsigned long long>(value));
  return text.data();
}

json::value status_view(const Snapshot& snapshot, std::uint64_t boottime_ns) {
  json::array groups;
  for (const TargetGroupSnapshot& group : snapshot.target_groups) {
    json::object view = group_head(group);
    view["targets"] = group.targets.size();
    for (const TargetState state :
         {TargetState::initial, TargetState::healthy, TargetState::unhealthy, TargetState::unused,
          TargetState::draining}) {
      view[to_string(state)] = count_state(group, state);
    }
    groups.push_back(std::move(view));
  }
  json::array alarms;
  for (const Alarm& alarm : snapshot.alarms) alarms.push_back(json::value(alarm.text));
  return {{"node", snapshot.node},
          {"zone", snapshot.zone},
          {"alarms", std::move(alarms)},
          {"problems", unread(snapshot.engine)},
          {"version", snapshot.version},
          {"uptime_seconds", seconds_between(snapshot.start_ns, boottime_ns)},
          {"generation", snapshot.generation},
          {"config",
           {{"source", snapshot.config_source},
            {"file", snapshot.config_file},
            {"file_in_force", snapshot.is_config_file_in_force},
            {"applied_unix_seconds", snapshot.config_applied_ns / kSecondNs},
            {"error", snapshot.config_error}}},
          {"arena", {{"bytes", snapshot.arena_bytes}, {"used_bytes", snapshot.arena_used_bytes}}},
          {"engine", engine_view(snapshot.engine, boottime_ns)},
          {"listeners", snapshot.listeners.size()},
          {"target_groups", std::move(groups)}};
}

json::value targets_view(const Snapshot& snapshot, const std::optional<std::string>& group) {
  json::array groups;
  for (const TargetGroupSnapshot& candidate : snapshot.target_groups) {
    if (group && candidate.name != *group) continue;
    json::array targets;
    for (const TargetSnapshot& target : candidate.targets) {
      targets.push_back(target_view(target, snapshot.engine));
    }
    json::object view = group_head(candidate);
    view["targets"] = std::move(targets);
    groups.push_back(std::move(view));
  }
  return {{"target_groups", std::move(groups)}, {"problems", unread(snapshot.engine)}};
}

json::value listeners_view(const Snapshot& snapshot) {
  json::array vips;
  for (const VipSnapshot& vip : snapshot.vips) {
    vips.push_back({{"load_balancer", vip.load_balancer},
                    {"vip", vip.vip.to_string()},
                    {"echo", to_string(vip.echo)},
                    {"answers_echo", vip.answers_echo},
                    {"no_listener", to_string(vip.no_listener)}});
  }
  json::array listeners;
  for (const ListenerSnapshot& listener : snapshot.listeners) {
    json::object view{{"load_balancer", listener.load_balancer},
                      {"vip", listener.vip.to_string()},
                      {"protocol", to_string(listener.protocol)},
                      {"port", ports_view(listener.ports)},
                      {"slot", listener.slot},
                      {"id", listener.id},
                      {"target_group", listener.target_group},
                      {"forwarding", to_string(listener.forwarding)},
                      {"tcp_idle_timeout_seconds", listener.tcp_idle_timeout_seconds}};
    add_counts(view, snapshot.engine,
               {{"new_flows", listener.stats.new_flows},
                {"packets", listener.stats.packets},
                {"bytes", listener.stats.bytes},
                {"rejected_flows", listener.stats.rejected_flows},
                {"unhealthy_routing_flows", listener.stats.unhealthy_routing_flows},
                {"client_resets", listener.stats.client_resets},
                {"target_resets", listener.stats.target_resets},
                {"balancer_resets", listener.stats.balancer_resets}});
    listeners.push_back(std::move(view));
  }
  return {{"vips", std::move(vips)},
          {"listeners", std::move(listeners)},
          {"problems", unread(snapshot.engine)}};
}

json::value counters_view(const Snapshot& snapshot) {
  std::array<std::uint64_t, MR_COUNTER_COUNT> counters{};
  std::array<std::uint64_t, MR_DROP_REASON_COUNT> drops{};
  json::array workers;
  for (const WorkerSnapshot& worker : snapshot.engine.workers) {
    for (std::size_t i = 0; i < counters.size(); ++i) counters[i] += worker.counters[i];
    for (std::size_t i = 0; i < drops.size(); ++i) drops[i] += worker.drops[i];
    workers.push_back({{"index", worker.index},
                       {"counters", counters_of(worker.counters)},
                       {"drops", drops_of(worker.drops)}});
  }
  const bool has_counters = !workers.empty();  // else nobody tells: zeros would be made up
  json::array nics;
  for (const NicSnapshot& nic : snapshot.engine.nics) {
    nics.push_back({{"name", nic.name}, {"drops", nic_drops_of(nic)}});
  }
  return {{"engine_running", snapshot.engine.is_running()},
          {"problems", unread(snapshot.engine)},
          {"counters", has_counters ? counters_of(counters) : json::object{}},
          {"drops", has_counters ? drops_of(drops) : json::object{}},
          {"workers", std::move(workers)},
          {"nics", std::move(nics)}};
}

}  // namespace millrace::control
