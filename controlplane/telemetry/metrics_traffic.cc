// SPDX-License-Identifier: Apache-2.0
//
// Metrics of the traffic: listeners, target groups, targets. Cold.
#include <cstdio>
#include <string>

#include "controlplane/telemetry/metric_rows.h"

namespace millrace::control {
namespace {

// A sample is a double, which holds integers up to 2^53 exactly; 48 bits leave no doubt.
constexpr std::uint64_t kExactDigestMask = (std::uint64_t{1} << 48) - 1;

std::string hex(std::uint64_t value) {
  char text[sizeof("0123456789abcdef")] = "";
  (void)std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(value));
  return text;
}

std::string endpoint_of(const TargetKey& key) { return endpoint_text(key.address, key.port); }

constexpr MetricRow<const ListenerSnapshot*> kListenerRows[] = {
    {{"millrace_listener_info", MetricKind::gauge,
      "Target group that the listener forwards to; always 1.",
      "load_balancer,vip,protocol,port,target_group", ""},
     always_one,
     [](const ListenerSnapshot* const& s) {
       return Labels{{"target_group", s->target_group}};
     }},
};

// What the engine counts.
constexpr MetricRow<const ListenerSnapshot*> kListenerCountRows[] = {
    {{"millrace_listener_new_flows_total", MetricKind::counter, "Flows that began.",
      "load_balancer,vip,protocol,port", "NewFlowCount"},
     [](const ListenerSnapshot* const& s) { return number(s->stats.new_flows); }},
    {{"millrace_listener_processed_packets_total", MetricKind::counter,
      "Packets in both directions.", "load_balancer,vip,protocol,port", "ProcessedPackets"},
     [](const ListenerSnapshot* const& s) { return number(s->stats.packets); }},
    {{"millrace_listener_processed_bytes_total", MetricKind::counter,
      "Bytes in both directions, with IP and TCP or UDP headers.",
      "load_balancer,vip,protocol,port", "ProcessedBytes"},
     [](const ListenerSnapshot* const& s) { return number(s->stats.bytes); }},
    {{"millrace_listener_rejected_flows_total", MetricKind::counter,
      "Flows refused because the target group had no target.", "load_balancer,vip,protocol,port",
      "RejectedFlowCount"},
     [](const ListenerSnapshot* const& s) { return number(s->stats.rejected_flows); }},
    {{"millrace_listener_unhealthy_routing_flows_total", MetricKind::counter,
      "Flows sent to an unhealthy target because no target was healthy.",
      "load_balancer,vip,protocol,port", "UnhealthyRoutingFlowCount"},
     [](const ListenerSnapshot* const& s) { return number(s->stats.unhealthy_routing_flows); }},
    {{"millrace_listener_client_resets_total", MetricKind::counter, "RST segments from clients.",
      "load_balancer,vip,protocol,port", "TCP_Client_Reset_Count"},
     [](const ListenerSnapshot* const& s) { return number(s->stats.client_resets); }},
    {{"millrace_listener_target_resets_total", MetricKind::counter, "RST segments from targets.",
      "load_balancer,vip,protocol,port", "TCP_Target_Reset_Count"},
     [](const ListenerSnapshot* const& s) { return number(s->stats.target_resets); }},
    {{"millrace_listener_balancer_resets_total", MetricKind::counter,
      "RST segments from the load balancer itself.", "load_balancer,vip,protocol,port",
      "TCP_ELB_Reset_Count"},
     [](const ListenerSnapshot* const& s) { return number(s->stats.balancer_resets); }},
};

constexpr MetricRow<const TargetGroupSnapshot*> kGroupRows[] = {
    {{"millrace_target_group_info", MetricKind::gauge,
      "Protocol, port and forwarding mode; always 1.", "target_group,protocol,port,forwarding", ""},
     always_one,
     [](const TargetGroupSnapshot* const& s) {
       return Labels{{"protocol", to_string(s->protocol)},
                     {"port", s->port == 0 ? kAnyPort : std::to_string(s->port)},
                     {"forwarding", to_string(s->forwarding)}};
     }},
    {{"millrace_target_group_registered_targets", MetricKind::gauge,
      "Targets that may get new flows: registered, and with a weight above 0.", "target_group", ""},
     [](const TargetGroupSnapshot* const& s) { return number(s->registered); }},
    {{"millrace_target_group_healthy_targets", MetricKind::gauge,
      "Targets whose health checks pass.", "target_group", "HealthyHostCount"},
     [](const TargetGroupSnapshot* const& s) { return number(s->healthy); }},
    {{"millrace_target_group_unhealthy_targets", MetricKind::gauge,
      "Targets whose health checks fail.", "target_group", "UnHealthyHostCount"},
     [](const TargetGroupSnapshot* const& s) { return number(s->unhealthy); }},
    {{"millrace_target_group_fail_open", MetricKind::gauge,
      "1 while no target is healthy and all of them get new flows, else 0; also 0 while no health "
      "check has had a result yet.",
      "target_group", ""},
     [](const TargetGroupSnapshot* const& s) {
       return claim(s->routing == GroupRouting::fail_open);
     }},
    {{"millrace_target_group_lookup_slots", MetricKind::gauge, "Slots of the lookup table.",
      "target_group", ""},
     [](const TargetGroupSnapshot* const& s) { return number(s->table_slots); }},
    {{"millrace_target_group_lookup_slots_changed", MetricKind::gauge,
      "Slots that changed target within the deregistration delay and still serve old flows of the "
      "previous one.",
      "target_group", ""},
     [](const TargetGroupSnapshot* const& s) { return number(s->slots_with_prev); }},
    {{"millrace_target_group_lookup_digest", MetricKind::gauge,
      "Low 48 bits of the lookup table's digest: nodes with the same config have the same number.",
      "target_group", ""},
     [](const TargetGroupSnapshot* const& s) {
       return number(s->table_digest & kExactDigestMask);
     }},
    {{"millrace_target_group_lookup_digest_info", MetricKind::gauge,
      "The lookup table's whole digest in hex; always 1.", "target_group,digest", ""},
     always_one,
     [](const TargetGroupSnapshot* const& s) {
       return Labels{{"digest", hex(s->table_digest)}};
     }},
};

constexpr MetricRow<const TargetSnapshot*> kTargetRows[] = {
    {{"millrace_target_info", MetricKind::gauge, "Zone of the target; always 1.",
      "target_group,target,target_zone", ""},
     always_one,
     [](const TargetSnapshot* const& s) {
       return Labels{{"target_zone", s->zone}};
     }},
    {{"millrace_target_state_info", MetricKind::gauge,
      "State of the target and why, in NLB's words; always 1.", "target_group,target,state,reason",
      ""},
     always_one,
     [](const TargetSnapshot* const& s) {
       return Labels{{"state", to_string(s->state)}, {"reason", to_string(s->reason)}};
     }},
    {{"millrace_target_healthy", MetricKind::gauge,
      "1 while the target's health checks pass, whatever its state, else 0.", "target_group,target",
      ""},
     [](const TargetSnapshot* const& s) { return claim(s->health == TargetState::healthy); }},
    {{"millrace_target_weight", MetricKind::gauge, "Weight of the target.", "target_group,target",
      ""},
     [](const TargetSnapshot* const& s) { return number(s->weight); }},
    {{"millrace_target_lookup_ratio", MetricKind::gauge,
      "Part of the lookup table's slots that choose the target, 0 to 1.", "target_group,target",
      ""},
     [](const TargetSnapshot* const& s) { return s->lookup_share; }},
    {{"millrace_target_next_hop_resolved", MetricKind::gauge,
      "1 while the kernel knows the MAC address of the target's next hop, else 0; none while the "
      "engine cannot be seen.",
      "target_group,target", ""},
     [](const TargetSnapshot* const& s) {
       return s->next_hop_resolved ? claim(*s->next_hop_resolved) : kNoSample;
     }},
    {{"millrace_target_drain_remaining_seconds", MetricKind::gauge,
      "Rest of the deregistration delay; only while draining.", "target_group,target", ""},
     [](const TargetSnapshot* const& s) {
       return s->drain_seconds_left ? number(*s->drain_seconds_left) : kNoSample;
     }},
};

// What the engine counts.
constexpr MetricRow<const TargetSnapshot*> kTargetCountRows[] = {
    {{"millrace_target_active_flows", MetricKind::gauge, "Flows that the target has now.",
      "target_group,target", "ActiveFlowCount"},
     [](const TargetSnapshot* const& s) { return number(s->stats.active_flows); }},
    {{"millrace_target_new_flows_total", MetricKind::counter, "Flows that the target was given.",
      "target_group,target", "NewFlowCount"},
     [](const TargetSnapshot* const& s) { return number(s->stats.new_flows); }},
    {{"millrace_target_processed_packets_total", MetricKind::counter,
      "Packets to and from the target.", "target_group,target", "ProcessedPackets"},
     [](const TargetSnapshot* const& s) { return number(s->stats.packets); }},
    {{"millrace_target_processed_bytes_total", MetricKind::counter,
      "Bytes to and from the target, with IP and TCP or UDP headers.", "target_group,target",
      "ProcessedBytes"},
     [](const TargetSnapshot* const& s) { return number(s->stats.bytes); }},
    {{"millrace_target_resets_total", MetricKind::counter, "RST segments from the target.",
      "target_group,target", "TCP_Target_Reset_Count"},
     [](const TargetSnapshot* const& s) { return number(s->stats.target_resets); }},
    {{"millrace_target_unresolved_packets_total", MetricKind::counter,
      "Packets dropped because the target's next hop was not resolved.", "target_group,target", ""},
     [](const TargetSnapshot* const& s) { return number(s->stats.unresolved_packets); }},
};

Labels labels_of(const ListenerSnapshot& listener) {
  return {{"load_balancer", listener.load_balancer},
          {"vip", listener.vip.to_string()},
          {"protocol", to_string(listener.protocol)},
          {"port", listener.ports.to_string()}};
}

}  // namespace

