// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/reconciler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <set>

#include "controlplane/config/dump.h"
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

class ReconcilerTest : public ::testing::Test {
 protected:
  ReconcilerTest() { (void)world_.start(); }
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

TEST_F(ReconcilerTest, nothing_is_published_before_the_first_config) {
  world_.pass(1);
  EXPECT_EQ(world_->published().generation, 0u);
  EXPECT_EQ(world_->snapshot().generation, 0u);
}

TEST_F(ReconcilerTest, apply_publishes_at_once_and_equal_config_publishes_nothing) {
  EXPECT_EQ(apply(web_config(kThree)).generation, 1u);
  EXPECT_EQ(apply(web_config(kThree)).generation, 1u);
  ASSERT_EQ(world_->published().listeners.size(), 1u);
  const mr_listener& listener = world_->published().listeners[0];
  EXPECT_EQ(listener.port_be, core::to_be16(80));
  EXPECT_EQ(listener.timeout_ticks[MR_FLOW_ESTABLISHED], 350ull * kSecondNs >> MR_TICK_SHIFT);
  EXPECT_EQ(listener.timeout_ticks[MR_FLOW_UDP], 120ull * kSecondNs >> MR_TICK_SHIFT);
}

TEST_F(ReconcilerTest, target_gets_traffic_after_its_first_passing_check) {
  (void)apply(web_config(kThree));
  EXPECT_TRUE(world_->snapshot().target_groups[0].routing == GroupRouting::unchecked);
  world_.set_health("10.0.1.12", TargetState::healthy);
  const TargetGroupSnapshot group = world_->snapshot().target_groups[0];
  EXPECT_EQ(group.routing, GroupRouting::to_healthy);
  EXPECT_EQ(world_.target("10.0.1.12").lookup_share, 1.0);
  EXPECT_EQ(world_.target("10.0.1.11").lookup_share, 0.0);
  world_.set_health("10.0.1.11", TargetState::healthy);
  EXPECT_NEAR(world_.target("10.0.1.11").lookup_share, 0.5, 0.01);
}

// A probe to port 0 would fail, and connections would end before the deregistration delay is over.
TEST_F(ReconcilerTest, drained_target_of_any_port_is_probed_when_the_group_has_a_port_again) {
  const auto config = [](const std::string& ports) {
    return test::config_of(R"(
load_balancers:
  - {name: web, addresses: [203.0.113.10],
     listeners: [{protocol: TCP, port: 80, default_target_group: web}]}
target_groups:
  - {name: web, protocol: TCP, )" +
                           ports + R"(, targets: [{id: 10.0.1.11}]}
)");
  };
  world_.start_engine();
  (void)apply(config("port: any, health_check: {port: 5061}"));
  (void)apply(config("port: 8080"));
  ASSERT_EQ(world_.health_targets.size(), 2u);
  EXPECT_EQ(world_.health_targets[0].key.port, 0);
  EXPECT_EQ(world_.health_targets[0].check.port, 8080);
}

TEST_F(ReconcilerTest, several_changes_at_once_are_one_generation) {
  (void)apply(web_config(kThree));
  const std::uint64_t before = world_->published().generation;
  for (const std::string& address : kThree) {
    world_->on_health(World::key(address), {.state = TargetState::healthy});
  }
  world_->on_next_hops();
  EXPECT_EQ(world_->published().generation, before);
  world_.settle_if_woken();
  EXPECT_EQ(world_->published().generation, before + 1);
}

// A config of the groups "web" and "dns", each with its own listener.
Config two_groups() {
  Config config = web_config(kThree);
  config.load_balancers.push_back(config.load_balancers[0]);
  config.load_balancers[1].name = "dns";
  config.load_balancers[1].addresses = {test::ip("203.0.113.11")};
  config.load_balancers[1].listeners[0].default_target_group_v4 = "dns";
  config.target_groups.push_back(config.target_groups[0]);
  config.target_groups[1].name = "dns";
  return config;
}

TEST_F(ReconcilerTest, health_of_one_group_leaves_the_tables_of_others) {
  (void)apply(two_groups());
  for (const std::string& address : kThree) world_.set_health(address, TargetState::healthy);
  const core::ConfigView before = world_->published();
  world_.set_health("10.0.1.12", TargetState::unhealthy);
  const core::ConfigView after = world_->published();
  EXPECT_EQ(after.generation, before.generation + 1);
  const TargetGroupSnapshot web = world_->snapshot().target_groups[1];
  const TargetGroupSnapshot dns = world_->snapshot().target_groups[0];
  ASSERT_EQ(web.name, "web");
  EXPECT_NE(after.groups[web.slot].table_checksum, before.groups[web.slot].table_checksum);
  EXPECT_EQ(after.groups[dns.slot].table_offset, before.groups[dns.slot].table_offset);
  EXPECT_EQ(dns.routing, GroupRouting::unchecked);
}

TEST_F(ReconcilerTest, targets_of_a_group_that_starts_over_are_others_to_the_checker) {
  Config config = web_config(kThree);
  (void)apply(config);
  const std::uint32_t before = world_.health_targets.at(0).id;
  EXPECT_EQ(before, world_.target("10.0.1.11").id);
  config.target_groups[0].protocol = Protocol::udp;
  config.load_balancers[0].listeners[0].protocol = Protocol::udp;
  (void)apply(config);
  EXPECT_NE(world_.health_targets.at(0).id, before);
}

TEST_F(ReconcilerTest, health_survives_a_restart_without_a_new_config) {
  three_healthy_targets();
  world_.set_health("10.0.1.13", TargetState::unhealthy);
  (void)world_.start();
  (void)apply(web_config(kThree));
  EXPECT_EQ(world_.target("10.0.1.11").state, TargetState::healthy);
  EXPECT_EQ(world_.target("10.0.1.13").state, TargetState::unhealthy);
}

TEST_F(ReconcilerTest, end_of_a_window_is_published) {
  three_healthy_targets();
  world_.set_health("10.0.1.13", TargetState::initial);
  EXPECT_GT(world_->snapshot().target_groups[0].slots_with_prev, 0u);
  const std::uint64_t before = world_->published().generation;
  world_.pass(299);
  EXPECT_EQ(world_->published().generation, before);
  world_.pass(1);
  EXPECT_EQ(world_->published().generation, before + 1);
  EXPECT_EQ(world_->snapshot().target_groups[0].slots_with_prev, 0u);
}

TEST_F(ReconcilerTest, window_is_the_shorter_time_where_replies_bypass_the_node) {
  three_healthy_targets();
  const auto open = [this] { return world_->snapshot().target_groups[0].slots_with_prev; };
  for (const Forwarding forwarding : {Forwarding::dsr, Forwarding::ipip, Forwarding::gue}) {
    Config config = web_config(kThree);
    config.target_groups[0].forwarding = forwarding;
    config.target_groups[0].previous_target_seconds = 10;
    (void)apply(config);
    world_.set_health("10.0.1.12", TargetState::unhealthy);
    world_.set_health("10.0.1.12", TargetState::healthy);
    EXPECT_GT(open(), 0u);
    world_.pass(9);
    EXPECT_GT(open(), 0u);
    world_.pass(2);
    EXPECT_EQ(open(), 0u);
    config.target_groups[0].previous_target_seconds = 0;
    (void)apply(config);
    world_.set_health("10.0.1.12", TargetState::unhealthy);
    world_.set_health("10.0.1.12", TargetState::healthy);
    EXPECT_EQ(open(), 0u);
  }
}

TEST_F(ReconcilerTest, dead_target_gets_no_new_flow_and_its_flows_are_reset) {
  three_healthy_targets();
  world_.set_health("10.0.1.12", TargetState::unhealthy);
  EXPECT_EQ(world_.target("10.0.1.12").lookup_share, 0.0);
  EXPECT_EQ(world_.published_target("10.0.1.12")->flags, MR_TARGET_RESETS_FLOWS);
  EXPECT_EQ(world_.target("10.0.1.12").state, TargetState::unhealthy);
}

TEST_F(ReconcilerTest, fault_48_drained_target_keeps_its_flows_and_counts_down) {
  three_healthy_targets();
  ASSERT_TRUE(world_->drain(World::key("10.0.1.12")));
  EXPECT_EQ(world_.target("10.0.1.12").state, TargetState::draining);
  EXPECT_EQ(world_.target("10.0.1.12").drain_seconds_left, 300u);
  EXPECT_TRUE(world_.target("10.0.1.12").operator_drained);
  EXPECT_EQ(world_.target("10.0.1.12").lookup_share, 0.0);
  EXPECT_TRUE(world_.published_target("10.0.1.12")->flags & MR_TARGET_KEEPS_FLOWS);
  EXPECT_GT(world_->snapshot().target_groups[0].slots_with_prev, 0u);

  world_.pass(299);
  EXPECT_EQ(world_.target("10.0.1.12").drain_seconds_left, 1u);
  world_.pass(1);
  EXPECT_EQ(world_.target("10.0.1.12").state, TargetState::unused);
  EXPECT_EQ(world_->snapshot().target_groups[0].slots_with_prev, 0u);
  EXPECT_TRUE(world_.published_target("10.0.1.12")->flags & MR_TARGET_KEEPS_FLOWS);
}

TEST_F(ReconcilerTest, undrain_brings_the_same_target_back) {
  three_healthy_targets();
  const std::uint64_t digest = world_->snapshot().target_groups[0].table_digest;
  const std::uint32_t id = world_.target("10.0.1.12").id;
  ASSERT_TRUE(world_->drain(World::key("10.0.1.12")));
  EXPECT_NE(world_->snapshot().target_groups[0].table_digest, digest);
  ASSERT_TRUE(world_->undrain(World::key("10.0.1.12")));
  EXPECT_EQ(world_.target("10.0.1.12").state, TargetState::healthy);
  EXPECT_EQ(world_.target("10.0.1.12").id, id);
  EXPECT_EQ(world_->snapshot().target_groups[0].table_digest, digest);
}

TEST_F(ReconcilerTest, undrain_says_when_the_target_gets_no_new_flows_all_the_same) {
  three_healthy_targets();
  const TargetKey key = World::key("10.0.1.12");
  Config config = web_config(kThree);
  config.target_groups[0].targets[1].weight = 0;
  Config unused = web_config(kThree);
  unused.load_balancers[0].listeners.clear();
  const std::pair<Config, const char*> changes[] = {
      {config, "its weight is 0"},
      {unused, "no listener forwards to its group"},
      {web_config({"10.0.1.11", "10.0.1.13"}), "it left the config, which alone brings it back"}};
  for (const auto& [changed, why] : changes) {
    ASSERT_TRUE(world_->drain(key));
    (void)apply(changed);
    const auto undrained = world_->undrain(key);
    ASSERT_TRUE(undrained) << undrained.error().message;
    EXPECT_THAT(*undrained,
                ElementsAre(key.to_string() + " gets no new flows all the same: " + why));
  }
}

TEST_F(ReconcilerTest, drain_errors_name_what_was_not_found) {
  three_healthy_targets();
  const auto unknown = world_->drain(World::key("10.9.9.9"));
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().message, HasSubstr("web/10.9.9.9:8080"));
  const auto idle = world_->undrain(World::key("10.0.1.11"));
  ASSERT_FALSE(idle);
  EXPECT_THAT(idle.error().message, HasSubstr("not drained"));
}

