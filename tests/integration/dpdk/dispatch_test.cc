// SPDX-License-Identifier: Apache-2.0
//
// Verdicts to nic, twin or pool, and where a packet is counted when there is no room for it.
#include "dataplane/worker/dispatch.h"

#include <gtest/gtest.h>

#include "tests/integration/dpdk/workers.h"

namespace millrace::test {
namespace {

TEST(Dispatch, forwarded_frame_leaves_with_the_length_and_addresses_of_the_forwarder) {
  const Image image = balancer_image(1);
  Workers workers({});
  workers.publish(image);
  workers.receive(0, {syn(1)});
  workers.turn();
  const std::vector<Bytes> sent = workers.sent();
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].size(), syn(1).size());
  const Bytes expected_macs = {2, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 0x10};
  EXPECT_EQ(Bytes(sent[0].begin(), sent[0].begin() + 12), expected_macs);
  EXPECT_EQ(workers.stats(0).counters[MR_COUNTER_FORWARDED_BYTES], sent[0].size());
  EXPECT_EQ(workers.stats(0).counters[MR_COUNTER_RX_BYTES], sent[0].size());
}

TEST(Dispatch, own_reply_goes_back_and_is_no_forwarded_packet) {
  const Image image = balancer_image(1);
  Workers workers({});
  workers.publish(image);
  workers.receive(0, {frame("eth client > ff:ff:ff:ff:ff:ff / arp request sender_mac client "
                            "sender 198.51.100.1 target 203.0.113.10")});
  workers.turn();
  ASSERT_EQ(workers.sent().size(), 1u);
  EXPECT_EQ(workers.stats(0).counters[MR_COUNTER_REPLIED_PACKETS], 1u);
  EXPECT_EQ(workers.stats(0).counters[MR_COUNTER_FORWARDED_PACKETS], 0u);
  workers.expect_balance();
}

TEST(Dispatch, fault_29_full_tx_ring_drops_counts_and_recovers) {
  const Image image = balancer_image(1);
  Workers workers({.tx_ring_size = 16});  // holds 15
  workers.publish(image);
  const Bytes arp = frame(
      "eth client > ff:ff:ff:ff:ff:ff / arp request sender_mac client "
      "sender 198.51.100.1 target 203.0.113.10");
  std::vector<Bytes> frames;
  for (std::uint32_t i = 0; i < 20; ++i) frames.push_back(i % 2 == 0 ? syn(i) : arp);
  workers.receive(0, frames);
  workers.turn();
  std::uint64_t bytes = 0;
  for (const Bytes& sent : workers.sent())
    bytes += sent[12] == 0x08 && sent[13] == 0 ? sent.size() : 0;
  EXPECT_EQ(workers.stats(0).drops[MR_DROP_TX_FULL], 5u);
  EXPECT_EQ(workers.stats(0).counters[MR_COUNTER_FORWARDED_PACKETS], 8u);
  EXPECT_EQ(workers.stats(0).counters[MR_COUNTER_REPLIED_PACKETS], 7u);
  EXPECT_EQ(workers.stats(0).counters[MR_COUNTER_FORWARDED_BYTES], bytes);
  workers.expect_balance();

  workers.receive(0, {syn(100)});
  workers.turn();
  EXPECT_EQ(workers.sent().size(), 1u);
  workers.expect_balance();
}

TEST(Dispatch, full_tx_ring_after_replies_drops_forwarded_packets_as_such) {
  const Image image = balancer_image(1);
  Workers workers({.tx_ring_size = 16});
  workers.publish(image);
  const Bytes arp = frame(
      "eth client > ff:ff:ff:ff:ff:ff / arp request sender_mac client "
      "sender 198.51.100.1 target 203.0.113.10");
  workers.receive(0, std::vector<Bytes>(20, arp));
  workers.turn();
  ASSERT_EQ(workers.sent().size(), 15u);

  std::vector<Bytes> requests;
  for (std::uint32_t i = 0; i < 20; ++i) requests.push_back(syn(i));
  workers.receive(0, requests);
  workers.turn();
  EXPECT_EQ(workers.stats(0).counters[MR_COUNTER_REPLIED_PACKETS], 15u);
  EXPECT_EQ(workers.stats(0).counters[MR_COUNTER_FORWARDED_PACKETS], 15u);
  EXPECT_EQ(workers.stats(0).drops[MR_DROP_TX_FULL], 10u);
  workers.expect_balance();
}