void append_traffic_infos(std::vector<MetricInfo>& infos) {
  append_infos(infos, kListenerRows);
  append_infos(infos, kListenerCountRows);
  append_infos(infos, kGroupRows);
  append_infos(infos, kTargetRows);
  append_infos(infos, kTargetCountRows);
}

void append_traffic_families(std::vector<prometheus::MetricFamily>& families,
                             const Snapshot& snapshot, const Labels& base) {
  std::vector<Labelled<const ListenerSnapshot*>> listeners;
  for (const ListenerSnapshot& listener : snapshot.listeners) {
    listeners.push_back({&listener, with(base, labels_of(listener))});
  }
  std::vector<Labelled<const TargetGroupSnapshot*>> groups;
  std::vector<Labelled<const TargetSnapshot*>> targets;
  for (const TargetGroupSnapshot& group : snapshot.target_groups) {
    const Labels labels = with(base, {{"target_group", group.name}});
    groups.push_back({&group, labels});
    for (const TargetSnapshot& target : group.targets) {
      targets.push_back({&target, with(labels, {{"target", endpoint_of(target.key)}})});
    }
  }
  append_families(families, kListenerRows, listeners);
  append_families(families, kGroupRows, groups);
  append_families(families, kTargetRows, targets);
  if (snapshot.engine.is_unseen()) return;
  append_families(families, kListenerCountRows, listeners);
  append_families(families, kTargetCountRows, targets);
}

}  // namespace millrace::control
