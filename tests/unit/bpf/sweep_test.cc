// SPDX-License-Identifier: Apache-2.0
//
// What becomes of flow records as time passes. Programs are played by the test, which changes
// records between rounds.
#include "bpf/engine/sweep.h"

#include <gtest/gtest.h>

#include "tests/unit/bpf/engine_maps.h"

namespace millrace::test {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;

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

}  // namespace
}  // namespace millrace::test