TEST_F(ReconcilerTest, removed_target_is_kept_until_its_flows_are_gone) {
  world_.start_engine();
  three_healthy_targets();
  ASSERT_NE(world_.engine().adopt(), nullptr);
  const std::uint32_t slot = world_.target("10.0.1.13").slot;
  world_.engine().writer().targets(0)[slot].active_flows = 1;
  (void)apply(web_config({"10.0.1.11", "10.0.1.12"}));
  world_.pass(300);
  world_.pass(300);
  ASSERT_TRUE(world_.has_target("10.0.1.13"));
  EXPECT_EQ(world_.target("10.0.1.13").state, TargetState::unused);
  EXPECT_EQ(world_.target("10.0.1.13").stats.active_flows, 1u);

  world_.engine().writer().targets(0)[slot].active_flows = 0;
  world_.pass(1);
  EXPECT_FALSE(world_.has_target("10.0.1.13"));
  EXPECT_FALSE(world_.published_target("10.0.1.13").has_value());
}

// What the engine says of a target's flows may be a second old.
TEST_F(ReconcilerTest, fault_49_flow_that_began_as_its_target_was_removed_is_counted_first) {
  world_.start_engine();
  three_healthy_targets();
  Config without = web_config({"10.0.1.11", "10.0.1.12"});
  without.target_groups[0].deregistration_delay_seconds = 0;
  (void)apply(without);
  ASSERT_NE(world_.engine().adopt(), nullptr);
  const std::uint32_t slot = world_.target("10.0.1.13").slot;
  world_.pass(1);
  ASSERT_TRUE(world_.has_target("10.0.1.13"));
  world_.engine().writer().targets(0)[slot].active_flows = 1;
  world_.pass(300);
  EXPECT_TRUE(world_.has_target("10.0.1.13"));
  world_.engine().writer().targets(0)[slot].active_flows = 0;
  world_.pass(1);
  EXPECT_FALSE(world_.has_target("10.0.1.13"));
}

