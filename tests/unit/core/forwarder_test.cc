// SPDX-License-Identifier: Apache-2.0
//
// What the packet path does with flows, for IPv4 and IPv6, TCP and UDP. Headers and malformed
// packets are judged by the golden packets (tests/packets).
#include "tests/unit/core/family.h"

namespace millrace::test {
namespace {

using core::VerdictKind;

INSTANTIATE_TEST_SUITE_P(All, ForwarderTest, testing::ValuesIn(kAllTraffic), name_of);

TEST_P(ForwarderTest, client_keeps_its_address_and_the_reply_comes_from_the_vip) {
  balance(3);
  const Outcome there = node.send(to_vip(40000, kSyn));
  const std::uint32_t target = target_of(there);
  const FrameSpec at_target = read_frame(there.frame);
  EXPECT_EQ(at_target.source, client_addr());
  EXPECT_EQ(at_target.source_port, 40000);
  EXPECT_EQ(at_target.destination_port, 8080);
  EXPECT_EQ(at_target.ttl, 63);
  EXPECT_EQ(at_target.payload, "odd");
  EXPECT_EQ(destination_mac(there.frame), target_mac(target));
  EXPECT_TRUE(checksums_hold(there.frame));

  const Outcome back = node.send(from_target(target, 40000, kSynAck));
  ASSERT_EQ(back.kind, VerdictKind::forward);
  const FrameSpec at_client = read_frame(back.frame);
  EXPECT_EQ(at_client.source, vip());
  EXPECT_EQ(at_client.source_port, 80);
  EXPECT_EQ(at_client.destination, client_addr());
  EXPECT_EQ(at_client.ttl, 63);
  EXPECT_EQ(destination_mac(back.frame), "02:00:00:00:00:64") << "the neighbour it came from";
  EXPECT_TRUE(checksums_hold(back.frame));
  EXPECT_TRUE(node.is_balanced());
}

TEST_P(ForwarderTest, dsr_rewrites_only_the_link_header) {
  balance(3, MR_FORWARDING_DSR);
  const std::vector<std::uint8_t> before = make_frame(to_vip(40000, kSyn));
  const Outcome outcome = node.send(before);
  ASSERT_EQ(outcome.kind, VerdictKind::forward);
  EXPECT_TRUE(std::equal(before.begin() + 12, before.end(), outcome.frame.begin() + 12));
  EXPECT_EQ(destination_mac(outcome.frame).substr(0, 15), "02:00:00:00:01:");
  const std::string chosen = destination_mac(outcome.frame);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(destination_mac(node.send(to_vip(40000, kAck)).frame), chosen);
  }
}

TEST_P(ForwarderTest, packet_without_room_for_an_outer_header_is_dropped) {
  node.builder.set_encap_source(addr_of(traffic().is_v6 ? "fd00:10:1::1" : "10.0.1.1"));
  balance(1, MR_FORWARDING_IPIP);
  const Outcome kept_out = node.send(to_vip(40000, kSyn));  // a Node's frames have no headroom
  EXPECT_EQ(kept_out.kind, VerdictKind::drop);
  EXPECT_EQ(kept_out.reason, MR_DROP_TOO_BIG);
  node.builder.target(0).mtu = 64;
  node.publish();
  EXPECT_EQ(node.send(to_vip(40000, kAck)).reason, MR_DROP_TOO_BIG) << "nor for the answer";
  EXPECT_EQ(node.counter(MR_COUNTER_TOO_BIG_SENT), 0u);
  EXPECT_TRUE(node.is_balanced());
}

TEST_P(ForwarderTest, known_flow_keeps_target_while_others_come_and_go) {
  balance(3);
  std::vector<std::uint32_t> chosen;
  for (std::uint16_t port = 20000; port < 20050; ++port) chosen.push_back(open_flow(port));
  node.builder.add_target({.group_slot = 0,
                           .addr = addr_of(target_addr(3)),
                           .port = 8080,
                           .protocol = traffic().protocol,
                           .next_hop = next_hop_of(target_mac(3))});
  node.publish();
  for (std::uint16_t port = 20000; port < 20050; ++port) {
    EXPECT_EQ(target_of(node.send(to_vip(port))), chosen[port - 20000]);
  }
}

TEST_P(ForwarderTest, fault_48_draining_target_keeps_known_flows_and_gets_no_new_ones) {
  balance(3);
  const std::uint16_t port = open_flow_to(1);
  node.builder.target(1).gets_new_flows = false;
  node.publish();
  EXPECT_EQ(target_of(node.send(to_vip(port))), 1u);
  for (std::uint16_t fresh = 30000; fresh < 30100; ++fresh) {
    EXPECT_NE(target_of(node.send(to_vip(fresh, kSyn))), 1u);
  }
}

TEST_P(ForwarderTest, fault_49_slot_reused_by_another_machine_gets_no_old_flow) {
  balance(2);
  const std::uint16_t port = open_flow_to(1);
  node.builder.replace_target(1, {.group_slot = 0,
                                  .addr = addr_of(target_addr(4)),
                                  .port = 8080,
                                  .protocol = traffic().protocol,
                                  .gets_new_flows = false,
                                  .next_hop = next_hop_of(target_mac(4))});
  node.publish_without_history();
  EXPECT_EQ(target_of(node.send(to_vip(port))), 0u);
}

TEST_P(ForwarderTest, target_that_resets_flows_answers_tcp_with_rst_and_moves_udp) {
  balance(2);
  const std::uint16_t port = open_flow_to(1);
  node.builder.target(1).gets_new_flows = false;
  node.builder.target(1).flags = MR_TARGET_RESETS_FLOWS;
  node.publish();
  const Outcome outcome = node.send(to_vip(port));
  if (!is_tcp()) {
    EXPECT_EQ(target_of(outcome), 0u);
    return;
  }
  ASSERT_EQ(outcome.kind, VerdictKind::reply);
  EXPECT_EQ(read_frame(outcome.frame).tcp_flags, kRst);
  EXPECT_EQ(node.counter(MR_COUNTER_RST_SENT), 1u);
  EXPECT_EQ(node.listener(0).balancer_resets, 1u);
}

TEST_P(ForwarderTest, group_without_targets_drops_with_no_target) {
  balance(0);
  const Outcome outcome = node.send(to_vip(40000, kSyn));
  EXPECT_EQ(outcome.kind, VerdictKind::drop);
  EXPECT_EQ(node.dropped(MR_DROP_NO_TARGET), 1u);
  EXPECT_EQ(node.listener(0).rejected_flows, 1u);
  EXPECT_TRUE(node.is_balanced());
}

TEST_P(ForwarderTest, unresolved_next_hop_drops_with_a_counter_and_recovers) {
  balance(1);
  node.builder.target(0).next_hop.flags = 0;
  node.publish();
  EXPECT_EQ(node.send(to_vip(40000, kSyn)).reason, MR_DROP_NEXT_HOP_UNRESOLVED);
  EXPECT_EQ(node.target(0).unresolved_packets, 1u);
  EXPECT_EQ(node.target(0).active_flows, 0u);
  node.builder.target(0).next_hop.flags = MR_NEXT_HOP_RESOLVED;
  node.publish();
  EXPECT_EQ(target_of(node.send(to_vip(40000, kSyn))), 0u);
}

TEST_P(ForwarderTest, fault_53_reply_follows_a_gateway_that_changed_its_mac_address) {
  balance(1);
  (void)open_flow(40000);
  FrameSpec moved = to_vip(40000);
  moved.source_mac = "02:00:00:00:00:77";
  EXPECT_EQ(node.send(moved).kind, VerdictKind::forward);
  EXPECT_EQ(destination_mac(node.send(from_target(0, 40000)).frame), "02:00:00:00:00:77");
}

TEST_P(ForwarderTest, insert_budget_leaves_flows_untracked_but_consistent) {
  node.reset({.flow_inserts_per_ms = 1});
  balance(3);
  (void)node.send(to_vip(20000, kSyn));
  const std::uint32_t untracked = target_of(node.send(to_vip(20001, kSyn)));
  EXPECT_EQ(node.counter(MR_COUNTER_INSERT_REFUSED), 1u);
  EXPECT_EQ(target_of(node.send(to_vip(20001, kAck))), untracked);
}

TEST_P(ForwarderTest, counts_reach_listener_and_target_by_the_sweep) {
  balance(1);
  (void)open_flow(40000);
  EXPECT_EQ(node.target(0).new_flows, 1u);
  EXPECT_EQ(node.target(0).active_flows, 1u);
  EXPECT_EQ(node.worker().flows_active, 1u);
  node.sweep();
  EXPECT_EQ(node.target(0).packets, 3u);
  EXPECT_EQ(node.listener(0).packets, 3u);
  const std::uint64_t headers = (traffic().is_v6 ? 40 : 20) + (is_tcp() ? 20 : 8);
  EXPECT_EQ(node.target(0).bytes, 3 * headers + 3 + 4 + 3);
  node.sweep();
  EXPECT_EQ(node.target(0).packets, 3u) << "folded once";
}

TEST_P(ForwarderTest, fault_82_packets_of_a_flow_are_not_counted_for_the_next_owner_of_its_slots) {
  balance(1);
  (void)open_flow(40000);
  node.builder.replace_target(0, node.builder.target(0));
  node.publish();
  node.sweep();
  EXPECT_EQ(node.target(0).packets, 0u);
  EXPECT_EQ(node.listener(0).packets, 3u) << "which has its owner still";
}

TEST_P(ForwarderTest, idle_flow_is_forgotten_and_the_gauges_fall) {
  balance(1);
  (void)open_flow(40000);
  node.pass_seconds(kEstablishedTimeoutSeconds + 1);
  node.sweep();
  EXPECT_EQ(node.target(0).active_flows, 0u);
  EXPECT_EQ(node.counter(MR_COUNTER_FLOW_EXPIRED), 1u);
  node.pass_seconds(kExpiredTimeoutSeconds + 1);
  node.sweep();
  EXPECT_EQ(node.table().used(), 0u);
}

TEST_P(ForwarderTest, traffic_in_either_direction_keeps_a_flow_alive) {
  balance(1);
  (void)open_flow(40000);
  for (int turn = 0; turn < 10; ++turn) {
    node.pass_seconds(kUdpTimeoutSeconds - 1);
    node.sweep();
    EXPECT_EQ(node.send(from_target(0, 40000)).kind, VerdictKind::forward);
  }
  EXPECT_EQ(node.target(0).active_flows, 1u);
}

TEST_P(ForwarderTest, fault_34_flows_survive_the_process) {
  balance(3);
  std::vector<std::uint32_t> chosen;
  for (std::uint16_t port = 20000; port < 20100; ++port) chosen.push_back(open_flow(port));
  const std::uint64_t active = node.worker().flows_active;
  node.restart();
  EXPECT_EQ(node.worker().flows_active, active);
  EXPECT_EQ(node.target(0).active_flows + node.target(1).active_flows + node.target(2).active_flows,
            active);
  node.builder.target(0).gets_new_flows = false;
  node.publish();
  for (std::uint16_t port = 20000; port < 20100; ++port) {
    EXPECT_EQ(target_of(node.send(to_vip(port))), chosen[port - 20000]);
    EXPECT_EQ(node.send(from_target(chosen[port - 20000], port)).kind, VerdictKind::forward);
  }
  EXPECT_TRUE(node.is_balanced());
}

TEST_P(ForwarderTest, other_traffic_of_the_interface_is_the_kernels) {
  balance(1);
  FrameSpec to_node = to_vip(40000, kSyn);
  to_node.destination = traffic().is_v6 ? "2001:db8:2::1" : "192.0.2.1";
  const std::vector<std::uint8_t> frame = make_frame(to_node);
  const Outcome outcome = node.send(frame);
  EXPECT_EQ(outcome.kind, VerdictKind::punt);
  EXPECT_EQ(outcome.frame, frame) << "untouched";
}

TEST_P(ForwarderTest, reply_to_the_nodes_own_probe_is_the_kernels) {
  node.builder.add_local_addr(addr_of(traffic().is_v6 ? "fd00:10:1::1" : "10.0.1.1"));
  balance(1);
  FrameSpec probe_reply = from_target(0, 50000, kSynAck);
  probe_reply.destination = traffic().is_v6 ? "fd00:10:1::1" : "10.0.1.1";
  EXPECT_EQ(node.send(probe_reply).kind, VerdictKind::punt);
}

TEST_P(ForwarderTest, flooded_frame_of_another_mac_is_dropped) {
  balance(1);
  std::vector<std::uint8_t> frame = make_frame(to_vip(40000, kSyn));
  frame[5] = 0x99;
  EXPECT_EQ(node.send(frame).reason, MR_DROP_OTHER_MAC);
  frame[0] = 0xff;  // a broadcast frame with a packet to a VIP in it
  EXPECT_EQ(node.send(frame).reason, MR_DROP_OTHER_MAC);
  EXPECT_EQ(node.table().used(), 0u);
  EXPECT_TRUE(node.is_balanced());
}

TEST_P(ForwarderTest, without_a_config_everything_is_the_kernels) {
  EXPECT_EQ(node.send(to_vip(40000, kSyn)).kind, VerdictKind::punt);
  EXPECT_TRUE(node.is_balanced());
}

}  // namespace
}  // namespace millrace::test
