// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/alarms.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/cc/address.h"
#include "tests/support/cc/fake_node.h"

namespace millrace::control {
namespace {

using test::ip;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class AlarmsTest : public ::testing::Test {
 protected:
  AlarmsTest() {
    engine_.state = EngineState::running;
    engine_.nics = {{.name = "eth0", .twin = "mr0", .mac = "", .link_up = true}};
  }
  std::vector<Alarm> alarms(std::vector<Alarm> noted = {}) const {
    return all_alarms(std::move(noted), {.state = state_,
                                         .engine = engine_,
                                         .given = given_,
                                         .routes = node_,
                                         .path_mtus = path_mtus_});
  }
  std::vector<AlarmKind> kinds(std::vector<Alarm> noted = {}) const {
    std::vector<AlarmKind> kinds;
    for (const Alarm& alarm : alarms(std::move(noted))) kinds.push_back(alarm.kind);
    return kinds;
  }
  TargetRecord& add_target(Forwarding forwarding) {
    GroupState& group = state_.groups["web"];
    group.settings.name = "web";
    group.settings.forwarding = forwarding;
    group.is_in_use = true;
    group.vips = {ip("203.0.113.10")};
    const TargetKey key{.group = "web", .address = ip("10.0.1.11"), .port = 8080};
    TargetRecord& target = group.targets[key];
    target.key = key;
    target.weight = 100;
    target.health.state = TargetState::healthy;
    node_.next_hops[key.address] = {
        .mac = {}, .resolved = true, .mtu = 1500, .source = {}, .text = "way"};
    return target;
  }

  test::FakeNode node_;
  ControlState state_;
  PathMtus path_mtus_;
  EngineSnapshot engine_;
  ImageContents given_;
};

TEST_F(AlarmsTest, what_was_noted_comes_first) {
  engine_.nics[0].unserved_queues = 2;
  EXPECT_THAT(kinds({{AlarmKind::store, "x"}, {AlarmKind::hold, "y"}}),
              ElementsAre(AlarmKind::store, AlarmKind::hold, AlarmKind::queues));
}

TEST_F(AlarmsTest, unseen_engine_says_more_than_the_hold_that_it_causes) {
  engine_.state = EngineState::unseen;
  engine_.problem = "cannot be read";
  EXPECT_THAT(kinds({{AlarmKind::hold, "y"}}), ElementsAre(AlarmKind::engine_unseen));
}

TEST_F(AlarmsTest, nics_and_kind_are_those_of_an_engine_that_runs) {
  engine_.kind = "dpdk";
  engine_.wanted_kind = "xdp";
  engine_.nics[0].idle_members = 1;
  engine_.nics[0].unserved_queues = 1;
  EXPECT_THAT(kinds(), ElementsAre(AlarmKind::engine_kind, AlarmKind::members, AlarmKind::queues));
  engine_.state = EngineState::unattended;
  EXPECT_THAT(kinds(), IsEmpty());
}

TEST_F(AlarmsTest, vip_that_became_the_nodes_own_is_told) {
  state_.vips[ip("203.0.113.10")].load_balancer = "web";
  EXPECT_THAT(kinds(), IsEmpty());
  node_.local_addrs = {ip("203.0.113.10")};
  ASSERT_THAT(kinds(), ElementsAre(AlarmKind::own_vip));
  EXPECT_THAT(alarms()[0].text, HasSubstr("203.0.113.10 of load balancer web"));
}

TEST_F(AlarmsTest, more_vlans_than_are_balanced_are_told) {
  node_.vlan_links.resize(MR_VLAN_COUNT_MAX);
  EXPECT_THAT(kinds(), IsEmpty());
  node_.vlan_links.resize(MR_VLAN_COUNT_MAX + 1);
  ASSERT_THAT(kinds(), ElementsAre(AlarmKind::vlans));
  EXPECT_THAT(alarms()[0].text, HasSubstr("241 VLAN interfaces are on the engine's nics, of which "
                                          "240 are balanced"));
}

TEST_F(AlarmsTest, healthy_target_out_of_reach_is_told_while_its_twin_is_there) {
  TargetRecord& target = add_target(Forwarding::nat);
  target.is_unreachable = true;
  target.nic = std::uint8_t{0};
  ASSERT_THAT(kinds(), ElementsAre(AlarmKind::unreachable));
  EXPECT_THAT(alarms()[0].text, HasSubstr("no way to target 10.0.1.11, although healthy (way)"));
  engine_.nics[0].twin_state = TwinState::gone;
  EXPECT_THAT(kinds(), IsEmpty()) << "the twin's alarm says it";
}

TEST_F(AlarmsTest, encapsulation_needs_a_source_and_room) {
  (void)add_target(Forwarding::ipip);
  EXPECT_THAT(kinds(), ElementsAre(AlarmKind::encap_source));
  given_.encap_source_v4.addr = ip("10.0.0.1").addr;
  EXPECT_THAT(kinds(), IsEmpty());
  node_.next_hops[ip("10.0.1.11")].mtu = 595;
  ASSERT_THAT(kinds(), ElementsAre(AlarmKind::mtu));
  EXPECT_THAT(alarms()[0].text, HasSubstr("at least 596"));
}

TEST_F(AlarmsTest, room_is_that_for_packets_of_the_vips_family) {
  (void)add_target(Forwarding::ipip);
  given_.encap_source_v4.addr = ip("10.0.0.1").addr;
  state_.groups["web"].vips = {ip("203.0.113.10"), ip("2001:db8::10")};
  node_.next_hops[ip("10.0.1.11")].mtu = 1300;
  EXPECT_THAT(kinds(), IsEmpty());
  node_.next_hops[ip("10.0.1.11")].mtu = 1299;
  ASSERT_THAT(kinds(), ElementsAre(AlarmKind::mtu));
  EXPECT_THAT(alarms()[0].text, HasSubstr("IPv6 packets of 1280 bytes do not fit the MTU of 1299"));
}

}  // namespace
}  // namespace millrace::control
