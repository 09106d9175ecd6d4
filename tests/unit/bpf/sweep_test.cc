// SPDX-License-Identifier: Apache-2.0
//
// What becomes of flow records as time passes. Programs are played by the test, which changes
// records between rounds.
#include "bpf/engine/sweep.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "dataplane/core/nanoseconds.h"
#include "dataplane/core/wire.h"
#include "tests/unit/bpf/engine_maps.h"

namespace millrace::test {
namespace {

class SweepTest : public ::testing::Test {
 protected:
  SweepTest() : image_(config_.builder.build(1)), sweep_(maps_.maps(), nullptr) {}

  mr_flow_record& put(std::uint32_t index, std::uint32_t listener, mr_flow_state state) {
    mr_flow_record& record = maps_.maps().flows[index];
    record = flow_of(image_.view(), static_cast<std::uint16_t>(1000 + index), listener, state);
    record.last_seen_tick = static_cast<std::uint32_t>(now_ns_ >> MR_TICK_SHIFT);
    return record;
  }
  void round() {
    now_ns_ += kSecondNs;
    sweep_.run_round(image_.view(), now_ns_);
  }
  void pass_seconds(std::uint64_t seconds) { now_ns_ += seconds * kSecondNs; }
  [[nodiscard]] bool is_free(std::uint32_t index) {
    return xdp::load_state(maps_.maps().flows[index]).word == 0;
  }

