// SPDX-License-Identifier: Apache-2.0
//
// A full flow table: what gives way, what does not, and what becomes of those that find no room.
#include "tests/unit/core/family.h"

namespace millrace::test {
namespace {

using core::VerdictKind;

class FullTableTest : public ForwarderTest {
 protected:
  // As an address per zone makes it: a second VIP and a second port lead to the same targets.
  void balance_from_two_vips(std::uint32_t targets) {
    balance(targets);
    second_listener_ = node.builder.add_listener({.vip_addr = addr_of(second_vip()),
                                                  .port = 80,
                                                  .protocol = traffic().protocol,
                                                  .group_slot = 0});
    node.publish();
  }
  [[nodiscard]] std::string second_vip() const {
    return traffic().is_v6 ? "2001:db8:113::20" : "203.0.113.20";
  }
  // Every packet of a flow that is answered and goes on comes from and to whom it should.
  void expect_served(std::uint16_t port, const std::string& asked) {
    const auto ask = [&](std::uint8_t flags) {
      FrameSpec spec = to_vip(port, flags);
      spec.destination = asked;
      return target_of(node.send(spec));
    };
    const std::uint32_t target = ask(kSyn);
    const Outcome back = node.send(from_target(target, port, kSynAck));
    ASSERT_EQ(back.kind, VerdictKind::forward);
    EXPECT_EQ(destination_mac(back.frame), FrameSpec{}.source_mac) << "the client's neighbour";
    EXPECT_EQ(read_frame(back.frame).source, asked);
    EXPECT_TRUE(checksums_hold(back.frame));
    EXPECT_EQ(ask(kAck), target);
  }
  void flood(std::uint32_t flows, std::uint16_t first_port = 30000) {
    for (std::uint32_t i = 0; i < flows; ++i) {
      (void)node.send(to_vip(static_cast<std::uint16_t>(first_port + i), kSyn));
    }
  }
  // Whether the target's answer on that port is still taken for the flow's.
  [[nodiscard]] bool is_known(std::uint32_t target, std::uint16_t port) {
    return node.send(from_target(target, port)).kind == VerdictKind::forward;
  }

