// SPDX-License-Identifier: Apache-2.0
//
// Counters of programs and daemon as the control plane sees them.
#include "bpf/engine/stats_copy.h"

#include <gtest/gtest.h>

#include "tests/support/cc/temp_dir.h"
#include "tests/unit/bpf/engine_maps.h"

namespace millrace::test {
namespace {

class StatsCopyTest : public ::testing::Test {
 protected:
  StatsCopyTest() : image_(config_.builder.build(1)), sweep_(maps_.maps(), nullptr) {
    Result<shm::StatsWriter> stats =
        shm::StatsWriter::create(dir_.file("stats"), {.engine_kind = MR_ENGINE_XDP,
                                                      .worker_count = 2,
                                                      .listener_slots = 8,
                                                      .target_slots = 8,
                                                      .nics = {},
                                                      .flow_table_dir = {}});
    EXPECT_TRUE(stats.has_value());
    stats_.emplace(std::move(*stats));
    EXPECT_TRUE(stats_->publish());
  }

  // Each CPU's slots have their turn.
  void publish(xdp::StatsCopy& copy) {
    copy.publish(sweep_, image_.view(), 5000);
    copy.publish(sweep_, image_.view(), 5000);
  }

  EngineMaps maps_;
  Config config_;
  Image image_;
  xdp::Sweep sweep_;
  TempDir dir_;
  std::optional<shm::StatsWriter> stats_;
};

TEST_F(StatsCopyTest, counts_from_the_start_of_the_daemon_though_maps_go_on) {
  xdp::Maps maps = maps_.maps();
  maps.cpus[1].stats.counters[MR_COUNTER_RX_PACKETS] = 1000;
  maps.cpus[1].stats.counters[MR_COUNTER_PUNTED_PACKETS] = 950;
  maps.cpus[1].stats.drops[MR_DROP_NO_LISTENER] = 50;
  maps.listener_stats[1 * 8 + kTcpListener].new_flows = 70;
  xdp::StatsCopy copy(maps, *stats_);
  maps.cpus[1].stats.counters[MR_COUNTER_RX_PACKETS] += 3;
  maps.cpus[1].stats.drops[MR_DROP_NO_LISTENER] += 2;
  maps.listener_stats[1 * 8 + kTcpListener].new_flows += 1;
  publish(copy);
  EXPECT_EQ(stats_->worker(1).counters[MR_COUNTER_RX_PACKETS], 3u);
  EXPECT_EQ(stats_->worker(1).drops[MR_DROP_NO_LISTENER], 2u);
  EXPECT_EQ(stats_->listeners(1)[kTcpListener].new_flows, 1u);
  EXPECT_EQ(stats_->worker(0).counters[MR_COUNTER_RX_PACKETS], 0u);
  EXPECT_EQ(stats_->worker(1).heartbeat_ns, 5000u);
  EXPECT_EQ(stats_->worker(1).cpu, 1u);
}

TEST_F(StatsCopyTest, packet_under_way_when_the_daemon_starts_counts_whole) {
  xdp::Maps maps = maps_.maps();
  mr_worker_stats& cpu = maps.cpus[0].stats;
  cpu.counters[MR_COUNTER_RX_PACKETS] = 11;
  cpu.counters[MR_COUNTER_FORWARDED_PACKETS] = 10;
  xdp::StatsCopy copy(maps, *stats_);
  cpu.counters[MR_COUNTER_FORWARDED_PACKETS] = 11;
  publish(copy);
  EXPECT_EQ(stats_->worker(0).counters[MR_COUNTER_RX_PACKETS], 1u);
  EXPECT_EQ(stats_->worker(0).counters[MR_COUNTER_FORWARDED_PACKETS], 1u);
}

TEST_F(StatsCopyTest, the_daemons_own_row_is_shown_as_the_first_workers) {
  xdp::Maps maps = maps_.maps();
  xdp::StatsCopy copy(maps, *stats_);
  maps.listener_stats[2 * 8 + kTcpListener].bytes = 400;
  maps.target_stats[2 * 8 + 1].packets = 4;
  maps.target_stats[0 * 8 + 1].packets = 1;
  copy.add_announced(6);
  publish(copy);
  EXPECT_EQ(stats_->listeners(0)[kTcpListener].bytes, 400u);
  EXPECT_EQ(stats_->targets(0)[1].packets, 5u);
  EXPECT_EQ(stats_->listeners(1)[kTcpListener].bytes, 0u);
  EXPECT_EQ(stats_->worker(0).counters[MR_COUNTER_ANNOUNCED], 6u);
}

TEST_F(StatsCopyTest, gauges_are_those_of_the_last_round) {
  xdp::Maps maps = maps_.maps();
  xdp::StatsCopy copy(maps, *stats_);
  maps.flows[3] = flow_of(image_.view(), 1000, kTcpListener, MR_FLOW_ESTABLISHED);
  sweep_.run_round(image_.view(), 1'000'000);
  publish(copy);
  EXPECT_EQ(stats_->worker(0).flows_active, 1u);
  EXPECT_EQ(stats_->worker(0).flows_capacity, 64u);
  EXPECT_EQ(stats_->targets(0)[0].active_flows, 1u);
}

TEST_F(StatsCopyTest, acknowledgement_is_every_workers) {
  xdp::StatsCopy copy(maps_.maps(), *stats_);
  copy.acknowledge(12);
  sweep_.run_round(image_.view(), 1'000'000);
  publish(copy);
  EXPECT_EQ(stats_->worker(0).acknowledged_generation, 12u);
  EXPECT_EQ(stats_->worker(1).acknowledged_generation, 12u);
  EXPECT_EQ(stats_->worker(0).counters[MR_COUNTER_CONFIG_ADOPTED], 1u);
}

// "0" of a daemon that has just started would say that nobody needs a drained target any more.
TEST_F(StatsCopyTest, fault_74_acknowledgement_waits_for_the_first_count_of_flows) {
  xdp::Maps maps = maps_.maps();
  maps.flows[3] = flow_of(image_.view(), 1000, kTcpListener, MR_FLOW_ESTABLISHED);
  xdp::StatsCopy copy(maps, *stats_);
  copy.acknowledge(7);
  publish(copy);
  EXPECT_EQ(stats_->worker(0).acknowledged_generation, 0u);
  EXPECT_EQ(stats_->worker(1).acknowledged_generation, 0u);
  sweep_.run_round(core::ConfigView{}, 1'000'000);  // of no config: counts nothing
  publish(copy);
  EXPECT_EQ(stats_->worker(0).acknowledged_generation, 0u);
  sweep_.run_round(image_.view(), 1'000'000);
  publish(copy);
  EXPECT_EQ(stats_->targets(0)[0].active_flows, 1u);
  EXPECT_EQ(stats_->worker(0).acknowledged_generation, 7u);
  EXPECT_EQ(stats_->worker(1).acknowledged_generation, 7u);
  copy.acknowledge(8);
  EXPECT_EQ(stats_->worker(1).acknowledged_generation, 8u) << "at once from then on";
}

}  // namespace
}  // namespace millrace::test
