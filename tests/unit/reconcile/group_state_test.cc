// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/group_state.h"
#include "dataplane/core/nanoseconds.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace millrace::control {
namespace {

using ::testing::HasSubstr;

class GroupStateTest : public ::testing::Test {
 protected:
  GroupStateTest() {
    group_.settings.name = "web";
    group_.settings.deregistration_delay_seconds = 300;
    group_.is_in_use = true;
  }
  TargetRecord& add(std::uint16_t port, TargetState health = TargetState::healthy,
                    std::uint32_t weight = 100) {
    TargetRecord target;
    target.key = {.group = "web", .address = IpAddress::parse("10.0.1.11").value(), .port = port};
    target.id = port;
    target.slot = port;
    target.weight = weight;
    target.health.state = health;
    return group_.targets[target.key] = target;
  }
  std::uint8_t flags(const TargetRecord& target) {
    return target_flags(target, group_.settings, fails_open(group_));
  }
  bool is_in(const TargetRecord& target) { return gets_new_flows(target, fails_open(group_)); }
  bool is_in_base(const TargetRecord& target) {
    choose_base(group_);
    return target.is_in_base;
  }

  GroupState group_;
};

TEST_F(GroupStateTest, drain_runs_for_the_deregistration_delay) {
  TargetRecord& target = add(80);
  begin_drain(target, group_.settings, 10 * kSecondNs);
  EXPECT_EQ(shown_state(target, group_).state, TargetState::draining);
  EXPECT_EQ(shown_state(target, group_).reason, HealthReason::deregistration_in_progress);
  EXPECT_EQ(next_drain_end_ns(group_), 310 * kSecondNs);
  EXPECT_FALSE(advance_drain(target, 310 * kSecondNs - 1));
  EXPECT_TRUE(advance_drain(target, 310 * kSecondNs));
  EXPECT_FALSE(advance_drain(target, 311 * kSecondNs)) << "ends once";
  EXPECT_EQ(shown_state(target, group_).state, TargetState::unused);
  EXPECT_EQ(shown_state(target, group_).reason, HealthReason::not_registered);
  EXPECT_EQ(next_drain_end_ns(group_), kNever);
}

TEST_F(GroupStateTest, target_of_any_port_is_probed_where_the_groups_targets_are_now) {
  const TargetRecord any = add(0);
  group_.settings.health_check.port = 5061;
  EXPECT_EQ(check_of(any, group_)->port, 5061);
  group_.settings.health_check.port.reset();
  EXPECT_EQ(check_of(any, group_), std::nullopt);
  const TargetRecord one = add(8081);
  EXPECT_EQ(check_of(any, group_)->port, 8081) << "the same machine's";
  group_.settings.port = 8080;
  EXPECT_EQ(check_of(any, group_)->port, 8080);
  EXPECT_EQ(check_of(one, group_)->port, std::nullopt) << "its own";
}

TEST_F(GroupStateTest, second_drain_does_not_start_the_delay_again) {
  TargetRecord& target = add(80);
  begin_drain(target, group_.settings, 0);
  begin_drain(target, group_.settings, 100 * kSecondNs);
  EXPECT_EQ(target.drain_deadline_ns, 300 * kSecondNs);
}

TEST_F(GroupStateTest, draining_target_keeps_known_flows_and_gets_no_new_ones) {
  TargetRecord& target = add(80);
  (void)add(81);
  begin_drain(target, group_.settings, 0);
  EXPECT_FALSE(is_in(target));
  EXPECT_EQ(flags(target), MR_TARGET_KEEPS_FLOWS | MR_TARGET_DRAINING | MR_TARGET_HEALTHY);
}

TEST_F(GroupStateTest, group_works_while_a_healthy_target_that_gets_new_flows_can_be_reached) {
  EXPECT_FALSE(has_healthy_target(group_)) << "no target";
  TargetRecord& target = add(80);
  (void)add(81, TargetState::unhealthy);
  EXPECT_TRUE(has_healthy_target(group_));
  target.is_unreachable = true;
  EXPECT_FALSE(has_healthy_target(group_));
  target.is_unreachable = false;
  target.weight = 0;
  EXPECT_FALSE(has_healthy_target(group_));
  target.weight = 100;
  group_.is_in_use = false;
  EXPECT_FALSE(has_healthy_target(group_)) << "no listener";
  group_.is_in_use = true;
  target.health.state = TargetState::initial;
  EXPECT_FALSE(has_healthy_target(group_)) << "nobody has looked yet";
  ASSERT_TRUE(fails_open(group_));
  target.health.state = TargetState::healthy;
  begin_drain(target, group_.settings, 0);
  EXPECT_FALSE(has_healthy_target(group_)) << "it only keeps the flows that it has";
}

TEST_F(GroupStateTest, fault_67_draining_and_drained_targets_that_died_are_as_any_unhealthy_one) {
  TargetRecord& target = add(80, TargetState::unhealthy);
  (void)add(81);
  for (const Registration way : {Registration::draining, Registration::drained}) {
    target.registration = way;
    group_.settings.protocol = Protocol::tcp;
    group_.settings.unhealthy_connection_termination = true;
    EXPECT_EQ(flags(target), MR_TARGET_RESETS_FLOWS | MR_TARGET_DRAINING);
    group_.settings.unhealthy_connection_termination = false;
    EXPECT_EQ(flags(target), MR_TARGET_KEEPS_FLOWS | MR_TARGET_DRAINING);
    group_.settings.protocol = Protocol::udp;
    EXPECT_EQ(flags(target), MR_TARGET_DRAINING) << "UDP flows choose another target";
  }
}

TEST_F(GroupStateTest, fault_67_group_that_fails_open_believes_no_death_of_draining_ones_either) {
  TargetRecord& target = add(80, TargetState::unhealthy);
  (void)add(81, TargetState::unhealthy);
  begin_drain(target, group_.settings, 0);
  ASSERT_TRUE(fails_open(group_));
  EXPECT_EQ(flags(target), MR_TARGET_KEEPS_FLOWS | MR_TARGET_DRAINING);
  EXPECT_FALSE(is_in(target)) << "to fail open is no way back";
}

TEST_F(GroupStateTest, fault_67_last_target_of_a_group_that_is_taken_out_and_dies_ends_its_flows) {
  TargetRecord& target = add(80, TargetState::unhealthy);
  begin_drain(target, group_.settings, 0);
  EXPECT_FALSE(fails_open(group_));
  EXPECT_EQ(flags(target), MR_TARGET_RESETS_FLOWS | MR_TARGET_DRAINING);
}

TEST_F(GroupStateTest, fault_67_state_and_health_are_both_shown) {
  TargetRecord& target = add(80, TargetState::unhealthy);
  target.health.description = "Request timed out";
  for (const Registration way : {Registration::draining, Registration::drained}) {
    target.registration = way;
    EXPECT_THAT(shown_state(target, group_).description, HasSubstr("; unhealthy: Request timed"));
  }
  target.registration = Registration::registered;
  group_.is_in_use = false;
  EXPECT_EQ(shown_state(target, group_).state, TargetState::unused);
  EXPECT_THAT(shown_state(target, group_).description, HasSubstr("; unhealthy: Request timed"));
}

TEST_F(GroupStateTest, fault_67_target_is_probed_for_as_long_as_it_may_have_flows) {
  TargetRecord& drained = add(80);
  TargetRecord& unused = add(81);
  EXPECT_FALSE(note_flows(drained, group_, std::nullopt)) << "in use: probed anyway";
  EXPECT_FALSE(note_flows(unused, group_, std::nullopt));
  drained.registration = Registration::drained;
  EXPECT_TRUE(is_probed(drained, group_)) << "nobody has said that it has none";
  EXPECT_FALSE(note_flows(drained, group_, std::nullopt));
  EXPECT_FALSE(note_flows(drained, group_, 3));
  EXPECT_TRUE(is_probed(drained, group_));
  EXPECT_TRUE(note_flows(drained, group_, 0));
  EXPECT_FALSE(is_probed(drained, group_));
  EXPECT_TRUE(note_flows(drained, group_, 1)) << "one that another node had";

  group_.is_in_use = false;
  EXPECT_TRUE(is_probed(unused, group_));
  group_.is_configured = false;
  begin_drain(unused, group_.settings, 0);
  EXPECT_TRUE(is_probed(unused, group_)) << "the whole group was taken out";
  EXPECT_TRUE(note_flows(unused, group_, 0));
  EXPECT_FALSE(is_probed(unused, group_));
}

TEST_F(GroupStateTest, group_that_nobody_uses_does_not_fail_open) {
  TargetRecord& target = add(80, TargetState::unhealthy);
  (void)add(81, TargetState::initial);
  group_.is_in_use = false;
  EXPECT_FALSE(fails_open(group_));
  EXPECT_EQ(flags(target), MR_TARGET_RESETS_FLOWS) << "its last flows are told, too";
}

TEST_F(GroupStateTest, flows_go_on_after_the_delay_unless_termination_is_asked_for) {
  TargetRecord& target = add(80);
  target.registration = Registration::drained;
  EXPECT_EQ(flags(target), MR_TARGET_KEEPS_FLOWS | MR_TARGET_DRAINING | MR_TARGET_HEALTHY);
  group_.settings.deregistration_connection_termination = true;
  EXPECT_EQ(flags(target), MR_TARGET_RESETS_FLOWS | MR_TARGET_DRAINING);
  group_.settings.protocol = Protocol::udp;
  EXPECT_EQ(flags(target), MR_TARGET_DRAINING) << "UDP flows choose another target";
}

TEST_F(GroupStateTest, undrain_within_the_delay_returns_with_its_health) {
  TargetRecord& target = add(80);
  begin_drain(target, group_.settings, 0);
  end_drain(target);
  EXPECT_EQ(target.registration, Registration::registered);
  EXPECT_EQ(shown_state(target, group_).state, TargetState::healthy);
}

TEST_F(GroupStateTest, undrain_after_the_delay_starts_from_initial) {
  TargetRecord& target = add(80);
  begin_drain(target, group_.settings, 0);
  ASSERT_TRUE(advance_drain(target, 300 * kSecondNs));
  EXPECT_FALSE(is_probed(target, group_));
  end_drain(target);
  EXPECT_EQ(shown_state(target, group_).state, TargetState::initial);
}

TEST_F(GroupStateTest, end_of_drain_needs_config_and_operator_to_agree) {
  TargetRecord& target = add(80);
  begin_drain(target, group_.settings, 0);
  target.is_operator_drained = true;
  end_drain(target);
  EXPECT_EQ(target.registration, Registration::draining);
  target.is_operator_drained = false;
  target.is_configured = false;
  end_drain(target);
  EXPECT_EQ(target.registration, Registration::draining);
  target.is_configured = true;
  end_drain(target);
  EXPECT_EQ(target.registration, Registration::registered);
}

TEST_F(GroupStateTest, only_healthy_registered_targets_with_weight_get_new_flows) {
  const TargetRecord& healthy = add(80);
  const TargetRecord& initial = add(81, TargetState::initial);
  const TargetRecord& unhealthy = add(82, TargetState::unhealthy);
  const TargetRecord& weightless = add(83, TargetState::healthy, 0);
  EXPECT_FALSE(fails_open(group_));
  EXPECT_TRUE(is_in(healthy));
  EXPECT_FALSE(is_in(initial));
  EXPECT_FALSE(is_in(unhealthy));
  EXPECT_FALSE(is_in(weightless));
}

TEST_F(GroupStateTest, target_has_its_place_in_the_base_from_its_first_result_until_it_leaves) {
  (void)add(80);
  TargetRecord& target = add(81, TargetState::initial);
  EXPECT_FALSE(is_in_base(target)) << "nobody's slots move before it can take them";
  target.health.state = TargetState::unhealthy;
  EXPECT_TRUE(is_in_base(target));
  target.health.state = TargetState::healthy;
  EXPECT_TRUE(is_in_base(target));
  target.is_operator_drained = true;
  begin_drain(target, group_.settings, 0);
  EXPECT_TRUE(is_in_base(target)) << "nobody else's slots move when it comes back";
  EXPECT_FALSE(is_in(target));
  target.health = TargetHealth{};
  EXPECT_TRUE(is_in_base(target)) << "also when it comes back as initial";
  target.is_configured = false;
  EXPECT_FALSE(is_in_base(target)) << "though the drain goes on";
}

TEST_F(GroupStateTest, target_that_gets_flows_before_its_first_result_has_a_place_in_the_base) {
  const TargetRecord& initial = add(81, TargetState::initial);
  TargetRecord& other = add(82, TargetState::initial);
  ASSERT_TRUE(fails_open(group_));
  EXPECT_TRUE(is_in_base(initial));
  other.health.state = TargetState::healthy;
  ASSERT_FALSE(fails_open(group_));
  EXPECT_TRUE(is_in_base(initial)) << "it waits for its result there";
}

TEST_F(GroupStateTest, fault_45_group_without_a_healthy_target_fails_open) {
  const TargetRecord& initial = add(81, TargetState::initial);
  const TargetRecord& unhealthy = add(82, TargetState::unhealthy, 50);
  (void)add(83, TargetState::healthy, 0);
  TargetRecord& draining = add(84);
  begin_drain(draining, group_.settings, 0);
  EXPECT_TRUE(fails_open(group_));
  EXPECT_TRUE(is_in(initial));
  EXPECT_TRUE(is_in(unhealthy));
  EXPECT_FALSE(is_in(draining));
  EXPECT_EQ(flags(unhealthy), MR_TARGET_KEEPS_FLOWS) << "fail-open resets nothing";
}

TEST_F(GroupStateTest, group_that_nobody_has_checked_yet_is_not_said_to_fail_open) {
  (void)add(81, TargetState::initial);
  TargetRecord& other = add(82, TargetState::initial);
  EXPECT_TRUE(fails_open(group_)) << "all get flows nevertheless";
  EXPECT_EQ(routing_of(group_), GroupRouting::unchecked);
  other.health.state = TargetState::unhealthy;
  EXPECT_EQ(routing_of(group_), GroupRouting::fail_open);
  other.health.state = TargetState::healthy;
  EXPECT_EQ(routing_of(group_), GroupRouting::to_healthy);
}

TEST_F(GroupStateTest, group_in_use_without_a_target_that_may_get_flows_is_said_to_have_none) {
  TargetRecord& only = add(81, TargetState::healthy);
  EXPECT_EQ(routing_of(group_), GroupRouting::to_healthy);
  only.weight = 0;
  EXPECT_EQ(routing_of(group_), GroupRouting::nobody);
  group_.is_in_use = false;
  EXPECT_EQ(routing_of(group_), GroupRouting::to_healthy) << "nobody asks it for one";
}

TEST_F(GroupStateTest, group_without_registered_targets_has_nothing_to_open) {
  EXPECT_FALSE(fails_open(group_));
  TargetRecord& draining = add(84);
  begin_drain(draining, group_.settings, 0);
  EXPECT_FALSE(fails_open(group_));
  (void)add(85, TargetState::healthy, 0);
  EXPECT_FALSE(fails_open(group_));
}

TEST_F(GroupStateTest, flows_of_an_unhealthy_target) {
  const TargetRecord& target = add(80, TargetState::unhealthy);
  (void)add(81);
  EXPECT_EQ(flags(target), MR_TARGET_RESETS_FLOWS);
  group_.settings.unhealthy_connection_termination = false;
  EXPECT_EQ(flags(target), MR_TARGET_KEEPS_FLOWS);
  group_.settings.protocol = Protocol::udp;
  EXPECT_EQ(flags(target), 0) << "UDP flows choose another target";
}

TEST_F(GroupStateTest, target_of_both_protocols_may_keep_connections_and_lose_datagrams) {
  group_.settings.protocol = Protocol::tcp_udp;
  TargetRecord& target = add(80, TargetState::unhealthy);
  (void)add(81);
  EXPECT_EQ(flags(target), MR_TARGET_RESETS_FLOWS) << "which says nothing of UDP";
  group_.settings.unhealthy_connection_termination = false;
  EXPECT_EQ(flags(target), MR_TARGET_KEEPS_TCP);
  target.registration = Registration::draining;
  EXPECT_EQ(flags(target), MR_TARGET_KEEPS_TCP | MR_TARGET_DRAINING);
  target.registration = Registration::registered;
  target.health.state = TargetState::healthy;
  EXPECT_EQ(flags(target), MR_TARGET_KEEPS_FLOWS | MR_TARGET_HEALTHY);
  target.is_passed_over = true;
  EXPECT_EQ(flags(target), MR_TARGET_KEEPS_TCP) << "the way may come back";
  group_.settings.deregistration_connection_termination = true;
  target.registration = Registration::drained;
  EXPECT_EQ(flags(target), MR_TARGET_RESETS_FLOWS | MR_TARGET_DRAINING);
}

TEST_F(GroupStateTest, unused_group_shows_not_in_use_and_is_not_probed) {
  group_.is_in_use = false;
  const TargetRecord& target = add(80, TargetState::initial);
  EXPECT_EQ(shown_state(target, group_).state, TargetState::unused);
  EXPECT_EQ(shown_state(target, group_).reason, HealthReason::not_in_use);
  EXPECT_FALSE(is_probed(target, group_));
}

TEST_F(GroupStateTest, slot_is_kept_while_flows_remain_or_are_not_known) {
  TargetRecord& target = add(80);
  target.is_configured = false;
  const std::uint64_t over_ns = 1000 * kSecondNs;
  const std::uint64_t later_ns = over_ns + 3 * kSecondNs;
  EXPECT_FALSE(may_retire(target, 0, later_ns)) << "still registered";
  target.registration = Registration::draining;
  EXPECT_FALSE(may_retire(target, 0, later_ns));
  ASSERT_TRUE(advance_drain(target, over_ns));
  EXPECT_FALSE(may_retire(target, 1, later_ns));
  EXPECT_FALSE(may_retire(target, std::nullopt, later_ns));
  EXPECT_FALSE(may_retire(target, 0, over_ns)) << "the last flow may not have been counted yet";
  EXPECT_TRUE(may_retire(target, 0, later_ns));
  target.is_configured = true;
  EXPECT_FALSE(may_retire(target, 0, later_ns)) << "drained by the operator, still in the config";
}

TEST(TargetIdentity, depends_on_address_port_and_protocol_and_nothing_else) {
  const TargetKey key{.group = "a", .address = IpAddress::parse("10.0.1.11").value(), .port = 80};
  TargetKey other_group = key;
  other_group.group = "b";
  TargetKey other_port = key;
  other_port.port = 81;
  EXPECT_EQ(target_identity(key, Protocol::tcp), target_identity(other_group, Protocol::tcp));
  EXPECT_NE(target_identity(key, Protocol::tcp), target_identity(other_port, Protocol::tcp));
  EXPECT_NE(target_identity(key, Protocol::tcp), target_identity(key, Protocol::udp));
  // The lookup table stays as it is when a TCP group gets UDP, too.
  EXPECT_EQ(target_identity(key, Protocol::tcp), target_identity(key, Protocol::tcp_udp));
  // Nodes of different releases must agree: a change of this number moves every flow of a cluster
  // that is being upgraded.
  EXPECT_EQ(target_identity(key, Protocol::tcp), 458266821030860386u);
}

}  // namespace
}  // namespace millrace::control