TEST(Dispatch, fault_29_empty_pool_stops_nothing_for_good) {
  const Image image = balancer_image(1);
  Workers workers({});
  workers.publish(image);
  std::vector<rte_mbuf*> taken;
  for (rte_mbuf* mbuf = workers.pool().take(0); mbuf != nullptr; mbuf = workers.pool().take(0)) {
    taken.push_back(mbuf);
  }
  workers.turn();
  dpdk::free_mbufs(taken);
  workers.receive(0, {syn(1)});
  workers.turn();
  EXPECT_EQ(workers.sent().size(), 1u);
  workers.expect_balance();
}

TEST(Dispatch, punt_without_a_twin_is_a_counted_drop) {
  const Image image = balancer_image(1);
  Workers workers({});
  workers.publish(image);
  workers.receive(
      0, {frame("eth client > node / ip 198.51.100.1 > 192.0.2.1 / icmp type 8 id 1 seq 1")});
  workers.turn();
  EXPECT_EQ(workers.stats(0).counters[MR_COUNTER_PUNTED_PACKETS], 0u);
  EXPECT_EQ(workers.stats(0).drops[MR_DROP_PUNT_FULL], 1u);
  workers.expect_balance();
}

TEST(Dispatch, before_the_first_config_everything_is_punted) {
  Workers workers({});
  workers.receive(0, {syn(1), syn(2)});
  workers.turn();
  EXPECT_EQ(workers.stats(0).drops[MR_DROP_PUNT_FULL], 2u);
  EXPECT_TRUE(workers.sent().empty());
  workers.expect_balance();
}

TEST(Dispatch, fault_01_runts_are_counted_once) {
  const Image image = balancer_image(1);
  Workers workers({});
  workers.publish(image);
  workers.receive(0, {Bytes{}, Bytes(1, 0xff), Bytes(13, 0xff)});
  workers.turn();
  EXPECT_EQ(workers.stats(0).drops[MR_DROP_MALFORMED_L2], 3u);
  workers.expect_balance();
}

TEST(Dispatch, what_others_own_reaches_their_rings_in_order_and_is_counted_by_what_fits) {
  Workers environment({});  // for its pool
  Result<worker::HandoverRings> rings = worker::HandoverRings::create(3);
  ASSERT_TRUE(rings) << rings.error().message;
  mr_worker_stats counters{};
  worker::Handover handover(*rings, 0, counters);
  worker::Dispatch dispatch({}, counters, &handover);
  std::vector<std::uint8_t> given[3];  // to each worker: the first byte of each frame
  constexpr std::uint32_t kBursts = 60;
  for (std::uint32_t i = 0; i < kBursts; ++i) {
    dpdk::MbufBurst burst;
    burst.view.count = core::kBurstMax;
    for (std::uint32_t k = 0; k < core::kBurstMax; ++k) {
      const Bytes frame(60, static_cast<std::uint8_t>(i + k));
      burst.mbufs[k] = environment.pool().take(0, frame);
      ASSERT_NE(burst.mbufs[k], nullptr);
      const std::uint32_t owner = k % 4 == 0 ? 2 : 1;  // three of four to worker 1: too many
      burst.view.verdicts[k] = core::Verdict::hand_over(owner);
      given[owner].push_back(frame[0]);
    }
    std::uint64_t bytes = 0;
    (void)dpdk::view_mbufs(burst, bytes);
    dispatch.act(burst);
  }
  constexpr std::uint32_t kRoom = worker::kHandoverRingSize - 1;
  const std::uint64_t refused = given[1].size() - kRoom;
  EXPECT_EQ(counters.counters[MR_COUNTER_HANDOVER_OUT], kRoom + given[2].size());
  EXPECT_EQ(counters.drops[MR_DROP_HANDOVER_FULL], refused);

  given[1].resize(kRoom);  // the last did not fit
  for (std::uint32_t owner = 1; owner < 3; ++owner) {
    mr_worker_stats others{};
    worker::Handover end(*rings, owner, others);
    std::vector<std::uint8_t> got;
    dpdk::MbufBurst burst;
    for (end.take(burst); burst.view.count > 0; end.take(burst)) {
      for (std::uint32_t k = 0; k < burst.view.count; ++k) {
        got.push_back(burst.view.packets[k].data[0]);
        EXPECT_EQ(burst.view.packets[k].length, 60u);
      }
      dpdk::free_mbufs(std::span(burst.mbufs).first(burst.view.count));
    }
    EXPECT_EQ(got, given[owner]);
    EXPECT_EQ(others.counters[MR_COUNTER_HANDOVER_IN], got.size());
  }
}

}  // namespace
}  // namespace millrace::test