  EngineMaps maps_;
  Config config_;
  Image image_;
  xdp::Sweep sweep_;
  std::uint64_t now_ns_ = 1000 * kSecondNs;
};

TEST_F(SweepTest, counts_are_folded_once_into_the_daemons_row) {
  mr_flow_record& flow = put(5, kTcpListener, MR_FLOW_ESTABLISHED);
  flow.packets = 3;
  flow.bytes = 300;
  round();
  round();
  EXPECT_EQ(flow.packets, 0u);
  EXPECT_EQ(flow.bytes, 0u);
  const xdp::Maps maps = maps_.maps();
  const std::size_t row = 2;  // behind those of two CPUs
  EXPECT_EQ(maps.listener_stats[row * 8 + kTcpListener].packets, 3u);
  EXPECT_EQ(maps.listener_stats[row * 8 + kTcpListener].bytes, 300u);
  EXPECT_EQ(maps.target_stats[row * 8 + flow.target_slot].packets, 3u);
}

TEST_F(SweepTest, fault_82_packets_of_a_flow_are_not_counted_for_the_next_owner_of_its_slots) {
  mr_flow_record& flow = put(5, kTcpListener, MR_FLOW_ESTABLISHED);
  const std::uint32_t target_slot = flow.target_slot;
  flow.packets = 3;
  flow.bytes = 300;
  flow.listener_id += 1000;
  flow.target_id += 1000;
  round();
  const xdp::Maps maps = maps_.maps();
  const std::size_t row = 2;
  EXPECT_EQ(maps.listener_stats[row * 8 + kTcpListener].packets, 0u);
  EXPECT_EQ(maps.target_stats[row * 8 + target_slot].packets, 0u);
}

TEST_F(SweepTest, flow_that_goes_on_stays_and_is_counted_as_active) {
  mr_flow_record& flow = put(5, kTcpListener, MR_FLOW_ESTABLISHED);
  put(6, kUdpListener, MR_FLOW_UDP);
  round();
  EXPECT_EQ(flow.state, MR_FLOW_ESTABLISHED);
  EXPECT_EQ(sweep_.active_flows(), 2u);
  EXPECT_EQ(sweep_.target_flows()[flow.target_slot], 1u);
}

TEST_F(SweepTest, idle_connection_is_remembered_for_a_while_and_then_given_up) {
  mr_flow_record& flow = put(5, kTcpListener, MR_FLOW_ESTABLISHED);
  pass_seconds(kEstablishedTimeoutSeconds);
  round();
  EXPECT_EQ(flow.state, MR_FLOW_EXPIRED);
  EXPECT_EQ(sweep_.expired(), 1u);
  EXPECT_EQ(sweep_.active_flows(), 0u);
  pass_seconds(kExpiredTimeoutSeconds - 2);
  round();
  EXPECT_EQ(flow.state, MR_FLOW_EXPIRED);
  pass_seconds(2);
  round();
  EXPECT_EQ(flow.state, MR_XDP_FLOW_GONE);
  EXPECT_EQ(sweep_.removed(), 1u);
}

TEST_F(SweepTest, record_is_given_up_a_round_after_its_flow_and_free_a_round_later) {
  mr_flow_record& flow = put(5, kUdpListener, MR_FLOW_UDP);
  pass_seconds(kUdpTimeoutSeconds);
  round();
  EXPECT_EQ(flow.state, MR_XDP_FLOW_GONE) << "a program may still be using it";
  round();
  EXPECT_EQ(flow.state, MR_XDP_FLOW_REUSABLE);
  round();
  EXPECT_TRUE(is_free(5));
}

TEST_F(SweepTest, what_a_program_forgot_is_given_up_after_a_whole_round) {
  mr_flow_record& flow = put(5, kTcpListener, MR_FLOW_ESTABLISHED);
  round();
  flow.state = MR_XDP_FLOW_GONE;
  flow.packets = 1;
  flow.bytes = 40;
  round();
  EXPECT_EQ(flow.state, MR_XDP_FLOW_GONE);
  round();
  EXPECT_EQ(flow.state, MR_XDP_FLOW_REUSABLE);
  EXPECT_EQ(maps_.maps().listener_stats[2 * 8 + kTcpListener].packets, 1u);
  EXPECT_EQ(sweep_.removed(), 0u) << "counted by the program";
}

TEST_F(SweepTest, record_with_a_flow_behind_it_does_not_end_probes) {
  mr_flow_record& gone = put(5, kUdpListener, MR_FLOW_UDP);
  mr_flow_record& behind = put(6, kTcpListener, MR_FLOW_ESTABLISHED);
  pass_seconds(kUdpTimeoutSeconds);
  for (int i = 0; i < 5; ++i) round();
  EXPECT_EQ(gone.state, MR_XDP_FLOW_REUSABLE);
  EXPECT_EQ(behind.state, MR_FLOW_ESTABLISHED);
}

TEST_F(SweepTest, a_run_of_records_becomes_free_in_one_round) {
  for (std::uint32_t index = 60; index < 60 + 8; ++index) {  // over the end of the table
    put(index % 64, kUdpListener, MR_FLOW_UDP);
  }
  pass_seconds(kUdpTimeoutSeconds);
  round();
  round();
  // Records 0 to 3 are visited after 63 to 60 in a round: those wait for the next one.
  round();
  round();
  for (std::uint32_t index = 60; index < 60 + 8; ++index) EXPECT_TRUE(is_free(index % 64)) << index;
}

TEST_F(SweepTest, flow_of_a_target_or_listener_that_is_gone_goes) {
  mr_flow_record& no_target = put(5, kTcpListener, MR_FLOW_ESTABLISHED);
  mr_flow_record& no_listener = put(9, kUdpListener, MR_FLOW_UDP);
  mr_flow_record& stays = put(12, kTcpListener, MR_FLOW_ESTABLISHED);
  stays.target_slot = 1;
  stays.target_id = image_.view().targets[1].id;
  config_.builder.replace_target(0, {.addr = addr_of("10.0.1.99"), .port = 8080});
  config_.builder.free_listener(kUdpListener);
  image_ = config_.builder.build(2);
  round();
  EXPECT_EQ(no_target.state, MR_XDP_FLOW_GONE);
  EXPECT_EQ(no_listener.state, MR_XDP_FLOW_GONE);
  EXPECT_EQ(stays.state, MR_FLOW_ESTABLISHED);
  EXPECT_EQ(sweep_.expired(), 0u);
}

TEST_F(SweepTest, record_that_nobody_finishes_is_given_up) {
  mr_flow_record& record = put(5, kTcpListener, MR_FLOW_SYN);
  record.state = MR_XDP_FLOW_BUSY;
  round();
  EXPECT_EQ(record.state, MR_XDP_FLOW_BUSY);
  round();
  EXPECT_EQ(record.state, MR_XDP_FLOW_REUSABLE);
}

TEST_F(SweepTest, expired_flows_make_room_when_the_table_is_nearly_full) {
  for (std::uint32_t index = 0; index < 60; ++index) put(index, kTcpListener, MR_FLOW_EXPIRED);
  round();
  EXPECT_EQ(maps_.maps().flows[5].state, MR_FLOW_EXPIRED) << "not known to be full yet";
  round();
  EXPECT_EQ(maps_.maps().flows[5].state, MR_XDP_FLOW_GONE);
}

TEST_F(SweepTest, slices_see_every_record_once_a_second) {
  for (std::uint32_t index = 0; index < 64; ++index) put(index, kTcpListener, MR_FLOW_ESTABLISHED);
  sweep_.run(image_.view(), now_ns_);
  for (std::uint32_t slice = 0; slice < 1001; ++slice) {
    now_ns_ += kSecondNs / 1000;
    sweep_.run(image_.view(), now_ns_);
  }
  EXPECT_EQ(sweep_.active_flows(), 64u);
}

TEST_F(SweepTest, nothing_ends_before_there_is_a_config) {
  mr_flow_record& flow = put(5, kTcpListener, MR_FLOW_ESTABLISHED);
  pass_seconds(10'000);
  sweep_.run(core::ConfigView{}, now_ns_);
  sweep_.run_round(core::ConfigView{}, now_ns_);
  EXPECT_EQ(flow.state, MR_FLOW_ESTABLISHED);
}

TEST_F(SweepTest, flow_closed_by_a_rst_stays_longer_than_one_that_both_sides_closed) {
  mr_flow_record& reset = put(5, kTcpListener, MR_FLOW_CLOSED);
  reset.flags = MR_FLOW_RST_TARGET;
  mr_flow_record& closed = put(9, kTcpListener, MR_FLOW_CLOSED);
  closed.flags = MR_FLOW_FIN_CLIENT | MR_FLOW_FIN_TARGET;
  pass_seconds(kClosedTimeoutSeconds);
  round();
  EXPECT_EQ(closed.state, MR_XDP_FLOW_GONE);
  EXPECT_EQ(reset.state, MR_FLOW_CLOSED);
  EXPECT_EQ(sweep_.active_flows(), 0u);
  pass_seconds(kResetTimeoutSeconds);
  round();
  EXPECT_EQ(reset.state, MR_XDP_FLOW_GONE);
}

TEST_F(SweepTest, client_that_speaks_in_three_rounds_is_plausible) {
  mr_flow_record& udp = put(5, kUdpListener, MR_FLOW_UDP_NEW);
  mr_flow_record& tcp = put(9, kTcpListener, MR_FLOW_ESTABLISHED);
  mr_flow_record& opening = put(12, kTcpListener, MR_FLOW_SYN);
  mr_flow_record& silent = put(15, kUdpListener, MR_FLOW_UDP_NEW);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(udp.flags & MR_FLOW_PLAUSIBLE, 0);
    for (mr_flow_record* flow : {&udp, &tcp, &opening}) flow->packets = 1;
    round();
    round();  // nobody spoke in this one
  }
  EXPECT_NE(udp.flags & MR_FLOW_PLAUSIBLE, 0);
  EXPECT_EQ(udp.state, MR_FLOW_UDP);
  EXPECT_NE(tcp.flags & MR_FLOW_PLAUSIBLE, 0);
  EXPECT_EQ(opening.flags & MR_FLOW_PLAUSIBLE, 0);
  EXPECT_EQ(silent.state, MR_FLOW_UDP_NEW);
}

TEST_F(SweepTest, table_that_fills_up_gives_new_flows_up_and_keeps_confirmed_ones) {
  for (std::uint32_t index = 0; index < 62; ++index) put(index, kUdpListener, MR_FLOW_UDP_NEW);
  mr_flow_record& confirmed = maps_.maps().flows[5];
  confirmed.flags = MR_FLOW_CONFIRMED;
  // A RST may be forged.
  const mr_flow_record& reset = put(62, kTcpListener, MR_FLOW_CLOSED);
  maps_.maps().flows[62].flags = MR_FLOW_RST_CLIENT;
  round();
  EXPECT_EQ(maps_.maps().flows[7].state, MR_FLOW_UDP_NEW) << "not known to be full yet";
  pass_seconds(1);
  maps_.maps().flows[9].last_seen_tick =
      static_cast<std::uint32_t>((now_ns_ + kSecondNs) >> MR_TICK_SHIFT);
  round();
  EXPECT_EQ(maps_.maps().flows[7].state, MR_XDP_FLOW_GONE);
  EXPECT_EQ(maps_.maps().flows[9].state, MR_FLOW_UDP_NEW) << "has just spoken";
  EXPECT_EQ(confirmed.state, MR_FLOW_UDP_NEW);
  EXPECT_EQ(sweep_.given_up(), 61u);
  for (const mr_flow_record& given_up : {maps_.maps().flows[7], reset}) {
    const core::AddrWords addr = core::words_of(given_up.client_addr);
    const std::uint32_t hash =
        mr_xdp_flow_hash(&maps_.control(), addr.low, addr.high,
                         given_up.client_port_be | std::uint32_t{given_up.protocol} << 16);
    EXPECT_NE(maps_.maps().no_room[hash % MR_XDP_NO_ROOM_BITS / 64] >> hash % 64 & 1, 0u)
        << "its replies are translated";
  }
}

TEST_F(SweepTest, clients_that_found_no_room_are_forgotten_in_two_steps) {
  maps_.maps().no_room[17] = 1;
  round();
  pass_seconds(360);
  round();
  EXPECT_EQ(maps_.control().no_room_newer, 1u);
  EXPECT_EQ(maps_.maps().no_room[17], 1u);
  pass_seconds(360);
  round();
  EXPECT_EQ(maps_.control().no_room_newer, 0u);
  EXPECT_EQ(maps_.maps().no_room[17], 0u);
}

TEST_F(SweepTest, fault_90_second_record_of_one_flow_goes) {
  const mr_flow_record flow = flow_of(image_.view(), 4242, kTcpListener, MR_FLOW_ESTABLISHED);
  const core::AddrWords addr = core::words_of(flow.client_addr);
  const std::uint32_t first =
      mr_xdp_flow_hash(&maps_.control(), addr.low, addr.high,
                       flow.client_port_be | std::uint32_t{flow.protocol} << 16);
  std::vector<mr_flow_record*> records;
  for (const std::uint32_t probe : {1u, 3u, 4u}) {
    records.push_back(&maps_.maps().flows[(first + probe) & maps_.control().flow_mask]);
    *records.back() = flow;
    records.back()->last_seen_tick = static_cast<std::uint32_t>(now_ns_ >> MR_TICK_SHIFT);
  }
  records[2]->listener_id += 1'000;  // of a listener that is gone: no double
  round();
  EXPECT_EQ(records[0]->state, MR_FLOW_ESTABLISHED);
  EXPECT_EQ(records[1]->state, MR_XDP_FLOW_GONE);
  EXPECT_EQ(sweep_.active_flows(), 1u);
}

// A program ends an idle flow and enters a new one with the same word while the sweep looks at it.
TEST_F(SweepTest, fault_90_flow_that_takes_an_idle_ones_place_beside_the_sweep_lives) {
  mr_flow_record& flow = put(5, kTcpListener, MR_FLOW_SYN);
  pass_seconds(kSynTimeoutSeconds + 1);
  const std::uint32_t idle_tick = flow.last_seen_tick;
  const auto fresh_tick = static_cast<std::uint32_t>((now_ns_ + kSecondNs) >> MR_TICK_SHIFT);
  const std::uint32_t opening = xdp::load_state(flow).word;
  const std::uint32_t busy = xdp::load_state(flow).with(MR_XDP_FLOW_BUSY).word;
  std::atomic<bool> is_over = false;
  std::uint64_t killed = 0;
  std::thread program([&] {
    const auto word = xdp::state_word_of(flow);
    const std::atomic_ref<std::uint32_t> seen(flow.last_seen_tick);
    for (std::uint32_t i = 0; i < 20'000; ++i) {
      seen.store(idle_tick);
      word.store(opening);
      for (std::uint32_t pause = 0; pause < i % 64; ++pause) (void)word.load();
      word.exchange(busy);
      seen.store(fresh_tick + i);  // no two flows in the place were seen last at the same time
      std::uint32_t expected = busy;
      // A thread that lost its CPU in between is a program that never finishes: given up, rightly.
      if (!word.compare_exchange_strong(expected, opening)) continue;
      // The sweep may be about to find out that the flow is fresh.
      int looks = 0;
      while (word.load() != opening && ++looks < 50'000'000) std::this_thread::yield();
      killed += word.load() != opening;
    }
    is_over = true;
  });
  while (!is_over) sweep_.run_round(image_.view(), now_ns_);
  program.join();
  EXPECT_EQ(killed, 0u);
}

TEST_F(SweepTest, neighbour_that_no_flow_needs_is_given_back_after_two_rounds) {
  constexpr std::uint64_t kInUse = std::uint64_t{1} << 56;
  put(5, kTcpListener, MR_FLOW_ESTABLISHED).last_hop = 3;
  xdp::Maps maps = maps_.maps();
  for (const std::size_t index : {3u, 4u, 6u}) maps.last_hops[index].word = kInUse | index;
  maps.last_hops[6].learned_tick =
      static_cast<std::uint32_t>((now_ns_ + kSecondNs) >> MR_TICK_SHIFT);
  round();
  EXPECT_EQ(maps.last_hops[3].word, kInUse | 3);
  EXPECT_EQ(maps.last_hops[4].word, 4u) << "out of use";
  EXPECT_EQ(maps.last_hops[6].word, kInUse | 6) << "its flow may not have been seen yet";
  round();
  EXPECT_EQ(maps.last_hops[4].word, 0u) << "forgotten";
  EXPECT_EQ(maps.last_hops[3].word, kInUse | 3);
}

TEST_F(SweepTest, neighbour_that_a_flow_learned_as_it_went_out_of_use_comes_back) {
  xdp::Maps maps = maps_.maps();
  maps.last_hops[4].word = (std::uint64_t{1} << 56) | 4;
  round();
  ASSERT_EQ(maps.last_hops[4].word, 4u);
  put(5, kTcpListener, MR_FLOW_ESTABLISHED).last_hop = 4;
  round();
  EXPECT_EQ(maps.last_hops[4].word, (std::uint64_t{1} << 56) | 4);
}

TEST_F(SweepTest, nothing_is_said_to_be_counted_before_a_round_with_a_config) {
  sweep_.run_round(core::ConfigView{}, now_ns_);
  EXPECT_FALSE(sweep_.has_counted());
  round();
  EXPECT_TRUE(sweep_.has_counted());
}

}  // namespace
}  // namespace millrace::test