 private:
  std::uint32_t second_listener_ = 0;
};

INSTANTIATE_TEST_SUITE_P(All, FullTableTest, testing::ValuesIn(kAllTraffic), name_of);

TEST_P(FullTableTest, flows_through_two_vips_are_served_when_it_is_full_of_others) {
  node.reset({.capacity = 16});
  balance_from_two_vips(2);
  flood(100);
  for (std::uint16_t port = 20000; port < 20100; port = static_cast<std::uint16_t>(port + 2)) {
    expect_served(port, vip());
    expect_served(static_cast<std::uint16_t>(port + 1), second_vip());
  }
  EXPECT_GT(node.counter(MR_COUNTER_FLOW_GIVEN_UP), 0u);
  EXPECT_EQ(node.counter(MR_COUNTER_UNTRACKED_PACKETS), 0u);
  EXPECT_TRUE(node.is_balanced());
}

TEST_P(FullTableTest, fault_20_confirmed_flows_outlive_a_flood) {
  node.reset({.capacity = 256});
  balance_from_two_vips(2);
  std::vector<std::uint32_t> targets;
  for (std::uint16_t port = 20000; port < 20100; ++port) targets.push_back(open_flow(port));
  flood(20000);
  for (std::uint16_t i = 0; i < 100; ++i) {
    EXPECT_TRUE(is_known(targets[i], static_cast<std::uint16_t>(20000 + i)));
  }
}

TEST_P(FullTableTest, among_new_flows_the_oldest_gives_way) {
  node.reset({.capacity = 64});
  balance_from_two_vips(1);
  flood(64);
  (void)node.send(to_vip(20000, kSyn));
  EXPECT_FALSE(is_known(0, 30000)) << "the oldest";
  EXPECT_TRUE(is_known(0, 30001));
  EXPECT_TRUE(is_known(0, 30063));
  EXPECT_TRUE(is_known(0, 20000));
  EXPECT_EQ(node.counter(MR_COUNTER_FLOW_GIVEN_UP), 1u);
}

TEST_P(FullTableTest, more_confirmed_flows_than_it_holds_leave_room_for_new_ones) {
  node.reset({.capacity = 1024});
  balance_from_two_vips(2);
  std::vector<std::uint32_t> targets;
  for (std::uint16_t port = 20000; port < 20960; ++port) targets.push_back(open_flow(port));
  // Both buckets of one flow in some hundred are full of confirmed ones.
  std::uint32_t answered = 0;
  for (std::uint16_t port = 40000; port < 41000; ++port) {
    const std::uint32_t target = target_of(node.send(to_vip(port, kSyn)));
    answered += node.send(from_target(target, port, kSynAck)).kind == VerdictKind::forward;
    (void)node.send(to_vip(port, kAck));
  }
  EXPECT_GE(answered, 990u);
  for (std::uint16_t i = 0; i < 960; ++i) {  // fifteen sixteenths
    EXPECT_TRUE(is_known(targets[i], static_cast<std::uint16_t>(20000 + i)));
  }
}

TEST_P(FullTableTest, what_is_over_gives_way_before_what_is_new) {
  if (!is_tcp()) GTEST_SKIP() << "UDP ends by silence only";
  node.reset({.capacity = 32});
  balance_from_two_vips(1);
  flood(16);
  const std::uint32_t target = open_flow(20000);
  (void)node.send(to_vip(20000, kFinAck));
  (void)node.send(from_target(target, 20000, kFinAck));
  EXPECT_EQ(node.target(0).active_flows, 16u) << "a target is not busy with what is over";
  flood(15, 40000);
  (void)node.send(to_vip(21000, kSyn));
  EXPECT_EQ(node.counter(MR_COUNTER_FLOW_GIVEN_UP), 1u);
}

TEST_P(FullTableTest, fault_64_bystander_is_left_alone_while_it_is_full) {
  node.reset({.capacity = 16});
  balance(1);
  flood(1000);
  std::uint32_t taken_for_replies = 0;
  for (std::uint16_t port = 1000; port < 2000; ++port) {
    taken_for_replies += node.send(from_target(0, port)).kind != VerdictKind::punt;
  }
  EXPECT_LE(taken_for_replies, 5u) << "of 1,000; a thousand bits of a million look alike";
}

TEST_P(FullTableTest, reply_of_a_flow_that_was_given_up_is_translated_if_there_is_one_listener) {
  node.reset({.capacity = 16});
  const mr_next_hop router = next_hop_of("02:00:00:00:00:64");
  node.builder.set_default_next_hops(router, router);
  balance(1);
  (void)node.send(to_vip(20000, kSyn));
  flood(100);
  const Outcome back = node.send(from_target(0, 20000, kAck));
  ASSERT_EQ(back.kind, VerdictKind::forward);
  EXPECT_EQ(read_frame(back.frame).source, vip());
  EXPECT_EQ(destination_mac(back.frame), "02:00:00:00:00:64");
  EXPECT_EQ(node.counter(MR_COUNTER_UNTRACKED_PACKETS), 1u);
}

TEST_P(FullTableTest, reply_of_a_flow_that_was_given_up_never_leaves_with_the_targets_address) {
  node.reset({.capacity = 16});
  balance_from_two_vips(1);
  (void)node.send(to_vip(20000, kSyn));
  flood(100);
  EXPECT_EQ(node.send(from_target(0, 20000, kAck)).reason, MR_DROP_NO_FLOW);
}

TEST_P(FullTableTest, fault_70_connection_that_a_reset_seems_to_end_is_not_the_kernels_when_full) {
  if (!is_tcp()) GTEST_SKIP() << "UDP has no reset";
  node.reset({.capacity = 16});
  const mr_next_hop router = next_hop_of("02:00:00:00:00:64");
  node.builder.set_default_next_hops(router, router);
  balance(1);
  (void)open_flow(20000);
  (void)node.send(to_vip(20000, kRst));  // forged: the target goes on
  flood(100);
  const Outcome back = node.send(from_target(0, 20000, kAck));
  ASSERT_EQ(back.kind, VerdictKind::forward);
  EXPECT_EQ(read_frame(back.frame).source, vip());
}

TEST_P(FullTableTest, what_found_no_room_is_forgotten_in_the_end) {
  node.reset({.capacity = 16});
  balance(1);
  (void)node.send(to_vip(20000, kSyn));
  flood(100);
  for (int half_times = 0; half_times < 2; ++half_times) {
    node.pass_seconds(351);
    node.sweep();
  }
  EXPECT_EQ(node.send(from_target(0, 20000, kAck)).kind, VerdictKind::punt);
}

// Where replies bypass the node, nothing but the client's going on says that a flow is one.
class FullTableDsrTest : public FullTableTest {
 protected:
  void balance_direct() {
    node.reset({.capacity = 64});
    balance(2, MR_FORWARDING_DSR);
  }
  void speak_for_three_rounds(std::uint16_t port) {
    for (int round = 0; round < 3; ++round) {
      (void)node.send(to_vip(port, kAck));
      node.pass_seconds(1);
      node.sweep();
    }
  }
  // What is in the table moves no more when the targets change.
  [[nodiscard]] std::uint64_t inserted_by(std::uint16_t port) {
    const std::uint64_t before = node.counter(MR_COUNTER_FLOW_INSERTED);
    (void)node.send(to_vip(port, kAck));
    return node.counter(MR_COUNTER_FLOW_INSERTED) - before;
  }
};

INSTANTIATE_TEST_SUITE_P(All, FullTableDsrTest, testing::ValuesIn(kAllTraffic), name_of);

TEST_P(FullTableDsrTest, fault_21_flows_that_went_on_outlive_a_flood_of_single_packets) {
  balance_direct();
  speak_for_three_rounds(20000);
  for (std::uint32_t i = 0; i < 5000; ++i) {
    (void)node.send(to_vip(static_cast<std::uint16_t>(30000 + i), kAck));
  }
  EXPECT_EQ(inserted_by(20000), 0u);
  EXPECT_EQ(inserted_by(30000), 1u) << "a single packet protects no record";
}

TEST_P(FullTableDsrTest, plausible_flows_give_way_when_there_are_no_others) {
  balance_direct();
  for (std::uint16_t port = 20000; port < 20064; ++port) (void)node.send(to_vip(port, kAck));
  for (int round = 0; round < 3; ++round) {
    for (std::uint16_t port = 20000; port < 20064; ++port) (void)node.send(to_vip(port, kAck));
    node.pass_seconds(1);
    node.sweep();
  }
  EXPECT_EQ(inserted_by(30000), 1u);
  EXPECT_EQ(node.counter(MR_COUNTER_FLOW_GIVEN_UP), 1u);
  EXPECT_EQ(node.counter(MR_COUNTER_INSERT_REFUSED), 0u);
}

// Requests by one node, replies by another: the node that has the client's half sees no answer.
class OneWayTest : public FullTableTest {};

INSTANTIATE_TEST_SUITE_P(All, OneWayTest, testing::ValuesIn(kTcpTraffic), name_of);

TEST_P(OneWayTest, fault_68_connection_whose_replies_pass_another_node_lives_as_long) {
  balance_from_two_vips(2);
  const std::uint32_t target = target_of(node.send(to_vip(20000, kSyn)));
  EXPECT_EQ(target_of(node.send(to_vip(20000, kAck))), target);
  node.pass_seconds(kEstablishedTimeoutSeconds - 1);
  node.sweep();
  EXPECT_EQ(node.table().used(), 1u);
  node.builder.target(target).gets_new_flows = false;
  node.publish_without_history();
  EXPECT_EQ(target_of(node.send(to_vip(20000, kAck))), target);
}

// ---- what else is given back, and budgets

TEST_P(FullTableTest, fault_72_neighbours_that_no_flow_needs_are_given_back) {
  balance(1);
  FrameSpec spec = to_vip(20000, kSyn);
  for (std::uint32_t i = 0; i < 3 * MR_LAST_HOP_COUNT; ++i) {
    char mac[18];
    (void)std::snprintf(mac, sizeof(mac), "02:00:00:%02x:%02x:%02x", i >> 16 & 0xff, i >> 8 & 0xff,
                        i & 0xff);
    spec.source_mac = mac;
    spec.source_port = static_cast<std::uint16_t>(20000 + i % 1000);
    (void)node.send(spec);
    if (i % 1000 != 999) continue;
    node.pass_seconds(kUdpNewTimeoutSeconds + 1);
    node.sweep();
    node.sweep();
  }
  const Outcome back = node.send(from_target(0, spec.source_port, kSynAck));
  EXPECT_EQ(back.kind, VerdictKind::forward);
  EXPECT_EQ(destination_mac(back.frame), spec.source_mac);
}

TEST_P(FullTableTest, flood_that_is_answered_with_resets_leaves_pings_their_answers) {
  if (!is_tcp()) GTEST_SKIP() << "UDP gets no reset";
  node.reset({.replies_per_ms = 3});
  balance(1);
  (void)open_flow(20000);
  node.builder.target(0).flags = MR_TARGET_RESETS_FLOWS;
  node.publish();
  std::uint32_t resets = 0;
  for (std::uint16_t port = 20000; port < 20010; ++port) {
    (void)node.send(to_vip(port, kAck));
    resets += node.send(to_vip(20000, kAck)).kind == VerdictKind::reply;
  }
  FrameSpec ping = to_vip(0);
  ping.protocol = traffic().is_v6 ? MR_PROTOCOL_ICMPV6 : MR_PROTOCOL_ICMP;
  EXPECT_LE(resets, 3u);
  EXPECT_NE(node.send(make_frame(ping)).reason, MR_DROP_RATE_LIMITED);
}

}  // namespace
}  // namespace millrace::test
