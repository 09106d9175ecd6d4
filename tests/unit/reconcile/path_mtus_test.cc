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

}  // namespace
}  // namespace millrace::control
