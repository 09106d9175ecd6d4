// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/health_holder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "controlplane/reconcile/target_ways.h"
#include "dataplane/core/nanoseconds.h"
#include "tests/support/cc/address.h"
#include "tests/support/cc/fake_node.h"

namespace millrace::control {
namespace {

using test::ip;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

TargetKey key_of(const std::string& address) {
  return {.group = "web", .address = ip(address), .port = 8080};
}

TargetRecord target_of(const std::string& address, std::uint32_t slot) {
  TargetRecord target;
  target.key = key_of(address);
  target.slot = slot;
  return target;
}

// Two targets, in slots 0 and 1.
ControlState two_targets() {
  ControlState state;
  GroupState& group = state.groups["web"];
  for (const auto& [address, slot] : {std::pair{"10.0.1.11", 0u}, {"10.0.1.12", 1u}}) {
    group.targets.emplace(key_of(address), target_of(address, slot));
  }
  return state;
}

ImageContents given(std::initializer_list<int> nics) {
  ImageContents contents;
  for (const int nic : nics) {
    mr_target& target = contents.targets.emplace_back();
    if (nic < 0) continue;
    target.next_hop.nic = static_cast<std::uint8_t>(nic);
    target.next_hop.flags = MR_NEXT_HOP_RESOLVED;
  }
  return contents;
}

class HealthHolderTest : public ::testing::Test {
 protected:
  HealthHolderTest() {
    engine_.state = EngineState::running;
    engine_.nics = {{.name = "eth0", .twin = "mr0", .mac = ""},
                    {.name = "eth1", .twin = "mr1", .mac = ""}};
    holder_.set_probe_timeout_min_ns(2 * kSecondNs);
    holder_.set_target_nics(note_nics(state_, given({0, 1})));
    hold();
    now_ns_ += 5 * kSecondNs;
  }
  void hold() { holder_.hold(engine_, 0, state_, now_ns_); }

  std::uint64_t now_ns_ = 1000 * kSecondNs;
  test::FakeNode node_;
  ControlState state_ = two_targets();
  EngineSnapshot engine_;
  HealthHolder holder_{node_, node_};
};

TEST_F(HealthHolderTest, young_engine_holds_all_until_it_is_warm) {
  EXPECT_EQ(node_.hold, "the engine has just started");
  EXPECT_THAT(node_.held_targets, IsEmpty()) << "all";
  hold();
  EXPECT_EQ(node_.hold, "");
  holder_.restart();
  hold();
  EXPECT_EQ(node_.hold, "the engine has just started");
}

TEST_F(HealthHolderTest, nic_without_link_holds_the_targets_behind_it) {
  engine_.nics[1].trouble = NicTrouble::no_link;
  engine_.nics[1].trouble_text = "nic eth1 has no link";
  hold();
  EXPECT_EQ(node_.hold, "nic eth1 has no link");
  EXPECT_THAT(node_.held_targets, ElementsAre(key_of("10.0.1.12")));
}

// What the kernel names once a nic's routes have gone with it: the default route, by another nic.
TEST_F(HealthHolderTest, fault_76_nic_that_takes_its_routes_with_it_holds_the_targets_behind_it) {
  holder_.set_target_nics(note_nics(state_, given({0, 0})));
  engine_.nics[1].trouble = NicTrouble::nic_gone;
  engine_.nics[1].trouble_text = "nic eth1 is gone";
  hold();
  EXPECT_EQ(node_.hold, "nic eth1 is gone");
  EXPECT_THAT(node_.held_targets, ElementsAre(key_of("10.0.1.12")));
  now_ns_ += 31 * kSecondNs;
  hold();
  EXPECT_EQ(node_.hold, "") << "the other nic may be a way";
}

TEST_F(HealthHolderTest, stall_is_told_at_its_beginning_and_at_its_end) {
  node_.log_lines.clear();
  engine_.workers = {{.index = 3}};
  for (const std::uint64_t age_ms : {1500u, 2500u}) {
    engine_.workers[0].heartbeat_age_ms = age_ms;
    now_ns_ += kSecondNs;
    hold();
  }
  EXPECT_THAT(holder_.alarm().text, HasSubstr("worker 3 of the engine stands still (since 2 s)"));
  engine_.workers[0].heartbeat_age_ms = 0;
  now_ns_ += 5 * kSecondNs;
  hold();
  EXPECT_EQ(holder_.alarm().text, "");
  ASSERT_EQ(node_.log_lines.size(), 2u);
  EXPECT_THAT(node_.log_lines[0].second, HasSubstr("(since 1 s)"));
  EXPECT_THAT(node_.log_lines[1].second, HasSubstr("over: worker 3"));
}

TEST(TargetWays, nic_of_a_target_is_kept_while_the_kernel_does_not_know_it) {
  ControlState state = two_targets();
  EXPECT_EQ(note_nics(state, given({-1, 2})), 0b100u);
  EXPECT_THAT(targets_behind(0b001, state), ElementsAre(key_of("10.0.1.11"))) << "never known";
  EXPECT_EQ(note_nics(state, given({0, -1})), 0b101u);
  EXPECT_THAT(targets_behind(0b100, state), ElementsAre(key_of("10.0.1.12")));
  EXPECT_THAT(targets_behind(0b101, state),
              UnorderedElementsAre(key_of("10.0.1.11"), key_of("10.0.1.12")));
}

TEST(TargetWays, target_is_out_of_reach_only_while_somebody_attends_to_the_engine) {
  ControlState state = two_targets();
  GroupQueue changed;
  const auto& target = state.groups["web"].targets.at(key_of("10.0.1.12"));
  const auto note = [&](bool is_running, std::uint64_t at_seconds) {
    note_ways(state, given({0, -1}), is_running, at_seconds * kSecondNs, changed);
  };
  note(true, 100);
  note(false, 104);
  note(true, 106);
  EXPECT_FALSE(target.is_unreachable) << "the time begins anew";
  EXPECT_TRUE(changed.is_empty());
  note(true, 112);
  EXPECT_TRUE(target.is_unreachable);
  EXPECT_THAT(changed.take(2), ElementsAre("web"));
}

}  // namespace
}  // namespace millrace::control
