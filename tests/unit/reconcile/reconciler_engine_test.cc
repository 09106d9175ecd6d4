// SPDX-License-Identifier: Apache-2.0
//
// What the reconciler makes of what the engine says of itself, and of its silence.
#include "controlplane/reconcile/reconciler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "dataplane/core/checksum64.h"
#include "dataplane/core/wire.h"
#include "tests/unit/reconcile/world.h"

namespace millrace::control {
namespace {

using test::kThree;
using test::web_config;
using test::World;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ReconcilerEngineTest : public ::testing::Test {
 protected:
  ReconcilerEngineTest() { (void)world_.start(); }
  ApplyOutcome apply(const Config& config) {
    Result<ApplyOutcome> outcome = world_->apply(config, "test");
    EXPECT_TRUE(outcome) << outcome.error().message;
    return outcome ? *outcome : ApplyOutcome{};
  }
  void three_healthy_targets() {
    (void)apply(web_config(kThree));
    for (const std::string& address : kThree) world_.set_health(address, TargetState::healthy);
  }

  World world_;
};

TEST_F(ReconcilerEngineTest, other_engine_than_the_config_names_is_an_alarm) {
  world_.start_engine();
  Config config = web_config(kThree);
  (void)apply(config);
  world_.pass(1);
  EXPECT_FALSE(world_->snapshot().engine.is_of_wrong_kind());
  config.node.engine = EngineKind::xdp;
  (void)apply(config);
  ASSERT_EQ(world_->snapshot().alarms.size(), 1u);
  EXPECT_EQ(world_->snapshot().alarms[0].text,
            "the engine that runs is dpdk, but node.engine is xdp");
  world_.kill_engine();
  world_.pass(1);
  EXPECT_FALSE(world_->snapshot().engine.is_of_wrong_kind()) << "none runs, which is told anyway";
}

TEST_F(ReconcilerEngineTest, engine_that_has_ended_is_not_called_running) {
  world_.start_engine();
  world_.pass(1);
  const std::string process = "process " + std::to_string(::getpid());
  EXPECT_EQ(world_.log_lines.back().second, "the engine runs");
  world_.kill_engine();
  world_.log_lines.clear();
  (void)world_.start();  // a control plane that finds what the engine left
  ASSERT_FALSE(world_.log_lines.empty());
  EXPECT_EQ(world_.log_lines[0].second, "the engine that ran last was " + process);
  EXPECT_THAT(world_->snapshot().engine.problem, HasSubstr(process + ", has ended"));
}

TEST_F(ReconcilerEngineTest, fault_63_queues_that_the_engine_does_not_read_raise_an_alarm) {
  world_.start_engine();
  (void)apply(web_config(kThree));
  world_.pass(1);
  EXPECT_TRUE(world_->snapshot().alarms.empty());
  EXPECT_TRUE(world_.engine().writer().set_unserved_queues(0, 2));
  world_.pass(1);
  ASSERT_EQ(world_->snapshot().alarms.size(), 1u);
  EXPECT_THAT(world_->snapshot().alarms[0].text,
              HasSubstr("nic lb0: frames on 2 of its rx queues reach no worker"));
  EXPECT_TRUE(world_.engine().writer().set_unserved_queues(0, 0));
  world_.pass(1);
  EXPECT_TRUE(world_->snapshot().alarms.empty());
}

TEST_F(ReconcilerEngineTest, fault_52_bond_that_lives_on_fewer_members_raises_an_alarm) {
  world_.start_engine();
  (void)apply(web_config(kThree));
  world_.engine().writer().set_idle_members(0, 1);
  world_.pass(1);
  ASSERT_EQ(world_->snapshot().alarms.size(), 1u);
  EXPECT_THAT(world_->snapshot().alarms[0].text,
              HasSubstr("nic lb0: 1 member of the bond would not carry frames"));
  world_.engine().writer().set_idle_members(0, 0);
  world_.pass(1);
  EXPECT_TRUE(world_->snapshot().alarms.empty());
}

TEST_F(ReconcilerEngineTest, probes_fail_nobody_while_the_engine_that_carries_them_is_down) {
  (void)apply(web_config(kThree));
  world_.pass(1);
  EXPECT_THAT(world_.hold, HasSubstr("nobody holds"));
  world_.start_engine();
  world_.pass(1);
  EXPECT_THAT(world_.hold, HasSubstr("just started"));
  world_.pass(2);
  EXPECT_EQ(world_.hold, "");
  world_.kill_engine();
  world_.pass(1);
  EXPECT_THAT(world_.hold, HasSubstr("nobody holds"));
}

TEST_F(ReconcilerEngineTest, fault_34_probes_fail_nobody_after_an_engine_was_replaced_at_once) {
  (void)apply(web_config(kThree));
  world_.start_engine();
  world_.pass(1);
  world_.pass(2);
  ASSERT_EQ(world_.hold, "");
  world_.start_engine();  // the lock was never seen free
  world_.pass(1);
  EXPECT_THAT(world_.hold, HasSubstr("just started"));
  world_.pass(2);
  EXPECT_EQ(world_.hold, "");
}

TEST_F(ReconcilerEngineTest, targets_of_an_unused_group_are_not_probed) {
  Config config = web_config(kThree);
  config.load_balancers.clear();
  (void)apply(config);
  EXPECT_TRUE(world_.health_targets.empty());
  EXPECT_EQ(world_.target("10.0.1.11").state, TargetState::unused);
  (void)apply(web_config(kThree));
  EXPECT_EQ(world_.health_targets.size(), 3u);
  EXPECT_EQ(world_.health_targets[0].listener_port, 80);
  EXPECT_EQ(world_.target("10.0.1.11").state, TargetState::initial);
}

TEST_F(ReconcilerEngineTest, fault_76_link_without_carrier_holds_health_and_is_an_alarm) {
  world_.start_engine();
  for (const std::string& address : kThree) world_.resolve(address, 0x11);
  three_healthy_targets();
  ASSERT_NE(world_.engine().adopt(), nullptr);
  world_.pass(1);
  world_.pass(2);
  ASSERT_EQ(world_.hold, "");
  world_.engine().writer().set_link(0, false);
  world_.forget_next_hops();  // a kernel does, with its carrier
  world_.pass(1);
  EXPECT_EQ(world_.hold, "nic lb0 has no link");
  EXPECT_TRUE(world_.held_targets.empty()) << "all";
  ASSERT_EQ(world_->snapshot().alarms.size(), 1u);
  EXPECT_THAT(world_->snapshot().alarms[0].text, HasSubstr("nic lb0 has no link"));
  world_.engine().writer().set_link(0, true);
  world_.pass(1);
  EXPECT_EQ(world_.hold, "just over: nic lb0 has no link");
  EXPECT_TRUE(world_->snapshot().alarms.empty());
  world_.pass(3);
  EXPECT_EQ(world_.hold, "");
}

TEST_F(ReconcilerEngineTest, fault_92_program_that_was_taken_off_holds_health_and_is_an_alarm) {
  for (const mr_engine_kind kind : {MR_ENGINE_DPDK, MR_ENGINE_XDP}) {
    world_.start_engine(kind);
    for (const std::string& address : kThree) world_.resolve(address, 0x11);
    three_healthy_targets();
    Config config = web_config(kThree);
    config.node.engine = kind == MR_ENGINE_DPDK ? EngineKind::dpdk : EngineKind::xdp;
    (void)apply(config);
    (void)world_.engine().adopt();
    world_.pass(1);
    world_.pass(3);
    ASSERT_EQ(world_.hold, "");
    world_.engine().writer().set_program(0, false);
    world_.pass(1);
    EXPECT_EQ(world_.hold, "nic lb0 has lost its XDP program");
    ASSERT_EQ(world_->snapshot().alarms.size(), 1u);
    EXPECT_EQ(world_->snapshot().alarms[0].kind, AlarmKind::link);
    const std::string remedy =
        kind == MR_ENGINE_DPDK ? "restart the engine" : "the log of millrace-xdp says";
    EXPECT_THAT(world_->snapshot().alarms[0].text,
                HasSubstr("nothing that comes in by it is forwarded; " + remedy));
    world_.engine().writer().set_program(0, true);
    world_.pass(3);
    EXPECT_TRUE(world_->snapshot().alarms.empty());
  }
}

TEST_F(ReconcilerEngineTest, twin_that_somebody_deletes_is_one_alarm_and_holds_health) {
  world_.start_engine();
  for (const std::string& address : kThree) world_.resolve(address, 0x11);
  three_healthy_targets();
  ASSERT_NE(world_.engine().adopt(), nullptr);
  world_.pass(1);
  world_.pass(3);
  ASSERT_EQ(world_.hold, "");
  world_.link = {.is_gone = true};
  world_.forget_next_hops();  // the routes went with it
  world_->on_next_hops();
  world_.tick_for(7);
  EXPECT_EQ(world_.hold, "twin mr0 of nic lb0 is gone");
  ASSERT_EQ(world_->snapshot().alarms.size(), 1u) << "not one for each group, too";
  const Alarm alarm = world_->snapshot().alarms[0];
  EXPECT_EQ(alarm.kind, AlarmKind::twin);
  EXPECT_THAT(alarm.text, HasSubstr("\"The twin is gone or down\"), and restart the engine"));
  EXPECT_EQ(world_.log_lines.back(), (std::pair{LogLevel::error, alarm.text}));

  world_.link = {.is_set_down = true};
  world_.pass(1);
  ASSERT_EQ(world_->snapshot().alarms.size(), 1u);
  EXPECT_EQ(world_->snapshot().alarms[0].kind, AlarmKind::twin);
  EXPECT_THAT(world_->snapshot().alarms[0].text, HasSubstr("ip link set dev mr0 up"));
  world_.link = {};
  for (const std::string& address : kThree) world_.resolve(address, 0x11);
  world_->on_next_hops();
  world_.tick_for(3);
  EXPECT_TRUE(world_->snapshot().alarms.empty());
  EXPECT_EQ(world_.hold, "");
}

// Another release, or files that this program may not read: the engine may well forward.
TEST_F(ReconcilerEngineTest, engine_that_cannot_be_seen_keeps_what_is_in_force_and_is_told_once) {
  world_.start_engine();
  for (const std::string& address : kThree) world_.resolve(address, 0x11);
  three_healthy_targets();
  ASSERT_NE(world_.engine().adopt(), nullptr);
  world_.pass(1);
  ASSERT_EQ(world_.published_target("10.0.1.11")->next_hop.flags, MR_NEXT_HOP_RESOLVED);
  world_.kill();
  std::ofstream(world_.dir().file("stats")) << "of another release";
  for (const std::string& address : kThree)
    world_.set_unresolved(address, "which no engine drives");
  world_.log_lines.clear();
  world_.outer_alarms = {{AlarmKind::hold, "3 of 3 targets not probed"}};
  (void)world_.start();
  (void)apply(web_config(kThree));
  world_.tick_for(20);
  (void)apply(web_config({"10.0.1.11", "10.0.1.12"}));
  world_.tick_for(1);
  EXPECT_EQ(world_.published_target("10.0.1.11")->next_hop.flags, MR_NEXT_HOP_RESOLVED)
      << "an engine that forwards needs it";
  const Snapshot snapshot = world_->snapshot();
  ASSERT_EQ(snapshot.alarms.size(), 1u);
  EXPECT_EQ(snapshot.alarms[0].kind, AlarmKind::engine_unseen);
  EXPECT_THAT(snapshot.alarms[0].text, HasSubstr("ways to targets stay as they are"));
  EXPECT_EQ(world_.target("10.0.1.11").next_hop_resolved, std::nullopt);
  EXPECT_EQ(world_.target("10.0.1.11").next_hop, "");
  const auto told = std::ranges::count_if(world_.log_lines, [](const auto& line) {
    return line.first == LogLevel::error && line.second.find("cannot be read") != std::string::npos;
  });
  EXPECT_EQ(told, 1);
}

TEST_F(ReconcilerEngineTest, fault_92_stalled_worker_holds_health_and_is_an_alarm) {
  world_.start_engine();
  for (const std::string& address : kThree) world_.resolve(address, 0x11);
  three_healthy_targets();
  ASSERT_NE(world_.engine().adopt(), nullptr);
  world_.pass(1);
  world_.pass(2);
  ASSERT_EQ(world_.hold, "");
  world_.now_ns += 12 * kSecondNs;
  world_.engine().writer().set_heartbeat(world_.now_ns);  // the main thread's alone
  world_->tick();
  EXPECT_EQ(world_.hold, "worker 0 of the engine stands still");
  ASSERT_EQ(world_->snapshot().alarms.size(), 1u);
  EXPECT_THAT(world_->snapshot().alarms[0].text, HasSubstr("stands still (since 12 s)"));
  world_.pass(5);
  EXPECT_EQ(world_.hold, "");
  EXPECT_TRUE(world_->snapshot().alarms.empty());
}

std::set<std::string> probed(const World& world) {
  std::set<std::string> addresses;
  for (const HealthTarget& target : world.health_targets) {
    addresses.insert(target.key.address.to_string());
  }
  return addresses;
}

TEST_F(ReconcilerEngineTest,
       fault_67_death_of_a_target_that_was_taken_out_is_noticed_and_published) {
  world_.start_engine();
  three_healthy_targets();
  (void)apply(web_config({"10.0.1.11", "10.0.1.12"}));
  EXPECT_EQ(probed(world_).count("10.0.1.13"), 1u);
  EXPECT_EQ(world_.published_target("10.0.1.13")->flags,
            MR_TARGET_KEEPS_FLOWS | MR_TARGET_DRAINING | MR_TARGET_HEALTHY);
  world_.set_health("10.0.1.13", TargetState::unhealthy);
  EXPECT_EQ(world_.published_target("10.0.1.13")->flags,
            MR_TARGET_RESETS_FLOWS | MR_TARGET_DRAINING);
  EXPECT_EQ(world_.target("10.0.1.13").state, TargetState::draining);
  EXPECT_EQ(world_.target("10.0.1.13").health, TargetState::unhealthy);
}

TEST_F(ReconcilerEngineTest,
       fault_67_targets_with_flows_are_probed_whatever_they_were_taken_out_of) {
  Config without_listener = web_config(kThree);
  without_listener.load_balancers.clear();
  Config without_group = without_listener;
  without_group.target_groups.clear();
  for (const Config& config : {without_listener, without_group}) {
    world_.start_engine();
    three_healthy_targets();
    ASSERT_NE(world_.engine().adopt(), nullptr);
    const std::uint32_t slot = world_.target("10.0.1.13").slot;
    world_.engine().writer().targets(0)[slot].active_flows = 1;
    world_.pass(1);
    (void)apply(config);
    ASSERT_EQ(probed(world_), std::set<std::string>{"10.0.1.13"});
    EXPECT_EQ(world_.health_targets[0].listener_port, 80) << "the same question as before";
    world_.set_health("10.0.1.13", TargetState::unhealthy);
    EXPECT_TRUE(world_.published_target("10.0.1.13")->flags & MR_TARGET_RESETS_FLOWS);

    (void)world_.start();  // with the health check of a group that no config has any more
    (void)apply(config);
    ASSERT_EQ(probed(world_), std::set<std::string>{"10.0.1.13"});
    EXPECT_EQ(world_.health_targets[0].check, web_config(kThree).target_groups[0].health_check);
    EXPECT_EQ(world_.health_targets[0].listener_port, 80);
    EXPECT_TRUE(world_.published_target("10.0.1.13")->flags & MR_TARGET_RESETS_FLOWS);

    world_.engine().writer().targets(0)[slot].active_flows = 0;
    ASSERT_NE(world_.engine().adopt(), nullptr);
    world_.pass(2);
    EXPECT_TRUE(world_.health_targets.empty());
    (void)apply(web_config(kThree));
    EXPECT_EQ(world_.target("10.0.1.13").state, TargetState::initial) << "nobody knew any more";
  }
}

TEST_F(ReconcilerEngineTest, counters_go_on_over_a_restart_of_the_engine) {
  world_.start_engine();
  (void)apply(web_config(kThree));
  ASSERT_NE(world_.engine().adopt(), nullptr);
  world_.engine().writer().listeners(0)[0].new_flows = 7;
  world_.pass(1);
  EXPECT_EQ(world_->snapshot().listeners[0].stats.new_flows, 7u);
  world_.start_engine();
  ASSERT_NE(world_.engine().adopt(), nullptr);
  world_.engine().writer().listeners(0)[0].new_flows = 2;
  world_.pass(1);
  EXPECT_EQ(world_->snapshot().listeners[0].stats.new_flows, 9u);
}

Config other_port(Config config) {
  config.load_balancers[0].listeners[0].ports = PortRange::one(81);
  return config;
}

// A listener's slot goes to the next one at once.
TEST_F(ReconcilerEngineTest, fault_82_counters_never_jump_by_what_a_slots_former_owner_had) {
  enum class Restart { none, controlplane, engine, both };
  for (const Restart restart :
       {Restart::none, Restart::controlplane, Restart::engine, Restart::both}) {
    for (const bool restart_comes_first : {true, false}) {
      SCOPED_TRACE(static_cast<int>(restart) * 10 + restart_comes_first);
      const auto count = [&](std::uint64_t new_flows) {
        world_.engine().writer().listeners(0)[0].new_flows = new_flows;
      };
      const auto do_restart = [&](const Config& config) {
        if (restart == Restart::engine || restart == Restart::both) world_.start_engine();
        if (restart != Restart::controlplane && restart != Restart::both) return;
        (void)world_.start();
        (void)apply(config);
      };
      const auto shown = [&] { return world_->snapshot().listeners[0].stats.new_flows; };
      const Config first = web_config(kThree);
      const Config second = other_port(first);
      world_.start_engine();
      (void)apply(first);
      ASSERT_NE(world_.engine().adopt(), nullptr);
      count(1000);
      world_.pass(1);
      if (restart_comes_first) {
        do_restart(first);
        (void)world_.engine().adopt();
        count(2000);
        world_.pass(1);
      }
      (void)apply(second);
      count(3000);  // still the first one's: no worker has the change
      if (!restart_comes_first) do_restart(second);
      world_.pass(1);
      EXPECT_EQ(shown(), 0u);
      ASSERT_NE(world_.engine().adopt(), nullptr);
      const std::uint64_t base = world_.engine().writer().listeners(0)[0].new_flows;
      world_.pass(1);
      const std::uint64_t before = shown();
      count(base + 7);
      world_.pass(1);
      EXPECT_EQ(before, 0u);
      EXPECT_EQ(shown(), 7u);
    }
  }
}

TEST_F(ReconcilerEngineTest, fault_82_counters_go_on_over_a_restart_of_the_control_plane) {
  world_.start_engine();
  (void)apply(web_config(kThree));
  ASSERT_NE(world_.engine().adopt(), nullptr);
  world_.engine().writer().targets(0)[world_.target("10.0.1.11").slot].new_flows = 500;
  world_.pass(1);
  (void)world_.start();
  (void)apply(web_config(kThree));
  (void)world_.engine().adopt();
  world_.pass(1);
  EXPECT_EQ(world_.target("10.0.1.11").stats.new_flows, 0u) << "starts at 0 with the process";
  world_.engine().writer().targets(0)[world_.target("10.0.1.11").slot].new_flows = 503;
  world_.pass(1);
  EXPECT_EQ(world_.target("10.0.1.11").stats.new_flows, 3u);
}

TEST_F(ReconcilerEngineTest, what_happens_is_logged_at_its_level) {
  const auto level_of = [&](const std::string& what) -> std::optional<LogLevel> {
    std::optional<LogLevel> last;
    for (const auto& [level, line] : world_.log_lines) {
      if (line.find(what) != std::string::npos) last = level;
    }
    return last;
  };
  world_.start_engine();
  three_healthy_targets();
  world_.pass(1);
  EXPECT_EQ(level_of("the engine runs"), LogLevel::info);
  EXPECT_EQ(level_of("is healthy"), LogLevel::info);
  world_.set_health("10.0.1.12", TargetState::unhealthy);
  EXPECT_EQ(level_of("is unhealthy"), LogLevel::warning);
  world_.kill_engine();
  world_.pass(1);
  EXPECT_EQ(level_of("nothing is forwarded"), LogLevel::error);
}

TEST_F(ReconcilerEngineTest, probes_go_on_while_the_xdp_program_forwards_without_its_daemon) {
  (void)apply(web_config(kThree));
  world_.start_engine(MR_ENGINE_XDP);
  world_.pass(1);
  world_.pass(3);
  ASSERT_EQ(world_.hold, "");
  world_.link = {.has_carrier = true, .has_xdp_program = true};
  world_.kill_engine();
  world_.pass(1);
  EXPECT_EQ(world_.hold, "");
  EXPECT_EQ(world_->snapshot().engine.state, EngineState::unattended);
  world_.link = {};
  world_.pass(1);
  EXPECT_THAT(world_.hold, HasSubstr("nobody holds"));
  EXPECT_EQ(world_->snapshot().engine.state, EngineState::stopped);
}

TEST_F(ReconcilerEngineTest, who_changes_something_is_told_when_the_engine_does_not_carry_it_out) {
  const TargetKey key = World::key("10.0.1.12");
  world_.start_engine(MR_ENGINE_XDP);
  three_healthy_targets();
  ASSERT_NE(world_.engine().adopt(), nullptr);
  world_.engine().writer().set_adopted(7);
  world_.pass(3);
  EXPECT_THAT(*world_->drain(key), IsEmpty());
  EXPECT_THAT(*world_->undrain(key), IsEmpty());
  world_.link = {.has_carrier = true, .has_xdp_program = true};
  world_.kill_engine();
  world_.pass(1);
  const auto is_told = ElementsAre(HasSubstr(
      "the engine goes on by generation 7, without this change, until somebody attends to it: "));
  EXPECT_THAT(*world_->drain(key), is_told);
  EXPECT_THAT(*world_->undrain(key), is_told);
  EXPECT_THAT(apply(web_config({"10.0.1.11"})).warnings, is_told);
  world_.link = {};
  EXPECT_THAT(apply(web_config(kThree)).warnings, IsEmpty()) << "nothing goes on";
}

TEST_F(ReconcilerEngineTest, stalled_worker_blocks_publishing_with_an_alarm_and_never_overwrites) {
  world_.kill();
  world_.segment_bytes = 850 << 10;  // three tables of 256 KiB, not four
  ASSERT_EQ(::unlink(world_.dir().file("config").c_str()), 0);
  (void)world_.start();
  world_.start_engine();
  (void)apply(web_config(kThree));
  ASSERT_NE(world_.engine().adopt(), nullptr);
  const std::uint64_t read_by_worker = world_.engine().config().groups[0].table_checksum;
  // From here on the worker adopts nothing: each health change wants another table.
  for (const char* address : {"10.0.1.11", "10.0.1.12", "10.0.1.13"}) {
    world_.set_health(address, TargetState::healthy);
    world_.pass(1);
  }
  ASSERT_EQ(world_->snapshot().alarms.size(), 1u);
  EXPECT_THAT(world_->snapshot().alarms[0].text, HasSubstr("config is not published"));
  EXPECT_THAT(world_->snapshot().engine.problem, HasSubstr("not acknowledged"));
  const core::ConfigView& held = world_.engine().config();
  EXPECT_EQ(core::checksum64(std::as_bytes(held.lookup_table(held.groups[0]))), read_by_worker);

  ASSERT_NE(world_.engine().adopt(), nullptr);
  world_.pass(1);
  EXPECT_TRUE(world_->snapshot().alarms.empty());
  ASSERT_NE(world_.engine().adopt(), nullptr);
  EXPECT_NEAR(world_.target("10.0.1.13").lookup_share, 1.0 / 3, 0.01);
}

}  // namespace
}  // namespace millrace::control
