// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/apply.h"
#include "tests/support/cc/address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace millrace::control {
namespace {

using test::ip;

using ::testing::HasSubstr;

// Long after the drains of these tests.
constexpr std::uint64_t kRetiredNs = 303'000'000'000;

Config small_config() {
  Config config;
  config.node.name = "lb-1";
  TargetGroup web;
  web.name = "web";
  web.port = 8080;
  for (const char* address : {"10.0.1.11", "10.0.1.12", "10.0.1.13"}) {
    web.targets.push_back({.address = ip(address), .port = 8080, .weight = 100, .zone = ""});
  }
  TargetGroup spare = web;
  spare.name = "spare";
  spare.targets.resize(1);
  config.target_groups = {web, spare};
  LoadBalancer balancer;
  balancer.name = "lb";
  balancer.addresses = {ip("203.0.113.10"), ip("203.0.113.11")};
  Listener http;
  http.ports = PortRange::one(80);
  http.default_target_group_v4 = "web";
  Listener https = http;
  https.ports = PortRange::one(443);
  balancer.listeners = {http, https};
  config.load_balancers = {balancer};
  return config;
}

class ApplyTest : public ::testing::Test {
 protected:
  ApplyTest() { state_.ids.raise(1'000'000); }
  ApplyOutcome apply(const Config& config, std::uint64_t now_ns = 0) {
    Result<ApplyOutcome> outcome = apply_config(state_, config, now_ns);
    EXPECT_TRUE(outcome) << outcome.error().message;
    return outcome ? *outcome : ApplyOutcome{};
  }
  TargetRecord& target(const std::string& group, const std::string& address) {
    return state_.groups.at(group).targets.at(
        {.group = group, .address = ip(address), .port = 8080});
  }

