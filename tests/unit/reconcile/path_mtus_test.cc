// SPDX-License-Identifier: Apache-2.0
//
// What routers say of the ways to targets, and who is believed.
#include "controlplane/reconcile/path_mtus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/reconcile/world.h"

namespace millrace::control {
namespace {

using test::ip;
using test::kThree;
using test::web_config;
using test::World;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::uint64_t kLifetimeSeconds = PathMtus::kLifetimeNs / kSecondNs;

class PathMtusTest : public ::testing::Test {
 protected:
  // One group of three targets, forwarded by ipip from 10.0.1.1.
  void start(Forwarding forwarding = Forwarding::ipip) {
    (void)world_.start();
    world_.start_engine();
    for (const std::string& address : kThree) {
      world_.resolve(address, 1);
      world_.set_source(address, "10.0.1.1");
    }
    Config config = web_config(kThree);
    config.target_groups[0].forwarding = forwarding;
    for (Target& target : config.target_groups[0].targets) target.port = 80;
    config.target_groups[0].port = 80;
    const Result<ApplyOutcome> outcome = world_->apply(config, "test");
    ASSERT_TRUE(outcome) << outcome.error().message;
    world_->on_next_hops();
    world_.pass(0);
    world_.settle_if_woken();
  }
  void hear(const OuterError& error) {
    world_->on_outer_error(error);
    world_.settle_if_woken();
  }
  std::uint16_t mtu(const std::string& address) { return world_.published_target(address)->mtu; }
  std::vector<std::string> mtu_alarms() {
    std::vector<std::string> texts;
    for (const Alarm& alarm : world_->snapshot().alarms) {
      if (alarm.kind == AlarmKind::mtu) texts.push_back(alarm.text);
    }
    return texts;
  }