TEST_F(ReconcilerTest, without_an_engine_no_slot_is_given_away) {
  three_healthy_targets();
  (void)apply(web_config({"10.0.1.11", "10.0.1.12"}));
  world_.pass(301);
  world_.pass(1);
  EXPECT_TRUE(world_.has_target("10.0.1.13")) << "flows may wait in the tables";
}

TEST_F(ReconcilerTest, next_hops_are_those_of_the_engines_nics) {
  (void)apply(web_config(kThree));
  world_.resolve("10.0.1.11", 0x11);
  world_->on_next_hops();
  world_.settle_if_woken();
  EXPECT_EQ(world_.published_target("10.0.1.11")->next_hop.flags, 0)
      << "no engine, so nobody knows which nic the twin stands for";
  world_.start_engine();
  world_.pass(1);
  EXPECT_EQ(world_.twins, std::set<std::uint32_t>{test::FakeEngine::kTwinIndex});
  const mr_next_hop hop = world_.published_target("10.0.1.11")->next_hop;
  EXPECT_EQ(hop.flags, MR_NEXT_HOP_RESOLVED);
  EXPECT_EQ(hop.mac[5], 0x11);
  EXPECT_EQ(world_.published_target("10.0.1.12")->next_hop.flags, 0);
  EXPECT_EQ(world_.watched.size(), 3u);
}

