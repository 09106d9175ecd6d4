// SPDX-License-Identifier: Apache-2.0
//
// What a VIP does with what no listener is for, from the config and health to the image.
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/reconcile/world.h"

namespace millrace::control {
namespace {

using test::ip;

constexpr std::uint32_t kNoVip = MR_TABLE_EMPTY;
constexpr std::uint32_t kRefusing = MR_VIP_NO_ECHO | MR_VIP_REJECTS;
constexpr std::uint32_t kPunting = MR_VIP_PUNTS;

class VipsTest : public ::testing::Test {
 protected:
  VipsTest() { world_.start(); }

  // Two VIPs with a listener to "web" (two targets) on the first load balancer, and one without.
  void apply(const std::string& attributes, const std::string& rest = "") {
    const Config config = test::config_of(R"(
load_balancers:
  - name: web
    addresses: [203.0.113.10, 203.0.113.11]
    attributes: {)" + attributes + R"(}
    listeners:
      - {protocol: TCP, port: 80, default_target_group: web}
  - name: bare
    addresses: [203.0.113.12]
    attributes: {)" + attributes + R"(}
target_groups:
  - name: web
    protocol: TCP
    port: 8080
    targets: [{id: 10.0.1.11}, {id: 10.0.1.12)" +
                                          rest + "}]\n");
    ASSERT_TRUE(world_->apply(config, "test"));
  }
  [[nodiscard]] std::uint32_t flags(const std::string& vip) {
    const core::ConfigView view = world_->published();
    const auto* entry = core::find_entry(view.listener_table, ip(vip).addr, 0, 0);
    return entry == nullptr ? kNoVip : entry->slot;
  }
  [[nodiscard]] bool is_silent(const std::string& vip = "203.0.113.10") {
    return (flags(vip) & MR_VIP_NO_ECHO) != 0;
  }

  test::World world_;
};

TEST_F(VipsTest, have_no_flag_by_default_and_need_no_listener) {
  apply("");
  for (const char* vip : {"203.0.113.10", "203.0.113.11", "203.0.113.12"}) {
    EXPECT_EQ(flags(vip), 0u) << vip;
  }
  EXPECT_EQ(flags("203.0.113.13"), kNoVip);
}

TEST_F(VipsTest, are_published_with_what_their_load_balancer_says) {
  apply("millrace.echo: never, millrace.no_listener: reject");
  EXPECT_EQ(flags("203.0.113.11"), kRefusing);
  EXPECT_EQ(flags("203.0.113.12"), kRefusing);
  apply("millrace.no_listener: kernel");
  EXPECT_EQ(flags("203.0.113.10"), kPunting);
  const Snapshot snapshot = world_->snapshot();
  ASSERT_EQ(snapshot.vips.size(), 3u);
  EXPECT_EQ(snapshot.vips[2].load_balancer, "bare");
  EXPECT_EQ(snapshot.vips[2].no_listener, NoListener::kernel);
  EXPECT_TRUE(snapshot.vips[2].answers_echo);
}

TEST_F(VipsTest, policy_outlives_the_control_plane) {
  apply("millrace.echo: never, millrace.no_listener: reject");
  world_.start();
  EXPECT_EQ(flags("203.0.113.10"), kRefusing) << "in force meanwhile";
  ASSERT_TRUE(world_->resume(test::config_of(world_->stored_config().text)));
  EXPECT_EQ(flags("203.0.113.10"), kRefusing);
}

TEST_F(VipsTest, healthy_ones_answer_while_a_healthy_target_gets_new_flows) {
  apply("millrace.echo: healthy");
  EXPECT_TRUE(is_silent()) << "nobody has looked yet";
  world_.set_health("10.0.1.11", TargetState::healthy);
  EXPECT_FALSE(is_silent());
  EXPECT_FALSE(is_silent("203.0.113.11"));
  EXPECT_TRUE(is_silent("203.0.113.12")) << "it has no listener, and so no target";
  world_.set_health("10.0.1.12", TargetState::healthy);
  world_.set_health("10.0.1.11", TargetState::unhealthy);
  EXPECT_FALSE(is_silent());
  world_.set_health("10.0.1.12", TargetState::unhealthy);
  EXPECT_TRUE(is_silent()) << "the group fails open";
  EXPECT_FALSE(world_->snapshot().vips[0].answers_echo);
  world_.set_health("10.0.1.12", TargetState::healthy);
  EXPECT_FALSE(is_silent());
}

TEST_F(VipsTest, draining_and_weightless_targets_do_not_make_a_vip_answer) {
  apply("millrace.echo: healthy", ", weight: 0");
  world_.set_health("10.0.1.11", TargetState::healthy);
  world_.set_health("10.0.1.12", TargetState::healthy);
  EXPECT_FALSE(is_silent());
  ASSERT_TRUE(world_->drain(test::World::key("10.0.1.11")));
  EXPECT_TRUE(is_silent());
  ASSERT_TRUE(world_->undrain(test::World::key("10.0.1.11")));
  EXPECT_FALSE(is_silent());
}

TEST_F(VipsTest, target_that_the_engine_cannot_reach_does_not_make_a_vip_answer) {
  world_.start_engine();
  world_.resolve("10.0.1.11", 11);
  world_.resolve("10.0.1.12", 12);
  apply("millrace.echo: healthy");
  world_.pass(1);
  world_.set_health("10.0.1.11", TargetState::healthy);
  EXPECT_FALSE(is_silent());
  world_.set_unresolved("10.0.1.11", "no answer");
  world_->on_next_hops();
  world_.tick_for(12);  // ways stay as they were for a while after the start, then for another
  EXPECT_TRUE(is_silent());
  world_.resolve("10.0.1.11", 11);
  world_->on_next_hops();
  world_.tick_for(1);
  world_.settle_if_woken();
  EXPECT_FALSE(is_silent());
}

TEST_F(VipsTest, echo_of_other_vips_does_not_hang_on_health) {
  apply("");
  world_.set_health("10.0.1.11", TargetState::unhealthy);
  world_.set_health("10.0.1.12", TargetState::unhealthy);
  EXPECT_EQ(flags("203.0.113.10"), 0u);
}

TEST_F(VipsTest, that_is_the_nodes_own_is_left_out_also_without_a_listener) {
  world_.local_addrs = {ip("10.0.1.1"), ip("203.0.113.12")};
  apply("millrace.echo: healthy");
  EXPECT_EQ(flags("203.0.113.12"), kNoVip);
  world_.set_health("10.0.1.11", TargetState::healthy);
  EXPECT_FALSE(is_silent());
}

}  // namespace
}  // namespace millrace::control