  OuterError error_{.source = ip("10.0.1.1"),
                    .destination = ip("10.0.1.12"),
                    .protocol = MR_PROTOCOL_IPV4_IN_IP,
                    .destination_port = 0,
                    .mtu = 1300,
                    .inner = OuterError::Inner{
                        .vip = ip("203.0.113.10"), .protocol = MR_PROTOCOL_TCP, .vip_port = 80}};
  World world_;
};

TEST_F(PathMtusTest, is_that_targets_alone_until_it_is_too_old) {
  start();
  EXPECT_EQ(mtu("10.0.1.12"), 1500);
  hear(error_);
  EXPECT_EQ(mtu("10.0.1.12"), 1300);
  EXPECT_EQ(mtu("10.0.1.11"), 1500);
  error_.mtu = 1400;  // of another router, or late: nothing new
  hear(error_);
  EXPECT_EQ(mtu("10.0.1.12"), 1300);
  world_.pass(kLifetimeSeconds - 1);
  world_.settle_if_woken();
  EXPECT_EQ(mtu("10.0.1.12"), 1300);
  world_.pass(1);
  world_.settle_if_woken();
  EXPECT_EQ(mtu("10.0.1.12"), 1500);
}

TEST_F(PathMtusTest, quote_too_short_for_what_is_inside_is_believed) {
  start();
  error_.inner.reset();
  hear(error_);
  EXPECT_EQ(mtu("10.0.1.12"), 1300);
}

TEST_F(PathMtusTest, error_about_a_clients_error_is_believed) {
  start();
  error_.inner->protocol = MR_PROTOCOL_ICMP;
  error_.inner->vip_port = 0;
  hear(error_);
  EXPECT_EQ(mtu("10.0.1.12"), 1300);
}

TEST_F(PathMtusTest, fault_16_what_no_engine_sends_is_not_believed) {
  start();
  const auto is_believed = [&](auto change) {
    OuterError forged = error_;
    change(forged);
    hear(forged);
    return mtu("10.0.1.12") != 1500 || mtu("10.0.1.11") != 1500;
  };
  EXPECT_FALSE(is_believed([](OuterError& error) { error.source = ip("10.0.1.2"); }));
  EXPECT_FALSE(is_believed([](OuterError& error) { error.destination = ip("10.0.1.99"); }));
  EXPECT_FALSE(is_believed([](OuterError& error) {
    error.protocol = MR_PROTOCOL_UDP;
    error.destination_port = kGuePortDefault;
  }));
  EXPECT_FALSE(is_believed([](OuterError& error) { error.inner->vip = ip("203.0.113.11"); }));
  EXPECT_FALSE(is_believed([](OuterError& error) { error.inner->vip_port = 81; }));
  EXPECT_FALSE(is_believed([](OuterError& error) { error.inner->protocol = MR_PROTOCOL_UDP; }));
  EXPECT_FALSE(is_believed([](OuterError& error) { error.mtu = 1500; })) << "nothing new";
  EXPECT_TRUE(is_believed([](OuterError&) {}));
}

TEST_F(PathMtusTest, gue_is_told_by_its_port) {
  start(Forwarding::gue);
  hear(error_);
  EXPECT_EQ(mtu("10.0.1.12"), 1500);
  error_.protocol = MR_PROTOCOL_UDP;
  error_.destination_port = kGuePortDefault + 1;
  hear(error_);
  EXPECT_EQ(mtu("10.0.1.12"), 1500);
  error_.destination_port = kGuePortDefault;
  hear(error_);
  EXPECT_EQ(mtu("10.0.1.12"), 1300);
}

TEST_F(PathMtusTest, groups_that_do_not_encapsulate_hear_nothing) {
  start(Forwarding::dsr);
  hear(error_);
  EXPECT_EQ(mtu("10.0.1.12"), 1500);
}

TEST_F(PathMtusTest, fault_16_forged_error_leaves_room_for_what_every_client_may_send) {
  start();
  error_.mtu = 68;
  hear(error_);
  EXPECT_EQ(mtu("10.0.1.12"), 596);
  ASSERT_THAT(mtu_alarms(), ElementsAre(HasSubstr("MTU of 68 towards target 10.0.1.12 (as a router "
                                                  "on the way says)")));
  world_.pass(kLifetimeSeconds);
  world_.settle_if_woken();
  EXPECT_THAT(mtu_alarms(), IsEmpty());
}

// Whichever group's packet met the router: the others go the same way.
TEST_F(PathMtusTest, all_groups_with_the_target_are_told) {
  const std::string group = "    protocol: TCP\n    targets: [{id: 10.0.1.12}]\n    port: ";
  const Config config = test::config_of(
      "load_balancers:\n- name: web\n  addresses: [203.0.113.10]\n  listeners:\n"
      "  - {protocol: TCP, port: 80, default_target_group: web}\n"
      "  - {protocol: TCP, port: 81, default_target_group: other}\n"
      "  - {protocol: TCP, port: 82, default_target_group: third}\n"
      "  - {protocol: TCP, port: 83, default_target_group: plain}\n"
      "target_groups:\n"
      "  - name: web\n    attributes: {millrace.forwarding: ipip}\n" +
      group + "80\n" + "  - name: other\n    attributes: {millrace.forwarding: ipip}\n" + group +
      "81\n" + "  - name: third\n    attributes: {millrace.forwarding: gue}\n" + group + "82\n" +
      "  - name: plain\n    attributes: {millrace.forwarding: dsr}\n" + group + "83\n");
  (void)world_.start();
  world_.start_engine();
  world_.resolve("10.0.1.12", 1);
  world_.set_source("10.0.1.12", "10.0.1.1");
  ASSERT_TRUE(world_->apply(config, "test"));
  world_->on_next_hops();
  world_.tick_for(30);  // nothing else is left to be worked out
  world_.settle_if_woken();
  hear(error_);
  world_.settle_if_woken();
  for (const mr_target& target : world_->published().targets) {
    if (target.id == 0) continue;
    const bool is_outer = target.forwarding != MR_FORWARDING_DSR;
    EXPECT_EQ(target.mtu, is_outer ? 1300 : 1500) << "forwarding " << int{target.forwarding};
  }
}

TEST_F(PathMtusTest, fault_16_errors_that_say_nothing_new_leave_no_line_and_no_image) {
  start();
  error_.inner.reset();
  const std::size_t lines = world_.log_lines.size();
  const std::uint64_t generation = world_->published().image->generation;
  for (std::uint32_t mtu = 9000; mtu >= 1500; --mtu) {
    error_.mtu = static_cast<std::uint16_t>(mtu);
    hear(error_);
  }
  EXPECT_EQ(world_.log_lines.size(), lines);
  EXPECT_EQ(world_->published().image->generation, generation);
  for (std::uint32_t mtu = 590; mtu > 0; --mtu) {
    error_.mtu = static_cast<std::uint16_t>(mtu);
    hear(error_);
  }
  EXPECT_EQ(world_.log_lines.size(), lines + 1);
  EXPECT_EQ(world_->published().image->generation, generation + 1);
}

}  // namespace
}  // namespace millrace::control