TEST_F(ReconcilerTest, all_but_nat_targets_keep_the_listeners_port) {
  for (const Forwarding forwarding : {Forwarding::dsr, Forwarding::ipip, Forwarding::gue}) {
    Config config = web_config(kThree);
    config.target_groups[0].forwarding = forwarding;
    config.target_groups[0].gue_port = 6099;
    (void)apply(config);
    const mr_target target = world_.published_target("10.0.1.11").value();
    EXPECT_EQ(target.port_be, 0);
    EXPECT_EQ(target.encap_port_be, forwarding == Forwarding::gue ? core::to_be16(6099) : 0);
    EXPECT_EQ(target.forwarding, static_cast<std::uint8_t>(forwarding));
    EXPECT_EQ(world_->published().groups[0].forwarding, static_cast<std::uint8_t>(forwarding));
  }
}

TEST_F(ReconcilerTest, segment_size_is_the_number_or_what_fits_the_route) {
  world_.start_engine();
  world_.resolve("10.0.1.11", 1);  // with an MTU of 1500; nothing is known of 10.0.1.12
  Config config = web_config(kThree);
  const auto published = [&](std::uint16_t clamp, const std::string& address) {
    config.target_groups[0].mss_clamp = clamp;
    (void)apply(config);
    world_.pass(1);
    return world_.published_target(address)->mss_max;
  };
  EXPECT_EQ(published(0, "10.0.1.11"), 0);
  EXPECT_EQ(published(900, "10.0.1.11"), 900);
  EXPECT_EQ(published(kMssClampAuto, "10.0.1.11"), 1460);
  EXPECT_EQ(published(kMssClampAuto, "10.0.1.12"), 65495);
}