  ControlState state_;
};

TEST_F(ApplyTest, first_config_gives_everything_a_slot_and_an_id) {
  const ApplyOutcome outcome = apply(small_config());
  EXPECT_EQ(outcome.listeners_added, 4u);
  EXPECT_EQ(outcome.targets_added, 4u);
  std::set<std::uint32_t> ids;
  std::set<std::uint32_t> listener_slots;
  std::set<std::uint32_t> target_slots;
  for (const auto& [key, listener] : state_.listeners) {
    ids.insert(listener.id);
    listener_slots.insert(listener.slot);
  }
  for (const auto& [name, group] : state_.groups) {
    ids.insert(group.id);
    for (const auto& [key, record] : group.targets) {
      ids.insert(record.id);
      target_slots.insert(record.slot);
    }
  }
  EXPECT_EQ(ids.size(), 10u);
  EXPECT_FALSE(ids.contains(0));
  EXPECT_EQ(listener_slots, (std::set<std::uint32_t>{0, 1, 2, 3}));
  EXPECT_EQ(target_slots, (std::set<std::uint32_t>{0, 1, 2, 3}));
  EXPECT_TRUE(state_.groups.at("web").is_in_use);
  EXPECT_FALSE(state_.groups.at("spare").is_in_use);
  EXPECT_EQ(target("web", "10.0.1.11").health.reason, HealthReason::registration_in_progress);
}

TEST_F(ApplyTest, vips_have_what_their_load_balancer_says) {
  Config config = small_config();
  EXPECT_EQ(apply(config).vips_added, 2u);
  config.load_balancers[0].echo = Echo::never;
  EXPECT_EQ(apply(config).vips_changed, 2u);
  config.load_balancers[0].no_listener = NoListener::reject;
  config.load_balancers[0].addresses = {ip("203.0.113.11"), ip("203.0.113.12")};
  const ApplyOutcome outcome = apply(config);
  EXPECT_EQ(outcome.vips_added, 1u);
  EXPECT_EQ(outcome.vips_changed, 1u);
  EXPECT_EQ(outcome.vips_removed, 1u);
  ASSERT_EQ(state_.vips.size(), 2u);
  const VipRecord& vip = state_.vips.at(ip("203.0.113.12"));
  EXPECT_EQ(vip.load_balancer, "lb");
  EXPECT_EQ(vip.echo, Echo::never);
  EXPECT_EQ(vip.no_listener, NoListener::reject);
  EXPECT_EQ(vip.groups, std::set<std::string>{"web"});
  EXPECT_EQ(state_.groups.at("web").vips.size(), 2u);
  EXPECT_TRUE(state_.groups.at("spare").vips.empty());
}

TEST_F(ApplyTest, same_config_again_changes_nothing) {
  (void)apply(small_config());
  const std::uint32_t id = target("web", "10.0.1.12").id;
  const ApplyOutcome outcome = apply(small_config(), 5);
  EXPECT_EQ(outcome.vips_added + outcome.vips_changed + outcome.vips_removed, 0u);
  EXPECT_EQ(outcome.listeners_added + outcome.listeners_changed + outcome.listeners_removed, 0u);
  EXPECT_EQ(outcome.targets_added + outcome.targets_changed + outcome.targets_removed, 0u);
  EXPECT_EQ(target("web", "10.0.1.12").id, id);
}

TEST_F(ApplyTest, removed_target_drains_and_comes_back_as_itself) {
  Config config = small_config();
  (void)apply(config);
  const std::uint32_t id = target("web", "10.0.1.12").id;
  Config without = config;
  without.target_groups[0].targets.erase(without.target_groups[0].targets.begin() + 1);
  EXPECT_EQ(apply(without).targets_removed, 1u);
  EXPECT_EQ(target("web", "10.0.1.12").registration, Registration::draining);
  EXPECT_EQ(apply(without, 1).targets_removed, 0u) << "once";
  EXPECT_EQ(apply(config, 2).targets_added, 1u);
  EXPECT_EQ(target("web", "10.0.1.12").registration, Registration::registered);
  EXPECT_EQ(target("web", "10.0.1.12").id, id);
}

TEST_F(ApplyTest, fault_49_same_address_after_retirement_is_another_target) {
  Config config = small_config();
  (void)apply(config);
  const std::uint32_t id = target("web", "10.0.1.12").id;
  const std::uint32_t slot = target("web", "10.0.1.12").slot;
  Config without = config;
  without.target_groups[0].targets.erase(without.target_groups[0].targets.begin() + 1);
  (void)apply(without);
  ASSERT_TRUE(advance_drain(target("web", "10.0.1.12"), 300'000'000'000));
  EXPECT_FALSE(retire_targets(
      state_, [](auto) { return 1; }, kRetiredNs))
      << "flows remain";
  EXPECT_TRUE(retire_targets(
      state_, [](auto) { return 0; }, kRetiredNs));
  (void)apply(config);
  EXPECT_EQ(target("web", "10.0.1.12").slot, slot);
  EXPECT_NE(target("web", "10.0.1.12").id, id);
}

TEST_F(ApplyTest, removed_group_goes_when_its_last_target_has_gone) {
  Config config = small_config();
  (void)apply(config);
  config.target_groups.pop_back();
  EXPECT_EQ(apply(config).targets_removed, 1u);
  ASSERT_TRUE(state_.groups.contains("spare"));
  EXPECT_FALSE(retire_targets(
      state_, [](auto) { return 0; }, kRetiredNs))
      << "still draining";
  ASSERT_TRUE(advance_drain(target("spare", "10.0.1.11"), 300'000'000'000));
  EXPECT_TRUE(retire_targets(
      state_, [](auto) { return 0; }, kRetiredNs));
  EXPECT_FALSE(state_.groups.contains("spare"));
  EXPECT_EQ(state_.group_slots.slot_count(), 1u);
}

TEST_F(ApplyTest, changes_are_counted_and_ids_stay) {
  Config config = small_config();
  (void)apply(config);
  const auto id = state_.listeners.begin()->second.id;
  config.target_groups[0].targets[0].weight = 50;
  config.target_groups[0].targets[1].zone = "b";
  config.load_balancers[0].listeners[0].tcp_idle_timeout_seconds = 600;
  const ApplyOutcome outcome = apply(config);
  EXPECT_EQ(outcome.targets_changed, 2u);
  EXPECT_EQ(outcome.listeners_changed, 2u) << "one per address";
  EXPECT_EQ(state_.listeners.begin()->second.id, id);
}

TEST_F(ApplyTest, removed_listener_frees_its_slot_and_its_id_is_not_used_again) {
  Config config = small_config();
  (void)apply(config);
  std::set<std::uint32_t> ids;
  for (const auto& [key, listener] : state_.listeners) ids.insert(listener.id);
  config.load_balancers[0].listeners[0].ports = PortRange::one(81);
  const ApplyOutcome outcome = apply(config);
  EXPECT_EQ(outcome.listeners_removed, 2u);
  EXPECT_EQ(outcome.listeners_added, 2u);
  EXPECT_EQ(state_.listener_slots.slot_count(), 4u);
  for (const auto& [key, listener] : state_.listeners) {
    EXPECT_EQ(ids.contains(listener.id), key.port == 443);
  }
}

// So its flows go on. Only a port that no longer belongs to it is lost to them.
TEST_F(ApplyTest, listener_stays_itself_when_its_last_port_changes) {
  Config config = small_config();
  config.load_balancers[0].listeners[1].ports = {.first = 443, .last = 450};
  (void)apply(config);
  const ListenerKey key{ip("203.0.113.10"), Protocol::tcp, 443};
  const ListenerRecord before = state_.listeners.at(key);
  config.load_balancers[0].listeners[1].ports.last = 500;
  const ApplyOutcome outcome = apply(config);
  EXPECT_EQ(outcome.listeners_changed, 2u);
  EXPECT_EQ(outcome.listeners_added, 0u);
  EXPECT_EQ(state_.listeners.at(key).id, before.id);
  EXPECT_EQ(state_.listeners.at(key).slot, before.slot);
  EXPECT_EQ(state_.listeners.at(key).ports.last, 500);
}

TEST_F(ApplyTest, group_that_is_no_longer_used_forgets_health_once_nobody_probes_it) {
  Config config = small_config();
  (void)apply(config);
  target("web", "10.0.1.11").health.state = TargetState::healthy;
  config.load_balancers[0].listeners[0].default_target_group_v4 = "spare";
  (void)apply(config);
  EXPECT_EQ(target("web", "10.0.1.11").health.state, TargetState::healthy) << "443 uses it";
  config.load_balancers[0].listeners[1].default_target_group_v4 = "spare";
  target("web", "10.0.1.11").may_have_flows = true;
  (void)apply(config);
  (void)apply(config);
  EXPECT_EQ(target("web", "10.0.1.11").health.state, TargetState::healthy) << "still probed";
  target("web", "10.0.1.11").may_have_flows = false;
  (void)apply(small_config());
  EXPECT_EQ(target("web", "10.0.1.11").health.state, TargetState::initial) << "used again";
}

TEST_F(ApplyTest, group_that_changes_its_protocol_starts_over) {
  Config config = small_config();
  (void)apply(config);
  const std::uint32_t group_id = state_.groups.at("spare").id;
  const std::uint32_t id = target("spare", "10.0.1.11").id;
  config.target_groups[1].protocol = Protocol::udp;
  (void)apply(config);
  EXPECT_NE(state_.groups.at("spare").id, group_id);
  EXPECT_NE(target("spare", "10.0.1.11").id, id);
  EXPECT_EQ(state_.target_slots.slot_count(), 4u);
}

// The TCP listener and its group get UDP as well, and lose TCP then.
TEST_F(ApplyTest, flows_of_a_protocol_that_stays_keep_listener_group_and_target) {
  Config config = small_config();
  (void)apply(config);
  const ListenerKey tcp{ip("203.0.113.10"), Protocol::tcp, 80};
  const ListenerKey udp{ip("203.0.113.10"), Protocol::udp, 80};
  const ListenerRecord of_tcp = state_.listeners.at(tcp);
  const std::uint32_t group_id = state_.groups.at("web").id;
  const TargetRecord web = target("web", "10.0.1.11");

  Listener& http = config.load_balancers[0].listeners[0];
  config.load_balancers[0].listeners.resize(1);
  config.target_groups[0].protocol = http.protocol = Protocol::tcp_udp;
  ApplyOutcome outcome = apply(config);
  EXPECT_EQ(outcome.listeners_added, 2u) << "a UDP one for each VIP";
  EXPECT_EQ(outcome.listeners_changed, 0u);
  EXPECT_EQ(outcome.targets_added + outcome.targets_removed, 0u);
  EXPECT_EQ(state_.listeners.at(tcp).id, of_tcp.id);
  EXPECT_EQ(state_.listeners.at(tcp).slot, of_tcp.slot);
  const ListenerRecord of_udp = state_.listeners.at(udp);
  EXPECT_EQ(target("web", "10.0.1.11").identity, web.identity) << "the same lookup table";

  config.target_groups[0].protocol = http.protocol = Protocol::udp;
  outcome = apply(config);
  EXPECT_EQ(outcome.listeners_removed, 2u);
  EXPECT_FALSE(state_.listeners.contains(tcp));
  EXPECT_EQ(state_.listeners.at(udp).id, of_udp.id);
  EXPECT_EQ(state_.listeners.at(udp).slot, of_udp.slot);
  EXPECT_EQ(state_.groups.at("web").id, group_id);
  EXPECT_EQ(target("web", "10.0.1.11").id, web.id);
  EXPECT_EQ(target("web", "10.0.1.11").slot, web.slot);
  EXPECT_EQ(target("web", "10.0.1.11").identity,
            target_identity(target("web", "10.0.1.11").key, Protocol::udp))
      << "as on nodes that never had it otherwise";
}

TEST_F(ApplyTest, idle_timeout_of_a_listener_of_both_protocols_is_that_of_tcp) {
  Config config = small_config();
  Listener& http = config.load_balancers[0].listeners[0];
  config.target_groups[0].protocol = http.protocol = Protocol::tcp_udp;
  (void)apply(config);
  http.tcp_idle_timeout_seconds = 600;
  EXPECT_EQ(apply(config).listeners_changed, 2u) << "the TCP half, for each VIP";
  EXPECT_EQ(state_.listeners.at({ip("203.0.113.11"), Protocol::tcp, 80}).tcp_idle_timeout_seconds,
            600u);
}

TEST_F(ApplyTest, group_of_two_load_balancers_is_there_once) {
  Config config = small_config();
  config.load_balancers.push_back(config.load_balancers[0]);
  config.load_balancers[1].name = "other";
  config.load_balancers[1].addresses = {ip("203.0.113.12")};
  (void)apply(config);
  EXPECT_EQ(state_.target_slots.slot_count(), 4u);
  EXPECT_EQ(state_.listeners.at({ip("203.0.113.12"), Protocol::tcp, 80}).load_balancer, "other");
  EXPECT_EQ(state_.listeners.at({ip("203.0.113.11"), Protocol::tcp, 80}).load_balancer, "lb");
  config.load_balancers.erase(config.load_balancers.begin());
  (void)apply(config);
  EXPECT_TRUE(state_.groups.at("web").is_in_use) << "by the other one";
}

TEST_F(ApplyTest, operator_drain_outlives_an_apply) {
  (void)apply(small_config());
  target("web", "10.0.1.11").is_operator_drained = true;
  begin_drain(target("web", "10.0.1.11"), state_.groups.at("web").settings, 0);
  (void)apply(small_config());
  EXPECT_EQ(target("web", "10.0.1.11").registration, Registration::draining);
}

TEST_F(ApplyTest, config_that_does_not_fit_changes_nothing) {
  (void)apply(small_config());
  Config large = small_config();
  large.load_balancers[0].listeners[0].ports = PortRange::one(81);
  TargetGroup& web = large.target_groups[0];
  for (std::uint32_t i = 0; i <= MR_GROUP_MEMBERS_MAX; ++i) {
    web.targets.push_back(
        {.address = ip("10.1." + std::to_string(i >> 8 & 0xff) + "." + std::to_string(i & 0xff)),
         .port = static_cast<std::uint16_t>(1 + (i >> 16)),
         .weight = 1,
         .zone = ""});
  }
  Result<ApplyOutcome> outcome = apply_config(state_, large, 0);
  ASSERT_FALSE(outcome);
  EXPECT_THAT(outcome.error().message, HasSubstr("group web"));
  EXPECT_EQ(state_.groups.at("web").targets.size(), 3u);
  for (const auto& [key, listener] : state_.listeners) EXPECT_NE(key.port, 81);
}

TEST_F(ApplyTest, what_it_changes_is_counted_settings_too) {
  ApplyOutcome outcome = apply(small_config());
  EXPECT_EQ(outcome.target_groups_added, state_.groups.size());
  outcome = apply(small_config());
  EXPECT_EQ(outcome.target_groups_added + outcome.target_groups_changed, 0u);
  EXPECT_FALSE(outcome.is_node_changed);

  Config other = small_config();
  other.target_groups[0].health_check.interval_ms += 1000;
  other.node.zone = "elsewhere";
  outcome = apply(other);
  EXPECT_EQ(outcome.target_groups_changed, 1u);
  EXPECT_TRUE(outcome.is_node_changed);
  EXPECT_EQ(outcome.targets_changed, 0u);

  other.load_balancers[0].listeners.clear();
  other.target_groups.clear();
  outcome = apply(other);
  EXPECT_EQ(outcome.target_groups_removed, small_config().target_groups.size());
  outcome = apply(other);
  EXPECT_EQ(outcome.target_groups_removed, 0u) << "those that drain were told of";
}

}  // namespace
}  // namespace millrace::control
