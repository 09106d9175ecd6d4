// SPDX-License-Identifier: Apache-2.0
//
// Everything the control plane knows at one moment, as values: what the API answers from and what
// telemetry exports. Cold; built on demand by the Controller on the control plane's only thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/model/model.h"
#include "dataplane/contract/stats_abi.h"

namespace millrace::control {

struct TargetSnapshot {
  TargetKey key;
  std::uint32_t slot = 0;
  std::uint32_t id = 0;
  std::uint32_t weight = 0;
  std::string zone;
  TargetState state = TargetState::initial;
  HealthReason reason = HealthReason::none;
  std::string description;  // e.g. "Health checks failed with these codes: [503]"
  // As probed: healthy or unhealthy, whatever the state; initial when it is not known or probed.
  TargetState health = TargetState::initial;
  bool operator_drained = false;  // by `millrace drain`, as opposed to removed from the file
  std::optional<std::uint32_t> drain_seconds_left;  // while draining
  // Nothing while the engine cannot be seen, because it alone tells which interfaces it drives.
  std::optional<bool> next_hop_resolved;
  std::string next_hop;     // "10.0.1.11 via mr0 lladdr 02:..", or why there is none
  std::uint16_t mtu = 0;    // on the way there; 0: not known
  double lookup_share = 0;  // part of the group's slots, 0-1
  mr_target_stats stats{};  // accumulated over engine restarts, summed over workers
};

// Who gets a group's new flows.
enum class GroupRouting : std::uint8_t {
  to_healthy,  // its healthy targets, if it has any that may get flows
  unchecked,   // all: no health check of any has had a result yet
  fail_open,   // all: their health checks fail
  nobody,      // listeners forward to it, but no target may get flows
};

struct TargetGroupSnapshot {
  std::string name;
  std::uint32_t slot = 0;
  std::uint32_t id = 0;
  Protocol protocol = Protocol::tcp;
  std::uint16_t port = 0;  // 0: any
  Forwarding forwarding = Forwarding::nat;
  GroupRouting routing = GroupRouting::to_healthy;
  std::uint64_t table_digest = 0;
  std::uint32_t table_slots = 0;
  std::uint32_t slots_with_prev = 0;  // still within their drain window
  std::uint32_t registered = 0;       // that may get new flows: with a weight above 0
  std::uint32_t healthy = 0;
  std::uint32_t unhealthy = 0;
  std::vector<TargetSnapshot> targets;
};

struct VipSnapshot {
  std::string load_balancer;
  IpAddress vip;
  Echo echo = Echo::always;
  bool answers_echo = true;  // now
  NoListener no_listener = NoListener::drop;
};

// One published (VIP, protocol, port or ports).
struct ListenerSnapshot {
  std::string load_balancer;
  IpAddress vip;
  Protocol protocol = Protocol::tcp;
  PortRange ports;
  std::uint32_t slot = 0;
  std::uint32_t id = 0;
  std::string target_group;
  Forwarding forwarding = Forwarding::nat;  // of the target group
  std::uint32_t tcp_idle_timeout_seconds = 0;
  mr_listener_stats stats{};  // accumulated, summed over workers
};

struct WorkerSnapshot {
  std::uint32_t index = 0;
  std::uint32_t cpu = 0;
  std::uint64_t acknowledged_generation = 0;
  std::uint64_t heartbeat_age_ms = 0;
  std::uint64_t flows_active = 0;
  std::uint64_t flows_capacity = 0;
  std::uint64_t turn_ns_max = 0;
  std::array<std::uint64_t, MR_COUNTER_COUNT> counters{};   // since engine start
  std::array<std::uint64_t, MR_DROP_REASON_COUNT> drops{};  // likewise
};

// The kernel's interface that carries the node's own part of a nic's traffic.
enum class TwinState : std::uint8_t { there, set_down, gone };

// What keeps probes from passing a nic. If there are several such things, the first in this list.
enum class NicTrouble : std::uint8_t { none, twin_gone, nic_gone, no_program, no_link, twin_down };

struct NicSnapshot {
  std::string name;
  std::string twin;
  std::string mac;
  bool link_up = false;     // and frames come to the engine by it
  bool has_program = true;  // XDP's, without which none come
  TwinState twin_state = TwinState::there;
  NicTrouble trouble = NicTrouble::none;
  std::string trouble_text{};         // "nic eth1 has no link"
  std::uint32_t unserved_queues = 0;  // rx queues that it spreads over and no worker reads
  std::uint32_t idle_members = 0;     // of a bond
  // Dropped before a worker saw it, since engine start (mr_nic).
  std::uint64_t rx_missed = 0;
  std::uint64_t rx_errors = 0;
  std::uint64_t rx_no_buffer = 0;
  std::uint64_t tx_dropped = 0;  // given to it to send, and thrown away by it
};

// What the node does with packets, and whether a change comes into force.
enum class EngineState : std::uint8_t {
  stopped,     // nothing is forwarded
  unseen,      // it may well forward: what would tell cannot be read
  unattended,  // forwards as it did last, but nobody is there to carry out a change
  running,     // main heartbeat < 1 s old
};

struct EngineSnapshot {
  EngineState state = EngineState::stopped;
  std::string kind;         // "dpdk", "xdp"; "" when none has been seen
  std::string wanted_kind;  // node.engine of the config
  std::uint32_t pid = 0;
  std::uint64_t start_ns = 0;  // CLOCK_BOOTTIME
  std::uint64_t adopted_generation = 0;
  std::uint64_t refused_generation = 0;  // 0: none
  std::string refused_reason;
  std::string problem;  // why not running, or e.g. "worker 1 stalled for 2300 ms"
  std::string flow_table_dir;
  std::uint32_t flow_table_count = 0;  // files flows.<i> in there
  std::vector<NicSnapshot> nics;
  std::vector<WorkerSnapshot> workers;