Config ipip_config() {
  Config config = web_config(kThree);
  config.target_groups[0].forwarding = Forwarding::ipip;
  return config;
}

TEST_F(ReconcilerTest, encapsulation_takes_mtu_and_source_from_the_kernel) {
  world_.start_engine();
  for (const std::string& address : kThree) world_.resolve(address, 1);
  (void)apply(ipip_config());
  world_.pass(1);
  EXPECT_EQ(world_.published_target("10.0.1.11")->mtu, 1500);
  ASSERT_EQ(world_->snapshot().alarms.size(), 1u);
  EXPECT_EQ(world_->snapshot().alarms[0].text,
            "target group web is forwarded by ipip, but the node has no IPv4 address to send from: "
            "give it one, or name one under node.encap_source");

  world_.set_source("10.0.1.12", "10.0.1.1");
  world_->on_next_hops();
  world_.settle_if_woken();
  EXPECT_EQ(IpAddress{world_->published().image->encap_source_v4.addr}, test::ip("10.0.1.1"));
  EXPECT_EQ(IpAddress{world_->published().image->encap_source_v6.addr}, IpAddress{});
  EXPECT_TRUE(world_->snapshot().alarms.empty());
}

TEST_F(ReconcilerTest, source_in_the_config_wins) {
  world_.resolve("10.0.1.11", 1);
  world_.set_source("10.0.1.11", "10.0.1.1");
  Config config = ipip_config();
  config.node.encap_source_v4 = EncapSource::parse("192.0.2.1");
  (void)apply(config);
  EXPECT_EQ(IpAddress{world_->published().image->encap_source_v4.addr}, test::ip("192.0.2.1"));
}

TEST_F(ReconcilerTest, mtu_and_source_stay_while_a_restarted_control_plane_asks_anew) {
  world_.start_engine();
  world_.resolve("10.0.1.11", 1);
  world_.set_source("10.0.1.11", "10.0.1.1");
  (void)apply(ipip_config());
  world_.pass(1);
  world_.forget_next_hops();
  (void)world_.start();
  (void)apply(ipip_config());
  EXPECT_EQ(world_.published_target("10.0.1.11")->mtu, 1500);
  EXPECT_EQ(IpAddress{world_->published().image->encap_source_v4.addr}, test::ip("10.0.1.1"));
}

TEST_F(ReconcilerTest, lost_config_segment_is_made_anew_with_higher_generations) {
  three_healthy_targets();
  world_.start_engine();
  ASSERT_NE(world_.engine().adopt(), nullptr);
  const std::uint64_t before = world_->published().generation;
  ASSERT_EQ(::unlink(world_.dir().file("config").c_str()), 0);
  world_.pass(1);
  EXPECT_GT(world_->published().generation, before);
  ASSERT_NE(world_.engine().adopt(), nullptr);
  EXPECT_EQ(world_.engine().config().generation, world_->published().generation);
}

TEST_F(ReconcilerTest, config_error_is_shown_until_the_next_good_config) {
  three_healthy_targets();
  world_->report_config_error("test.yaml:3: bad");
  EXPECT_EQ(world_->snapshot().config_error, "test.yaml:3: bad");
  (void)apply(web_config(kThree));
  EXPECT_EQ(world_->snapshot().config_error, "");
}

