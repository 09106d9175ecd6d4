// SPDX-License-Identifier: Apache-2.0
//
// Metrics of the node: control plane, config, engine, nics, workers. Cold.
#include <algorithm>
#include <array>
#include <string>

#include "controlplane/telemetry/metric_rows.h"
#include "dataplane/contract/stats_abi.h"
#include "dataplane/core/drop_reason.h"
#include "dataplane/core/nanoseconds.h"

namespace millrace::control {
namespace {

struct NodeSubject {
  const Snapshot& snapshot;
  const ScrapeTime& time;
};

struct AlarmSubject {
  std::size_t count;
};

struct DropSubject {
  std::uint64_t packets;
};

constexpr double seconds(std::uint64_t value_ns) { return static_cast<double>(value_ns) / 1e9; }

const EngineSnapshot& engine(const NodeSubject& node) { return node.snapshot.engine; }

// A moment given by CLOCK_BOOTTIME; none when it is 0. Whole seconds, because each control plane
// reads the two clocks anew, some nanoseconds apart, and an alert counts how often an engine's
// start changes.
double unix_seconds(const NodeSubject& node, std::uint64_t boottime_ns) {
  if (boottime_ns == 0) return kNoSample;
  return number((node.time.boot_realtime_ns + boottime_ns + kSecondNs / 2) / kSecondNs);
}

constexpr MetricRow<NodeSubject> kNodeRows[] = {
    {{"millrace_build_info", MetricKind::gauge, "Version of the control plane; always 1.",
      "version", ""},
     always_one,
     [](const NodeSubject& s) {
       return Labels{{"version", s.snapshot.version}};
     }},
    {{"millrace_controlplane_start_time_seconds", MetricKind::gauge,
      "When the control plane started, in Unix time.", "", ""},
     [](const NodeSubject& s) { return unix_seconds(s, s.snapshot.start_ns); }},
    {{"millrace_config_generation", MetricKind::gauge, "Newest published generation.", "", ""},
     [](const NodeSubject& s) { return number(s.snapshot.generation); }},
    {{"millrace_config_info", MetricKind::gauge, "Where the running config came from; always 1.",
      "source", ""},
     always_one,
     [](const NodeSubject& s) {
       return Labels{{"source", s.snapshot.config_source}};
     }},
    {{"millrace_config_last_success_timestamp_seconds", MetricKind::gauge,
      "When a config was last applied, in Unix time.", "", ""},
     [](const NodeSubject& s) {
       return s.snapshot.config_applied_ns == 0 ? kNoSample : seconds(s.snapshot.config_applied_ns);
     }},
    {{"millrace_config_last_attempt_successful", MetricKind::gauge,
      "1 when the last config offered was applied, 0 when it was refused and the one before still "
      "runs.",
      "", ""},
     [](const NodeSubject& s) { return claim(s.snapshot.config_error.empty()); }},
    {{"millrace_arena_size_bytes", MetricKind::gauge, "Size of the config segment's arena.", "",
      ""},
     [](const NodeSubject& s) { return number(s.snapshot.arena_bytes); }},
    {{"millrace_arena_used_bytes", MetricKind::gauge,
      "Bytes of the arena that hold images still in use.", "", ""},
     [](const NodeSubject& s) { return number(s.snapshot.arena_used_bytes); }},
    {{"millrace_health_checks_late_seconds", MetricKind::gauge,
      "How much later than due the last health check of a target started, or the next one is by "
      "now; the worst of all targets, until health checks start in time again.",
      "", ""},
     [](const NodeSubject& s) { return seconds(s.snapshot.probe_lateness_ns); }},
    {{"millrace_engine_running", MetricKind::gauge,
      "1 while the engine's main thread shows signs of life, else 0.", "", ""},
     [](const NodeSubject& s) { return claim(engine(s).is_running()); }},
    {{"millrace_engine_forwarding", MetricKind::gauge,
      "1 while the node forwards, else 0. 1 without millrace_engine_running: by the last "
      "generation, "
      "and nobody carries out changes.",
      "", ""},
     [](const NodeSubject& s) { return claim(engine(s).is_forwarding()); }},
    {{"millrace_engine_problem", MetricKind::gauge,
      "1 while the control plane sees something wrong with the engine (millrace status says what), "
      "else 0.",
      "", ""},
     [](const NodeSubject& s) { return claim(!engine(s).problem.empty()); }},
    {{"millrace_engine_info", MetricKind::gauge, "Kind of the engine; always 1.", "kind", ""},
     [](const NodeSubject& s) { return engine(s).kind.empty() ? kNoSample : 1.0; },
     [](const NodeSubject& s) {
       return Labels{{"kind", engine(s).kind}};
     }},
    {{"millrace_engine_mismatch", MetricKind::gauge,
      "1 while another kind of engine runs than the config's node.engine, else 0.", "", ""},
     [](const NodeSubject& s) { return claim(engine(s).is_of_wrong_kind()); }},
    {{"millrace_engine_start_time_seconds", MetricKind::gauge,
      "When the engine started, in Unix time.", "", ""},
     [](const NodeSubject& s) {
       return engine(s).is_running() ? unix_seconds(s, engine(s).start_ns) : kNoSample;
     }},
    {{"millrace_engine_adopted_generation", MetricKind::gauge,
      "Generation by which the engine forwards; none while it does not.", "", ""},
     [](const NodeSubject& s) {
       return engine(s).is_forwarding() ? number(engine(s).adopted_generation) : kNoSample;
     }},
    {{"millrace_engine_refused_generation", MetricKind::gauge,
      "Generation whose image the engine refused last; 0 when none.", "", ""},
     [](const NodeSubject& s) {
       return engine(s).is_running() ? number(engine(s).refused_generation) : kNoSample;
     }},
};

constexpr MetricRow<AlarmSubject> kAlarmRows[] = {
    {{"millrace_alarms", MetricKind::gauge,
      "How many things of a kind the control plane finds wrong just now (millrace status says "
      "which): probes, late, hold, routes, publish, store, file, engine_unseen, metrics, "
      "engine_kind, own_vip, encap_source, unreachable, mtu, stall, link, twin, queues, members, "
      "vlans.",
      "alarm", ""},
     [](const AlarmSubject& s) { return number(s.count); }},
};

constexpr MetricRow<const NicSnapshot*> kNicRows[] = {
    {{"millrace_nic_link_up", MetricKind::gauge,
      "1 while the nic has link and, where it needs one, its XDP program; else 0.", "nic,twin", ""},
     [](const NicSnapshot* const& s) { return claim(s->link_up); }},
    {{"millrace_nic_unserved_queues", MetricKind::gauge,
      "Rx queues of the nic whose frames reach no worker.", "nic,twin", ""},
     [](const NicSnapshot* const& s) { return number(s->unserved_queues); }},
    {{"millrace_nic_idle_members", MetricKind::gauge,
      "Members of the bond that the nic is which would not carry frames in place of another.",
      "nic,twin", ""},
     [](const NicSnapshot* const& s) { return number(s->idle_members); }},
    {{"millrace_nic_missed_packets_total", MetricKind::counter,
      "Packets that the nic dropped because its queue was full: nobody took them in time.",
      "nic,twin", ""},
     [](const NicSnapshot* const& s) { return number(s->rx_missed); }},
    {{"millrace_nic_error_packets_total", MetricKind::counter,
      "Frames that the nic dropped because they were damaged or too long.", "nic,twin", ""},
     [](const NicSnapshot* const& s) { return number(s->rx_errors); }},
    {{"millrace_nic_no_buffer_packets_total", MetricKind::counter,
      "Packets that the nic dropped because the engine had no free packet buffer.", "nic,twin", ""},
     [](const NicSnapshot* const& s) { return number(s->rx_no_buffer); }},
    {{"millrace_nic_tx_dropped_packets_total", MetricKind::counter,
      "Packets that the nic was given to send and dropped: counted as forwarded, but lost.",
      "nic,twin", ""},
     [](const NicSnapshot* const& s) { return number(s->tx_dropped); }},
};

// In the order of enum mr_counter from the seventh row on.
constexpr MetricRow<const WorkerSnapshot*> kWorkerRows[] = {
    {{"millrace_worker_info", MetricKind::gauge, "CPU that the worker is pinned to; always 1.",
      "worker,cpu", ""},
     always_one,
     [](const WorkerSnapshot* const& s) {
       return Labels{{"cpu", std::to_string(s->cpu)}};
     }},
    {{"millrace_worker_acknowledged_generation", MetricKind::gauge,
      "Newest generation that the worker uses.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->acknowledged_generation); }},
    {{"millrace_worker_heartbeat_age_seconds", MetricKind::gauge,
      "Time since the worker's last sign of life.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->heartbeat_age_ms) / 1e3; }},
    {{"millrace_worker_active_flows", MetricKind::gauge, "Flows in the worker's flow table.",
      "worker", "ActiveFlowCount"},
     [](const WorkerSnapshot* const& s) { return number(s->flows_active); }},
    {{"millrace_worker_flow_capacity", MetricKind::gauge,
      "Flows that the worker's flow table can hold.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->flows_capacity); }},
    {{"millrace_worker_longest_turn_seconds", MetricKind::gauge,
      "Longest turn of the poll loop since the engine started.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return seconds(s->turn_ns_max); }},
    {{"millrace_worker_received_packets_total", MetricKind::counter, "Packets read from nics.",
      "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_RX_PACKETS]); }},
    {{"millrace_worker_received_bytes_total", MetricKind::counter,
      "Bytes read from nics, with Ethernet headers.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_RX_BYTES]); }},
    {{"millrace_worker_forwarded_packets_total", MetricKind::counter,
      "Packets sent towards a target or a client.", "worker", ""},
     [](const WorkerSnapshot* const& s) {
       return number(s->counters[MR_COUNTER_FORWARDED_PACKETS]);
     }},
    {{"millrace_worker_forwarded_bytes_total", MetricKind::counter,
      "Bytes sent towards a target or a client, with Ethernet headers.", "worker", ""},
     [](const WorkerSnapshot* const& s) {
       return number(s->counters[MR_COUNTER_FORWARDED_BYTES]);
     }},
    {{"millrace_worker_replied_packets_total", MetricKind::counter,
      "Packets answered by the engine: ARP, neighbour solicitation, echo, RST, \"too big\".",
      "worker", ""},
     [](const WorkerSnapshot* const& s) {
       return number(s->counters[MR_COUNTER_REPLIED_PACKETS]);
     }},
    {{"millrace_worker_punted_packets_total", MetricKind::counter,
      "Packets handed to the kernel twin.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_PUNTED_PACKETS]); }},
    {{"millrace_worker_handover_in_packets_total", MetricKind::counter,
      "Packets received from other workers.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_HANDOVER_IN]); }},
    {{"millrace_worker_handover_out_packets_total", MetricKind::counter,
      "Packets given to the worker that owns their flow.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_HANDOVER_OUT]); }},
    {{"millrace_worker_twin_received_packets_total", MetricKind::counter,
      "Packets read from the kernel twin.", "worker", ""},
     [](const WorkerSnapshot* const& s) {
       return number(s->counters[MR_COUNTER_TWIN_RX_PACKETS]);
     }},
    {{"millrace_worker_twin_forwarded_packets_total", MetricKind::counter,
      "Packets from the kernel twin sent on the nic.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_TWIN_FORWARDED]); }},
    {{"millrace_worker_twin_dropped_packets_total", MetricKind::counter,
      "Packets from the kernel twin that were dropped.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_TWIN_DROPPED]); }},
    {{"millrace_worker_announcements_total", MetricKind::counter,
      "Gratuitous ARP and unsolicited neighbour advertisements sent for VIPs.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_ANNOUNCED]); }},
    {{"millrace_worker_flow_hits_total", MetricKind::counter,
      "Packets that found their flow in the flow table.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_FLOW_HITS]); }},
    {{"millrace_worker_flow_insertions_total", MetricKind::counter,
      "Flows entered into the flow table.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_FLOW_INSERTED]); }},
    {{"millrace_worker_flow_removals_total", MetricKind::counter,
      "Flows removed from the flow table.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_FLOW_REMOVED]); }},
    {{"millrace_worker_flow_expirations_total", MetricKind::counter,
      "Flows removed because they were idle for too long.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_FLOW_EXPIRED]); }},
    {{"millrace_worker_untracked_packets_total", MetricKind::counter,
      "Packets forwarded by lookup table alone.", "worker", ""},
     [](const WorkerSnapshot* const& s) {
       return number(s->counters[MR_COUNTER_UNTRACKED_PACKETS]);
     }},
    {{"millrace_worker_flow_insertions_refused_total", MetricKind::counter,
      "Flows not entered: flow table full or over the insert budget.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_INSERT_REFUSED]); }},
    {{"millrace_worker_orphans_to_prev_total", MetricKind::counter,
      "First packets without a flow that went to the slot's previous target.", "worker", ""},
     [](const WorkerSnapshot* const& s) {
       return number(s->counters[MR_COUNTER_ORPHANS_TO_PREV]);
     }},
    {{"millrace_worker_orphans_moved_total", MetricKind::counter,
      "Of those, flows moved to the current target by a RST.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_ORPHANS_MOVED]); }},
    {{"millrace_worker_resets_sent_total", MetricKind::counter,
      "RST segments that the engine sent.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_RST_SENT]); }},
    {{"millrace_worker_generations_adopted_total", MetricKind::counter,
      "Generations that the worker took over.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_CONFIG_ADOPTED]); }},
    {{"millrace_worker_generations_refused_total", MetricKind::counter,
      "Images that failed their checks.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_CONFIG_REFUSED]); }},
    {{"millrace_worker_polls_total", MetricKind::counter, "Turns of the poll loop.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_POLLS]); }},
    {{"millrace_worker_polls_empty_total", MetricKind::counter,
      "Turns of the poll loop without a packet.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_POLLS_EMPTY]); }},
    {{"millrace_worker_busy_seconds_total", MetricKind::counter,
      "Time spent in turns that had packets.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return seconds(s->counters[MR_COUNTER_BUSY_NS]); }},
    {{"millrace_worker_stalls_total", MetricKind::counter,
      "Turns of the poll loop longer than 1 ms.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_STALLS]); }},
    {{"millrace_worker_too_big_sent_total", MetricKind::counter,
      "Packets too big for the way to their target, answered with the MTU that fits.", "worker",
      ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_TOO_BIG_SENT]); }},
    {{"millrace_worker_flows_given_up_total", MetricKind::counter,
      "Flows removed to make room in a full flow table.", "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_FLOW_GIVEN_UP]); }},
    {{"millrace_worker_icmp_errors_passed_total", MetricKind::counter,
      "ICMP errors passed on to the target or client of the flow that they are about.", "worker",
      ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_ERRORS_PASSED]); }},
    {{"millrace_worker_time_exceeded_sent_total", MetricKind::counter,
      "Packets whose last hop was this node, answered as a router does.", "worker", ""},
     [](const WorkerSnapshot* const& s) {
       return number(s->counters[MR_COUNTER_TIME_EXCEEDED_SENT]);
     }},
    {{"millrace_worker_refusals_sent_total", MetricKind::counter,
      "Packets to a VIP's port without a listener, answered with a RST or \"port unreachable\".",
      "worker", ""},
     [](const WorkerSnapshot* const& s) { return number(s->counters[MR_COUNTER_REFUSALS_SENT]); }},
    {{"millrace_worker_fragments_forwarded_total", MetricKind::counter,
      "Fragments of UDP datagrams sent on, among the forwarded packets.", "worker", ""},
     [](const WorkerSnapshot* const& s) {
       return number(s->counters[MR_COUNTER_FRAGMENTS_FORWARDED]);
     }},
};

static_assert(std::size(kWorkerRows) == 6 + MR_COUNTER_COUNT,
              "every counter of the stats segment has a metric");

constexpr MetricRow<DropSubject> kDropRows[] = {
    {{"millrace_worker_dropped_packets_total", MetricKind::counter, "Packets dropped, by reason.",
      "worker,reason", ""},
     [](const DropSubject& s) { return number(s.packets); }},
};

}  // namespace

const char* alarm_label(AlarmKind kind) {
  constexpr std::array<const char*, kAlarmKindCount> kNames = {
      "probes",        "late",    "hold",        "routes",  "publish",      "store",       "file",
      "engine_unseen", "metrics", "engine_kind", "own_vip", "encap_source", "unreachable", "mtu",
      "stall",         "link",    "twin",        "queues",  "members",      "vlans"};
  return kNames.at(static_cast<std::size_t>(kind));
}

void append_node_infos(std::vector<MetricInfo>& infos) {
  append_infos(infos, kNodeRows);
  append_infos(infos, kAlarmRows);
  append_infos(infos, kNicRows);
  append_infos(infos, kWorkerRows);
  append_infos(infos, kDropRows);
}

void append_node_families(std::vector<prometheus::MetricFamily>& families, const Snapshot& snapshot,
                          const ScrapeTime& time, const Labels& base) {
  const std::vector<Labelled<NodeSubject>> node = {{{snapshot, time}, base}};
  std::vector<Labelled<AlarmSubject>> alarms;
  for (std::size_t i = 0; i < kAlarmKindCount; ++i) {
    const auto kind = static_cast<AlarmKind>(i);
    const auto count = std::ranges::count(snapshot.alarms, kind, &Alarm::kind);
    alarms.push_back(
        {{static_cast<std::size_t>(count)}, with(base, {{"alarm", alarm_label(kind)}})});
  }
  // What an engine that is away said last is no news of it: alerts would take it for some.
  static const EngineSnapshot kNobody;
  const EngineSnapshot& engine = snapshot.engine.is_running() ? snapshot.engine : kNobody;
  std::vector<Labelled<const NicSnapshot*>> nics;
  for (const NicSnapshot& nic : engine.nics) {
    nics.push_back({&nic, with(base, {{"nic", nic.name}, {"twin", nic.twin}})});
  }
  std::vector<Labelled<const WorkerSnapshot*>> workers;
  std::vector<Labelled<DropSubject>> drops;
  for (const WorkerSnapshot& worker : engine.workers) {
    const Labels labels = with(base, {{"worker", std::to_string(worker.index)}});
    workers.push_back({&worker, labels});
    for (std::uint32_t reason = MR_DROP_NONE + 1; reason < MR_DROP_REASON_COUNT; ++reason) {
      const char* name = core::drop_reason_name(reason);
      drops.push_back({{worker.drops[reason]}, with(labels, {{"reason", name}})});
    }
  }
  append_families(families, kNodeRows, node);
  append_families(families, kAlarmRows, alarms);
  append_families(families, kNicRows, nics);
  append_families(families, kWorkerRows, workers);
  append_families(families, kDropRows, drops);
}

}  // namespace millrace::control
