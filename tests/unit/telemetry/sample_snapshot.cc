// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/telemetry/sample_snapshot.h"
#include "tests/support/cc/address.h"

namespace millrace::test {
namespace {

using namespace millrace::control;

EngineSnapshot sample_engine() {
  EngineSnapshot engine;
  engine.state = EngineState::running;
  engine.kind = "dpdk";
  engine.wanted_kind = "dpdk";
  engine.pid = 4242;
  engine.start_ns = 50'000'000'000;
  engine.adopted_generation = 7;
  engine.nics = {{.name = "eth1",
                  .twin = "mr0",
                  .mac = "02:00:00:00:00:01",
                  .link_up = true,
                  .unserved_queues = 2,
                  .idle_members = 1,
                  .rx_missed = 31,
                  .rx_errors = 32,
                  .rx_no_buffer = 33,
                  .tx_dropped = 34}};
  for (std::uint32_t index = 0; index < 2; ++index) {
    WorkerSnapshot worker;
    worker.index = index;
    worker.cpu = index + 2;
    worker.acknowledged_generation = 7;
    worker.heartbeat_age_ms = 250;
    worker.flows_active = 1000 + index;
    worker.flows_capacity = 1 << 20;
    worker.turn_ns_max = 1'500'000;
    for (std::uint32_t i = 0; i < MR_COUNTER_COUNT; ++i) worker.counters[i] = 100 * index + i;
    worker.counters[MR_COUNTER_BUSY_NS] = 2'500'000'000;
    for (std::uint32_t i = 0; i < MR_DROP_REASON_COUNT; ++i) worker.drops[i] = 10 * i + index;
    engine.workers.push_back(worker);
  }
  return engine;
}

TargetSnapshot sample_target(const std::string& group, const char* address, std::uint16_t port) {
  TargetSnapshot target;
  target.key = {.group = group, .address = ip(address), .port = port};
  target.weight = 100;
  target.zone = "a";
  target.state = TargetState::healthy;
  target.health = TargetState::healthy;
  target.next_hop_resolved = true;
  target.lookup_share = 0.5;
  target.stats.new_flows = 11;
  target.stats.active_flows = 5;
  target.stats.packets = 1100;
  target.stats.bytes = 110'000;
  target.stats.target_resets = 2;
  target.stats.unresolved_packets = 1;
  return target;
}

}  // namespace

Snapshot sample_snapshot() {
  Snapshot snapshot;
  snapshot.node = "lb-1";
  snapshot.zone = "a";
  snapshot.version = "0.1.0";
  snapshot.start_ns = 40'000'000'000;
  snapshot.generation = 7;
  snapshot.config_applied_ns = 1'700'000'000'500'000'000;
  snapshot.config_source = "/etc/millrace/config.yaml";
  snapshot.probe_lateness_ns = 250'000'000;
  snapshot.arena_bytes = 64 << 20;
  snapshot.arena_used_bytes = 3 << 20;
  snapshot.alarms = {{AlarmKind::queues, "nic eth1: frames on 2 of its rx queues reach no worker"}};
  snapshot.engine = sample_engine();
  ListenerSnapshot listener;
  listener.load_balancer = "web";
  listener.vip = ip("203.0.113.10");
  listener.ports = PortRange::one(80);
  listener.target_group = "web-80";
  listener.stats = {.new_flows = 21,
                    .packets = 22,
                    .bytes = 23,
                    .rejected_flows = 24,
                    .unhealthy_routing_flows = 25,
                    .client_resets = 26,
                    .target_resets = 27,
                    .balancer_resets = 28};
  snapshot.listeners = {listener};

  TargetGroupSnapshot web;
  web.name = "web-80";
  web.port = 8080;
  web.table_digest = 0xfedcba9876543210;
  web.table_slots = 65537;
  web.slots_with_prev = 12;
  web.registered = 1;
  web.healthy = 1;
  web.targets = {sample_target("web-80", "10.0.1.11", 8080),
                 sample_target("web-80", "10.0.1.12", 8081)};
  web.targets[1].state = TargetState::draining;
  web.targets[1].reason = HealthReason::deregistration_in_progress;
  web.targets[1].drain_seconds_left = 120;
  web.targets[1].health = TargetState::unhealthy;
  TargetGroupSnapshot dns;
  dns.name = "dns";
  dns.protocol = Protocol::udp;
  dns.port = 53;
  dns.forwarding = Forwarding::dsr;
  dns.routing = GroupRouting::fail_open;
  dns.unhealthy = 1;
  dns.targets = {sample_target("dns", "2001:db8::5", 53)};
  dns.targets[0].state = TargetState::unhealthy;
  dns.targets[0].health = TargetState::unhealthy;
  dns.targets[0].reason = HealthReason::timeout;
  snapshot.target_groups = {web, dns};
  return snapshot;
}

}  // namespace millrace::test