  // Another engine runs than the config names.
  [[nodiscard]] bool is_of_wrong_kind() const { return is_running() && kind != wanted_kind; }
  [[nodiscard]] bool is_running() const { return state == EngineState::running; }
  [[nodiscard]] bool is_forwarding() const {
    return state == EngineState::running || state == EngineState::unattended;
  }
  [[nodiscard]] bool is_unseen() const { return state == EngineState::unseen; }
};

enum class AlarmKind : std::uint8_t {
  probes,   // health checks cannot be done
  late,     // they start late
  hold,     // they say nothing for the moment: no engine, or what `stall` and `link` are about
  routes,   // the kernel's tables are not followed
  publish,  // changes do not reach the engine
  store,    // changes are not remembered
  file,     // the config in force is not that of the config file
  engine_unseen,  // what tells of the engine cannot be read
  metrics,        // nobody can ask for metrics
  engine_kind,    // another engine runs than the config names
  own_vip,        // a VIP is the node's own address
  encap_source,   // no address to encapsulate from
  unreachable,    // healthy targets to which the engine has no way
  mtu,            // targets to which encapsulated packets do not fit that every network carries
  stall,          // a worker stands still
  link,           // a nic has no link, or lost its XDP program
  twin,           // a nic's kernel twin is gone or down
  queues,         // rx queues that nobody reads
  members,        // some of a bond carry nothing
  vlans,          // more of them than an image has room for
};
inline constexpr std::size_t kAlarmKindCount = 20;

struct Alarm {
  AlarmKind kind{};
  std::string text;

  friend bool operator==(const Alarm&, const Alarm&) = default;
};

struct Snapshot {
  std::string node;
  std::string zone;
  std::string version;
  std::uint64_t start_ns = 0;           // of the control plane, CLOCK_BOOTTIME
  std::uint64_t generation = 0;         // newest published
  std::uint64_t config_applied_ns = 0;  // CLOCK_REALTIME of the last successful apply
  std::string config_source;            // path of the file, or who applied it
  std::string config_file;              // the path itself
  bool is_config_file_in_force = true;  // it says the same as the config in force
  std::string config_error;             // last refused config, empty when the last one was good
  std::vector<Alarm> alarms;            // what needs the operator's attention; empty: nothing
  std::uint64_t probe_lateness_ns = 0;  // how late health checks start, at worst
  std::uint64_t arena_bytes = 0;
  std::uint64_t arena_used_bytes = 0;
  EngineSnapshot engine;
  std::vector<VipSnapshot> vips;
  std::vector<ListenerSnapshot> listeners;
  std::vector<TargetGroupSnapshot> target_groups;
};

}  // namespace millrace::control