TEST_F(ReconcilerTest, error_of_the_config_file_is_over_when_the_file_is_put_back) {
  const std::string good = dump_config(web_config(kThree));
  world_.write_config_file(good);
  ASSERT_TRUE(world_->apply(web_config(kThree), world_.config_file()));
  world_.write_config_file("load_balancers: 1");
  world_->report_file_error("millrace.yaml:1: bad");
  world_.pass(1);
  EXPECT_EQ(world_->snapshot().config_error, "millrace.yaml:1: bad");
  world_.write_config_file("# as before\n" + good);
  world_.pass(1);
  EXPECT_EQ(world_->snapshot().config_error, "");
  world_->report_config_error("apply by uid 0: bad");
  world_.pass(1);
  EXPECT_EQ(world_->snapshot().config_error, "apply by uid 0: bad") << "was no file";
}

TEST_F(ReconcilerTest, snapshot_tells_who_and_what) {
  three_healthy_targets();
  const Snapshot snapshot = world_->snapshot();
  EXPECT_EQ(snapshot.node, "lb-1");
  EXPECT_EQ(snapshot.zone, "a");
  EXPECT_EQ(snapshot.version, "test");
  EXPECT_EQ(snapshot.config_source, "test");
  EXPECT_EQ(snapshot.config_applied_ns, world_.realtime_ns);
  EXPECT_GT(snapshot.arena_used_bytes, 0u);
  ASSERT_EQ(snapshot.listeners.size(), 1u);
  EXPECT_EQ(snapshot.listeners[0].load_balancer, "web");
  EXPECT_EQ(snapshot.listeners[0].target_group, "web");
  ASSERT_EQ(snapshot.target_groups.size(), 1u);
  EXPECT_EQ(snapshot.target_groups[0].healthy, 3u);
}

TEST_F(ReconcilerTest, fault_79_vip_that_becomes_the_nodes_own_is_the_kernels_until_it_is_not) {
  world_.start_engine();
  three_healthy_targets();
  const std::uint32_t id = world_->published().listeners[0].id;
  ASSERT_NE(id, 0u);
  world_.local_addrs = {test::ip("10.0.1.1"), test::ip("203.0.113.10")};
  world_->on_next_hops();
  world_.settle_if_woken();
  EXPECT_EQ(world_->published().listeners[0].id, 0u);
  EXPECT_EQ(
      core::find_entry(world_->published().listener_table, test::ip("203.0.113.10").addr, 0, 0),
      nullptr);
  EXPECT_THAT(world_->snapshot().alarms,
              testing::Contains(testing::Field(
                  &Alarm::text, testing::AllOf(HasSubstr("the VIP 203.0.113.10"),
                                               HasSubstr("load balancer web"), HasSubstr("mr0")))));
  world_.local_addrs = {test::ip("10.0.1.1")};
  world_->on_next_hops();
  world_.settle_if_woken();
  EXPECT_EQ(world_->published().listeners[0].id, id) << "it is the same listener";
  EXPECT_TRUE(world_->snapshot().alarms.empty());
}

TEST_F(ReconcilerTest, fault_71_local_macs_are_published_with_the_nic_of_their_twin) {
  world_.start_engine();
  world_.own_macs = {{.twin_index = test::FakeEngine::kTwinIndex, .mac = {0, 0, 0x5e, 0, 1, 0x33}},
                     {.twin_index = 99, .mac = {0, 0, 0x5e, 0, 1, 0x34}}};
  world_.pass(1);
  three_healthy_targets();
  ASSERT_EQ(world_->published().local_macs.size(), 1u);
  EXPECT_EQ(world_->published().local_macs[0].mac[5], 0x33);
  EXPECT_EQ(world_->published().local_macs[0].nic, 0u);
  world_.own_macs.clear();
  world_.pass(6);  // beyond the time in which what was published stands in
  world_->on_next_hops();
  world_.settle_if_woken();
  EXPECT_TRUE(world_->published().local_macs.empty());
}

}  // namespace
}  // namespace millrace::control
