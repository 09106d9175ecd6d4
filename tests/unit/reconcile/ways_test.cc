// SPDX-License-Identifier: Apache-2.0
//
// Ways that the engine lacks or that are too narrow: who gets flows then, and what is said of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/unit/reconcile/world.h"

namespace millrace::control {
namespace {

using test::ip;
using test::kThree;
using test::web_config;
using test::World;
using ::testing::HasSubstr;

class WaysTest : public ::testing::Test {
 protected:
  WaysTest() { (void)world_.start(); }
  void apply(const Config& config) {
    const Result<ApplyOutcome> outcome = world_->apply(config, "test");
    ASSERT_TRUE(outcome) << outcome.error().message;
  }
  // All healthy, and seen so by the engine for a while.
  void start(const Config& config, const std::vector<std::string>& resolved) {
    world_.start_engine();
    for (const std::string& address : resolved) world_.resolve(address, 1);
    apply(config);
    for (const std::string& address : kThree) world_.set_health(address, TargetState::healthy);
    tick();
  }
  void restart() {
    (void)world_.engine().adopt();  // unless it has: the memory of older ones is needed
    (void)world_.start();
    apply(web_config(kThree));
    ASSERT_NE(world_.engine().adopt(), nullptr);
  }
  // Time for the control plane to see the engine and what changed.
  void tick() {
    world_->on_next_hops();
    world_.pass(0);
    world_.settle_if_woken();
    world_.pass(0);
  }
  double share(const std::string& address) { return world_.target(address).lookup_share; }
  std::vector<std::string> alarms(AlarmKind kind) {
    std::vector<std::string> texts;
    for (const Alarm& alarm : world_->snapshot().alarms) {
      if (alarm.kind == kind) texts.push_back(alarm.text);
    }
    return texts;
  }

