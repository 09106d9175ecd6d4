// SPDX-License-Identifier: Apache-2.0
//
// What TCP adds: two epochs for connections that this worker has never seen, state, RST.
#include "tests/unit/core/family.h"

namespace millrace::test {
namespace {

using core::VerdictKind;

class TcpFlowTest : public ForwarderTest {
 protected:
  // Drains target 1 of two, and returns a client port whose slot changed from it to target 0 and of
  // whose connection this worker knows nothing, as after a node change.
  std::uint16_t orphan_of_drained_target() {
    std::uint16_t port = 20000;
    while (target_of(node.send(to_vip(port, kSyn))) != 1) ++port;
    (void)node.send(from_target(1, port, kRstAck));
    node.pass_seconds(kResetTimeoutSeconds + 1);
    node.sweep();
    EXPECT_EQ(node.table().used(), 0u);
    node.builder.target(1).gets_new_flows = false;
    node.publish();
    return port;
  }
};

INSTANTIATE_TEST_SUITE_P(All, TcpFlowTest, testing::ValuesIn(kTcpTraffic), name_of);

TEST_P(TcpFlowTest, orphan_of_a_changed_slot_goes_to_prev) {
  balance(2);
  const std::uint16_t port = orphan_of_drained_target();
  EXPECT_EQ(target_of(node.send(to_vip(port, kAck))), 1u) << "opened before the change";
  EXPECT_EQ(node.counter(MR_COUNTER_ORPHANS_TO_PREV), 1u);
  EXPECT_EQ(target_of(node.send(to_vip(port, kAck))), 1u) << "and has an entry now";
  EXPECT_EQ(node.counter(MR_COUNTER_ORPHANS_TO_PREV), 1u);
}

TEST_P(TcpFlowTest, syn_of_a_changed_slot_goes_to_cur) {
  balance(2);
  EXPECT_EQ(target_of(node.send(to_vip(orphan_of_drained_target(), kSyn))), 0u);
  EXPECT_EQ(node.counter(MR_COUNTER_ORPHANS_TO_PREV), 0u);
}

TEST_P(TcpFlowTest, orphan_goes_to_cur_when_prev_keeps_no_flows) {
  balance(2);
  const std::uint16_t port = orphan_of_drained_target();
  node.builder.target(1).flags = 0;
  node.publish();
  EXPECT_EQ(target_of(node.send(to_vip(port, kAck))), 0u);
}

TEST_P(TcpFlowTest, rst_of_prev_is_swallowed_once_and_the_flow_moves_to_cur) {
  balance(2);
  // Opened on another node after the change: `cur` has the connection and `prev` does not.
  const std::uint16_t port = orphan_of_drained_target();
  ASSERT_EQ(target_of(node.send(to_vip(port, kAck))), 1u);
  const Outcome swallowed = node.send(from_target(1, port, kRst));
  EXPECT_EQ(swallowed.kind, VerdictKind::drop);
  EXPECT_EQ(swallowed.reason, MR_DROP_UNWANTED_RST);
  EXPECT_EQ(target_of(node.send(to_vip(port, kAck))), 0u) << "the retransmission finds its target";
  const Outcome reply = node.send(from_target(0, port, kAck));
  EXPECT_EQ(reply.kind, VerdictKind::forward);
  EXPECT_TRUE(checksums_hold(reply.frame));
  EXPECT_EQ(node.counter(MR_COUNTER_ORPHANS_MOVED), 1u);
  EXPECT_EQ(node.target(1).active_flows, 0u);
  EXPECT_EQ(node.target(0).active_flows, 1u);
  EXPECT_EQ(node.send(from_target(0, port, kRst)).kind, VerdictKind::forward) << "only once";
}

TEST_P(TcpFlowTest, fault_69_late_packet_of_an_expired_flow_tells_both_ends) {
  balance(1);
  (void)open_flow(40000);
  node.pass_seconds(kEstablishedTimeoutSeconds + 1);
  const Outcome first = node.send(to_vip(40000, kAck));
  EXPECT_EQ(target_of(first), 0u);
  EXPECT_EQ(read_frame(first.frame).tcp_flags, kRst);
  EXPECT_EQ(read_frame(first.frame).sequence, read_frame(make_frame(to_vip(40000))).sequence);
  EXPECT_TRUE(checksums_hold(first.frame));
  const Outcome outcome = node.send(to_vip(40000, kAck));
  ASSERT_EQ(outcome.kind, VerdictKind::reply);
  const FrameSpec reset = read_frame(outcome.frame);
  EXPECT_EQ(reset.tcp_flags, kRst);
  EXPECT_EQ(reset.source, vip());
  EXPECT_EQ(reset.source_port, 80);
  EXPECT_EQ(reset.destination, client_addr());
  EXPECT_EQ(reset.destination_port, 40000);
  EXPECT_EQ(reset.sequence, 2000u) << "RFC 9293 section 3.10.7.1: SEG.ACK of what it answers";
  EXPECT_TRUE(checksums_hold(outcome.frame));
  EXPECT_EQ(destination_mac(outcome.frame), "02:00:00:00:00:64");
  const Outcome to_client = node.send(from_target(0, 40000, kAck));
  ASSERT_EQ(to_client.kind, VerdictKind::forward) << "a target that speaks before it is told";
  EXPECT_EQ(read_frame(to_client.frame).tcp_flags, kRst);
  const Outcome to_target = node.send(from_target(0, 40000, kAck));
  ASSERT_EQ(to_target.kind, VerdictKind::reply);
  EXPECT_TRUE(checksums_hold(to_target.frame));
  EXPECT_EQ(node.send(to_vip(40000, kRst)).reason, MR_DROP_UNWANTED_RST) << "no RST for a RST";
  EXPECT_EQ(node.send(to_vip(40000, kSyn)).kind, VerdictKind::forward) << "a SYN opens anew";
  EXPECT_TRUE(node.is_balanced());
}

TEST_P(TcpFlowTest, answers_of_our_own_are_rate_limited) {
  node.reset({.replies_per_ms = 1});
  balance(1);
  (void)open_flow(40000);
  node.pass_seconds(kEstablishedTimeoutSeconds + 1);
  EXPECT_EQ(node.send(to_vip(40000)).kind, VerdictKind::forward);
  EXPECT_EQ(node.send(to_vip(40000)).reason, MR_DROP_RATE_LIMITED);
}

TEST_P(TcpFlowTest, half_open_flow_is_forgotten_soon_and_established_is_not) {
  balance(1);
  (void)node.send(to_vip(40000, kSyn));
  (void)open_flow(40001);
  node.pass_seconds(kClosingTimeoutSeconds + 1);
  node.sweep();
  EXPECT_EQ(node.target(0).active_flows, 1u);
  EXPECT_EQ(node.send(to_vip(40001)).kind, VerdictKind::forward);
}

TEST_P(TcpFlowTest, closed_flow_is_forgotten_soon) {
  balance(1);
  (void)open_flow(40000);
  (void)node.send(to_vip(40000, kFinAck));
  (void)node.send(from_target(0, 40000, kFinAck));
  FrameSpec last = to_vip(40000, kAck);
  last.payload = "";
  (void)node.send(last);
  node.pass_seconds(kClosedTimeoutSeconds + 1);
  node.sweep();
  EXPECT_EQ(node.table().used(), 0u);
}

TEST_P(TcpFlowTest, port_used_again_after_closing_is_a_new_flow) {
  balance(2);
  const std::uint16_t port = open_flow_to(1);
  (void)node.send(to_vip(port, kFinAck));
  (void)node.send(from_target(1, port, kFinAck));
  node.builder.target(1).gets_new_flows = false;
  node.publish();
  EXPECT_EQ(target_of(node.send(to_vip(port, kSyn))), 0u);
}

TEST_P(TcpFlowTest, fault_57_retransmitted_syn_goes_to_the_same_target) {
  balance(3);
  const std::uint32_t target = target_of(node.send(to_vip(40000, kSyn)));
  node.builder.target(target).gets_new_flows = false;
  node.publish();
  EXPECT_EQ(target_of(node.send(to_vip(40000, kSyn))), target);
}

TEST_P(TcpFlowTest, forged_rst_does_not_end_a_connection_that_speaks_on) {
  balance(1);
  (void)open_flow(40000);
  (void)node.send(to_vip(40000, kRst));
  (void)node.send(to_vip(40000, kAck));
  node.pass_seconds(kClosedTimeoutSeconds + 1);
  node.sweep();
  EXPECT_EQ(node.send(to_vip(40000, kAck)).kind, VerdictKind::forward);
  EXPECT_EQ(node.target(0).active_flows, 1u);
  EXPECT_EQ(node.listener(0).client_resets, 1u);
}

TEST_P(TcpFlowTest, numbers_are_forgotten_when_answers_pass_no_more) {
  balance(1);
  (void)open_flow(40000);
  node.builder.group(0).forwarding = MR_FORWARDING_DSR;
  node.publish();
  FrameSpec later = to_vip(40000, kFinAck);
  later.sequence += 1u << 30;
  EXPECT_EQ(node.send(later).kind, VerdictKind::forward);
  node.pass_seconds(kClosingTimeoutSeconds + 1);
  node.sweep();
  EXPECT_EQ(node.worker().flows_active, 0u);
}

TEST_P(TcpFlowTest, rst_without_a_flow_is_passed_on_and_not_remembered) {
  balance(1);
  EXPECT_EQ(node.send(to_vip(40000, kRst)).kind, VerdictKind::forward);
  EXPECT_EQ(node.table().used(), 0u);
}

TEST_P(TcpFlowTest, fault_20_syn_flood_is_forgotten_soon) {
  node.reset({.capacity = 64});
  balance(1);
  for (std::uint16_t port = 1000; port < 2000; ++port) (void)node.send(to_vip(port, kSyn));
  EXPECT_LE(node.table().used(), 64u);
  node.pass_seconds(kSynTimeoutSeconds + 1);
  node.sweep();
  EXPECT_EQ(node.table().used(), 0u);
  (void)open_flow(40000);
  EXPECT_EQ(node.worker().flows_active, 1u);
  EXPECT_TRUE(node.is_balanced());
}

}  // namespace
}  // namespace millrace::test
