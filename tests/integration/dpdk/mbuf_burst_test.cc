// SPDX-License-Identifier: Apache-2.0
//
// Mbufs to packet views and back, byte for byte.
#include "dataplane/dpdk/mbuf_burst.h"

#include <gtest/gtest.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <set>
#include <vector>

#include "dataplane/dpdk/mbuf_ring.h"
#include "tests/integration/dpdk/environment.h"

namespace millrace::dpdk {
namespace {

// A frame whose bytes are all different within 251 of them.
std::vector<std::uint8_t> pattern(std::size_t bytes) {
  std::vector<std::uint8_t> frame(bytes);
  for (std::size_t i = 0; i < bytes; ++i) frame[i] = static_cast<std::uint8_t>(i % 251);
  return frame;
}

std::vector<std::uint8_t> bytes_of(const core::Packet& packet) {
  return {packet.data, packet.data + packet.length};
}

// The frame in segments of the given sizes.
rte_mbuf* chain(const MbufPool& pool, const std::vector<std::uint8_t>& frame,
                const std::vector<std::size_t>& segment_bytes) {
  rte_mbuf* head = nullptr;
  std::size_t at = 0;
  for (const std::size_t bytes : segment_bytes) {
    rte_mbuf* segment = pool.take(3, std::span(frame).subspan(at, bytes));
    at += bytes;
    if (head == nullptr) {
      head = segment;
    } else {
      EXPECT_EQ(::rte_pktmbuf_chain(head, segment), 0);
    }
  }
  return head;
}

TEST(MbufBurst, view_describes_each_frame) {
  const MbufPool pool = test::make_pool();
  MbufBurst burst;
  const std::size_t lengths[] = {60, 1514, 0};
  for (const std::size_t length : lengths) {
    burst.mbufs[burst.view.count] =
        pool.take(static_cast<std::uint8_t>(burst.view.count), pattern(length));
    ++burst.view.count;
  }
  std::uint64_t bytes = 0;
  EXPECT_EQ(view_mbufs(burst, bytes), 0u);
  EXPECT_EQ(bytes, 1574u);
  ASSERT_EQ(burst.view.count, 3u);
  for (std::uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(bytes_of(burst.view.packets[i]), pattern(lengths[i]));
    EXPECT_EQ(burst.view.packets[i].headroom, RTE_PKTMBUF_HEADROOM);
    EXPECT_EQ(burst.view.packets[i].nic, i);
  }
  free_mbufs(std::span(burst.mbufs).first(burst.view.count));
  EXPECT_EQ(pool.available(), test::kPoolMbufs);
}

TEST(MbufBurst, fault_01_header_split_across_segments_is_put_together) {
  const MbufPool pool = test::make_pool();
  MbufBurst burst;
  burst.mbufs[0] = chain(pool, pattern(900), {7, 20, 873});
  burst.view.count = 1;
  std::uint64_t bytes = 0;
  EXPECT_EQ(view_mbufs(burst, bytes), 0u);
  EXPECT_EQ(bytes, 900u);
  ASSERT_EQ(burst.view.count, 1u);
  EXPECT_EQ(bytes_of(burst.view.packets[0]), pattern(900));
  EXPECT_EQ(burst.view.packets[0].nic, 3);
  free_mbufs(std::span(burst.mbufs).first(1));
  EXPECT_EQ(pool.available(), test::kPoolMbufs);
}

TEST(MbufBurst, fault_01_frame_in_more_pieces_than_fit_is_dropped_and_the_burst_closes_ranks) {
  const MbufPool pool = test::make_pool();
  MbufBurst burst;
  burst.mbufs[0] = pool.take(0, pattern(64));
  burst.mbufs[1] = chain(pool, pattern(4000), {2000, 2000});
  burst.mbufs[2] = pool.take(0, pattern(65));
  burst.view.count = 3;
  rte_mbuf* last = burst.mbufs[2];
  std::uint64_t bytes = 0;
  EXPECT_EQ(view_mbufs(burst, bytes), 1u);
  EXPECT_EQ(bytes, 4129u);
  ASSERT_EQ(burst.view.count, 2u);
  EXPECT_EQ(burst.mbufs[1], last);
  EXPECT_EQ(bytes_of(burst.view.packets[1]), pattern(65));
  free_mbufs(std::span(burst.mbufs).first(2));
  EXPECT_EQ(pool.available(), test::kPoolMbufs);
}

TEST(MbufBurst, what_the_forwarder_made_of_a_packet_is_written_back) {
  const MbufPool pool = test::make_pool();
  rte_mbuf* mbuf = pool.take(0, pattern(100));
  core::Packet packet{.data = rte_pktmbuf_mtod(mbuf, std::uint8_t*),
                      .length = 54,
                      .headroom = 0,
                      .nic = 0,
                      .reserved = 0};
  take_view(mbuf, packet);
  EXPECT_EQ(mbuf->pkt_len, 54u);
  EXPECT_EQ(mbuf->data_len, 54u);
  EXPECT_EQ(mbuf->data_off, RTE_PKTMBUF_HEADROOM);

  packet.data -= 20;  // encapsulated
  packet.length = 74;
  take_view(mbuf, packet);
  EXPECT_EQ(rte_pktmbuf_mtod(mbuf, std::uint8_t*), packet.data);
  EXPECT_EQ(mbuf->pkt_len, 74u);
  free_mbufs(std::span(&mbuf, 1));
}

TEST(MbufPool, frame_longer_than_an_mbuf_is_refused) {
  const MbufPool pool = test::make_pool();
  EXPECT_EQ(pool.take(0, pattern(kFrameBytesUsual + 1)), nullptr);
  EXPECT_EQ(pool.available(), test::kPoolMbufs);
}

TEST(MbufPool, empty_pool_gives_null_and_recovers) {
  const MbufPool pool = test::make_pool();
  std::vector<rte_mbuf*> taken;
  for (rte_mbuf* mbuf = pool.take(0); mbuf != nullptr; mbuf = pool.take(0)) taken.push_back(mbuf);
  EXPECT_EQ(taken.size(), test::kPoolMbufs);
  free_mbufs(taken);
  EXPECT_EQ(pool.available(), test::kPoolMbufs);
}

TEST(MbufPool, takes_all_that_is_asked_for_or_nothing) {
  const MbufPool pool = test::make_pool();
  std::vector<rte_mbuf*> most(test::kPoolMbufs - 5);
  ASSERT_TRUE(pool.take_all(3, most));
  EXPECT_TRUE(std::ranges::all_of(most, [](rte_mbuf* mbuf) { return nic_of(mbuf) == 3; }));
  EXPECT_EQ(std::set(most.begin(), most.end()).size(), most.size());
  std::array<rte_mbuf*, 6> more{};
  EXPECT_FALSE(pool.take_all(3, more));
  EXPECT_EQ(pool.available(), 5u);
  free_mbufs(most);
  EXPECT_EQ(pool.available(), test::kPoolMbufs);
}

TEST(MbufRing, keeps_order_refuses_what_does_not_fit_and_frees_what_is_left) {
  const MbufPool pool = test::make_pool();
  {
    Result<MbufRing> ring = MbufRing::create(test::unique_name("ring"), 4);
    ASSERT_TRUE(ring) << ring.error().message;
    std::array<rte_mbuf*, 5> mbufs;
    for (rte_mbuf*& mbuf : mbufs) mbuf = pool.take(0);
    EXPECT_EQ(ring->push(mbufs), 3u);
    free_mbufs(std::span(mbufs).subspan(3));
    std::array<rte_mbuf*, 2> out;
    ASSERT_EQ(ring->pop(out), 2u);
    EXPECT_EQ(out[0], mbufs[0]);
    EXPECT_EQ(out[1], mbufs[1]);
    free_mbufs(out);
  }
  EXPECT_EQ(pool.available(), test::kPoolMbufs);
}

}  // namespace
}  // namespace millrace::dpdk