  World world_;
};

TEST_F(WaysTest, healthy_target_without_a_way_is_told_and_gets_no_new_flows_until_it_has_one) {
  start(web_config(kThree), {"10.0.1.11", "10.0.1.12"});
  EXPECT_GT(share("10.0.1.13"), 0.2) << "the kernel may be asking for it";
  world_.pass(4);
  EXPECT_GT(share("10.0.1.13"), 0.2);
  EXPECT_TRUE(alarms(AlarmKind::unreachable).empty());
  world_.pass(1);
  EXPECT_EQ(share("10.0.1.13"), 0);
  EXPECT_GT(share("10.0.1.11"), 0.4);
  EXPECT_EQ(alarms(AlarmKind::unreachable),
            std::vector<std::string>{
                "target group web: the engine has no way to target 10.0.1.13, although healthy "
                "(not looked up yet): new flows go to the others"});
  EXPECT_EQ(world_.target("10.0.1.13").state, TargetState::healthy);
  EXPECT_NE(world_.published_target("10.0.1.13")->flags & MR_TARGET_KEEPS_FLOWS, 0)
      << "a connection may still be there when the way is back";
  world_.resolve("10.0.1.13", 1);
  tick();
  EXPECT_GT(share("10.0.1.13"), 0.2);
  EXPECT_TRUE(alarms(AlarmKind::unreachable).empty());
}

TEST_F(WaysTest, group_without_any_way_is_told_and_goes_on_as_it_is) {
  start(web_config(kThree), {});
  world_.pass(10);
  EXPECT_GT(share("10.0.1.13"), 0.2);
  ASSERT_EQ(alarms(AlarmKind::unreachable).size(), 1u);
  EXPECT_THAT(alarms(AlarmKind::unreachable)[0],
              HasSubstr("target 10.0.1.11 and to 2 more, although healthy"));
  EXPECT_THAT(alarms(AlarmKind::unreachable)[0], HasSubstr("packets for it are dropped"));
}

TEST_F(WaysTest, target_that_is_unhealthy_anyway_is_not_told_as_unreachable) {
  start(web_config(kThree), {"10.0.1.11", "10.0.1.12"});
  world_.set_health("10.0.1.13", TargetState::unhealthy);
  world_.pass(10);
  EXPECT_TRUE(alarms(AlarmKind::unreachable).empty());
}

TEST_F(WaysTest, last_reachable_target_that_dies_leaves_the_unreachable_ones_as_before) {
  start(web_config(kThree), {"10.0.1.11"});
  world_.pass(5);
  EXPECT_EQ(share("10.0.1.11"), 1);
  world_.set_health("10.0.1.11", TargetState::unhealthy);
  EXPECT_EQ(share("10.0.1.11"), 0);
  EXPECT_GT(share("10.0.1.12"), 0.4);
}

TEST_F(WaysTest, engine_that_is_away_makes_no_target_unreachable) {
  start(web_config(kThree), {"10.0.1.11"});
  world_.pass(4);
  world_.kill_engine();
  world_.pass(10);
  EXPECT_GT(share("10.0.1.13"), 0.2);
  EXPECT_TRUE(alarms(AlarmKind::unreachable).empty());
  world_.start_engine();
  world_.pass(1);
  EXPECT_TRUE(alarms(AlarmKind::unreachable).empty()) << "it has just started";
  EXPECT_GT(share("10.0.1.13"), 0.2);
  world_.pass(5);
  EXPECT_EQ(share("10.0.1.13"), 0);
}

TEST_F(WaysTest, unreachable_target_stays_so_while_the_engine_is_away_and_when_it_is_back) {
  start(web_config(kThree), {"10.0.1.11", "10.0.1.12"});
  world_.pass(5);
  ASSERT_EQ(share("10.0.1.13"), 0);
  world_.kill_engine();
  for (const std::uint64_t seconds : {0u, 1u, 10u}) {
    world_.pass(seconds);
    EXPECT_EQ(share("10.0.1.13"), 0) << "nothing has changed for it";
  }
  world_.start_engine();
  for (const std::uint64_t seconds : {0u, 1u, 10u}) {
    world_.pass(seconds);
    EXPECT_EQ(share("10.0.1.13"), 0);
  }
  world_.resolve("10.0.1.13", 1);
  tick();
  EXPECT_GT(share("10.0.1.13"), 0.2);
}

TEST_F(WaysTest, unreachable_target_stays_so_while_the_xdp_daemon_stands_still) {
  world_.link = {.has_carrier = true, .has_xdp_program = true};
  world_.start_engine(MR_ENGINE_XDP);
  world_.resolve("10.0.1.11", 1);
  apply(web_config(kThree));
  for (const std::string& address : kThree) world_.set_health(address, TargetState::healthy);
  tick();
  world_.pass(5);
  ASSERT_EQ(share("10.0.1.13"), 0);
  world_.now_ns += 3 * kSecondNs;  // without a sign of life
  world_->tick();
  ASSERT_EQ(world_->snapshot().engine.state, EngineState::unattended);
  EXPECT_EQ(share("10.0.1.13"), 0);
  world_.pass(0);
  ASSERT_EQ(world_->snapshot().engine.state, EngineState::running);
  EXPECT_EQ(share("10.0.1.13"), 0);
}

TEST_F(WaysTest, unreachable_target_stays_so_over_a_restart_of_the_control_plane) {
  start(web_config(kThree), {"10.0.1.11", "10.0.1.12"});
  world_.pass(5);
  ASSERT_EQ(share("10.0.1.13"), 0);
  for (int i = 0; i < 2; ++i) {
    restart();
    for (const std::uint64_t seconds : {0u, 1u, 10u}) {
      EXPECT_EQ(share("10.0.1.13"), 0) << "the first image counts as well";
      EXPECT_GT(share("10.0.1.11"), 0.4);
      world_.pass(seconds);
    }
  }
  world_.resolve("10.0.1.13", 1);
  restart();
  tick();
  EXPECT_GT(share("10.0.1.13"), 0.2) << "the kernel has answered otherwise";
}

TEST_F(WaysTest, control_plane_that_restarts_before_any_way_is_known_finds_no_target_unreachable) {
  start(web_config(kThree), {});
  world_.pass(1);
  world_.resolve("10.0.1.11", 1);
  restart();
  tick();
  world_.pass(4);
  EXPECT_GT(share("10.0.1.13"), 0.2) << "the kernel may be asking for it";
  world_.pass(1);
  EXPECT_EQ(share("10.0.1.13"), 0);
}

TEST_F(WaysTest, udp_flows_of_a_target_without_a_way_choose_another) {
  Config config = web_config(kThree);
  config.target_groups[0].protocol = Protocol::udp;
  config.load_balancers[0].listeners[0].protocol = Protocol::udp;
  start(config, {"10.0.1.11", "10.0.1.12"});
  world_.pass(5);
  EXPECT_EQ(world_.published_target("10.0.1.13")->flags & MR_TARGET_KEEPS_FLOWS, 0);
  EXPECT_NE(world_.published_target("10.0.1.11")->flags & MR_TARGET_KEEPS_FLOWS, 0);
}

TEST_F(WaysTest, nic_without_link_is_told_whether_targets_are_behind_it_or_not) {
  start(web_config(kThree), {});
  world_.pass(1);
  EXPECT_TRUE(alarms(AlarmKind::link).empty());
  world_.engine().writer().set_link(0, false);
  world_.pass(1);
  EXPECT_EQ(alarms(AlarmKind::link),
            std::vector<std::string>{"nic lb0 has no link: nothing comes in or leaves by it"});
  world_.pass(60);
  EXPECT_EQ(alarms(AlarmKind::link).size(), 1u) << "for as long as it lasts";
  world_.engine().writer().set_link(0, true);
  world_.pass(1);
  EXPECT_TRUE(alarms(AlarmKind::link).empty());
}

TEST_F(WaysTest, renamed_nic_and_twin_are_shown_by_their_new_names_and_stay_what_they_are) {
  start(web_config(kThree), kThree);
  world_.engine().writer().set_names(0, "lan0", "twin0");
  world_.pass(1);
  EXPECT_EQ(world_->snapshot().engine.nics[0].name, "lan0");
  EXPECT_EQ(world_.twins, std::set<std::uint32_t>{test::FakeEngine::kTwinIndex});
}

struct Narrow {
  Forwarding forwarding;
  bool is_v4;
  std::uint16_t mtu;  // towards the second target
  const char* said;   // "": nothing
};

class NarrowWayTest : public WaysTest, public ::testing::WithParamInterface<Narrow> {};

TEST_P(NarrowWayTest, is_told_when_packets_that_every_network_carries_do_not_fit) {
  const Narrow narrow = GetParam();
  const std::vector<std::string> targets =
      narrow.is_v4 ? kThree : std::vector<std::string>{"fd00::11", "fd00::12", "fd00::13"};
  Config config = web_config(kThree);
  config.target_groups[0].forwarding = narrow.forwarding;
  if (!narrow.is_v4) {
    config.load_balancers[0].addresses = {ip("2001:db8::10")};
    Listener& listener = config.load_balancers[0].listeners[0];
    std::swap(listener.default_target_group_v4, listener.default_target_group_v6);
    for (std::size_t i = 0; i < targets.size(); ++i) {
      config.target_groups[0].targets[i].address = ip(targets[i]);
    }
  }
  world_.start_engine();
  for (const std::string& address : targets) {
    world_.resolve(address, 1, address == targets[1] ? narrow.mtu : std::uint16_t{1500});
  }
  apply(config);
  tick();
  const std::string said = narrow.said;
  EXPECT_EQ(alarms(AlarmKind::mtu),
            said.empty() ? std::vector<std::string>{} : std::vector<std::string>{said});
}

INSTANTIATE_TEST_SUITE_P(
    Ways, NarrowWayTest,
    ::testing::Values(
        Narrow{Forwarding::ipip, false, 1320, ""},
        Narrow{Forwarding::ipip, false, 1319,
               "target group web: IPv6 packets of 1280 bytes do not fit the MTU of 1319 towards "
               "target fd00::12 with ipip's 40 bytes, and no client sends smaller ones when told "
               "so: the way needs an MTU of at least 1320"},
        Narrow{Forwarding::gue, false, 1328, ""},
        Narrow{Forwarding::gue, true, 603,
               "target group web: IPv4 packets of 576 bytes do not fit the MTU of 603 towards "
               "target 10.0.1.12 with gue's 28 bytes, and no client sends smaller ones when told "
               "so: the way needs an MTU of at least 604"},
        Narrow{Forwarding::gue, true, 1280, ""}, Narrow{Forwarding::nat, false, 1000, ""}));

}  // namespace
}  // namespace millrace::control
