// SPDX-License-Identifier: Apache-2.0
#include "dataplane/worker/housekeeping.h"

#include <gtest/gtest.h>

#include "dataplane/core/nanoseconds.h"
#include "tests/integration/dpdk/workers.h"

namespace millrace::test {
namespace {

TEST(Housekeeping, newest_config_is_adopted_and_acknowledged) {
  const Image first = balancer_image(7);
  const Image second = balancer_image(8);
  Workers workers({.worker_count = 2});
  EXPECT_EQ(workers.stats(0).acknowledged_generation, 0u);
  workers.publish(first);
  EXPECT_EQ(workers.stats(0).acknowledged_generation, 7u);
  EXPECT_EQ(workers.stats(1).acknowledged_generation, 7u);
  workers.publish(second);
  EXPECT_EQ(workers.stats(0).acknowledged_generation, 8u);
  EXPECT_EQ(workers.stats(0).counters[MR_COUNTER_CONFIG_ADOPTED], 2u);
  workers.configs().collect();
  EXPECT_EQ(workers.configs().kept_count(), 1u);
}

TEST(Housekeeping, counters_reach_the_stats_segment_only_there) {
  const Image image = balancer_image(1);
  Workers workers({});
  workers.publish(image);
  workers.receive(0, {syn(1)});
  EXPECT_EQ(workers.worker(0).turn(kStartNs), 1u);
  EXPECT_EQ(workers.stats(0).counters[MR_COUNTER_RX_PACKETS], 0u);
  (void)workers.worker(0).keep_house(kStartNs + 5);
  EXPECT_EQ(workers.stats(0).counters[MR_COUNTER_RX_PACKETS], 1u);
  EXPECT_EQ(workers.stats(0).heartbeat_ns, kStartNs + 5);
  EXPECT_EQ(workers.stats(0).flows_active, 1u);
  EXPECT_EQ(workers.stats(0).flows_capacity, 4096u);
}

// Steps of housekeeping for `seconds`; returns the time reached.
std::uint64_t keep_house_for(Workers& workers, std::uint64_t from_ns, std::uint64_t seconds,
                             std::uint64_t step_ns = worker::kHousekeepingNs) {
  std::uint64_t now_ns = from_ns;
  for (; now_ns < from_ns + seconds * kSecondNs; now_ns += step_ns) {
    (void)workers.worker(0).keep_house(now_ns);
  }
  return now_ns;
}

TEST(Housekeeping, idle_flows_are_gone_a_second_after_their_timeout) {
  const Image image = balancer_image(1);
  Workers workers({});
  workers.publish(image);
  std::vector<Bytes> requests;
  for (std::uint32_t i = 1; i <= 200; ++i) {
    requests.push_back(frame("eth client > node / ip 198.51.100." + std::to_string(i) +
                             " > 203.0.113.10 / udp 5353 > 53"));
  }
  workers.receive(0, requests);
  workers.turn();
  (void)workers.sent();
  ASSERT_EQ(workers.flow_count(0), 200u);

  const std::uint64_t before_ns = kStartNs + (kUdpNewTimeoutSeconds - 2) * kSecondNs;
  const std::uint64_t now_ns = keep_house_for(workers, before_ns, 1);
  EXPECT_EQ(workers.flow_count(0), 200u);
  (void)keep_house_for(workers, now_ns + 2 * kSecondNs, 1);
  EXPECT_EQ(workers.flow_count(0), 0u);
  EXPECT_EQ(workers.stats(0).counters[MR_COUNTER_FLOW_EXPIRED], 200u);
}

// One and a half records are due per step: the half must not be forgotten.
TEST(Housekeeping, sweep_keeps_its_pace_when_steps_and_records_do_not_divide) {
  const Image image = balancer_image(1);
  Workers workers({});
  workers.publish(image);
  std::vector<Bytes> requests;
  for (std::uint32_t i = 0; i < 200; ++i) requests.push_back(syn(i));
  workers.receive(0, requests);
  workers.turn();
  (void)workers.sent();
  const std::uint64_t timeout_ns = kStartNs + kSynTimeoutSeconds * kSecondNs;
  (void)keep_house_for(workers, timeout_ns - kSecondNs, 2, 7'500'000);
  EXPECT_GE(workers.worker(0).counters().counters[MR_COUNTER_FLOW_EXPIRED], 190u);
}

TEST(Housekeeping, sweep_of_a_huge_table_takes_longer_instead_of_the_worker) {
  EXPECT_EQ(worker::sweep_round_ns(1), kSecondNs);
  EXPECT_EQ(worker::sweep_round_ns(10'000'000), kSecondNs);
  EXPECT_EQ(worker::sweep_round_ns(100'000'000), 10 * kSecondNs);
  EXPECT_EQ(worker::sweep_round_ns(MR_FLOW_CAPACITY_MAX) / kSecondNs, 26u);
}

TEST(Housekeeping, long_pause_does_not_make_one_long_sweep) {
  const Image image = balancer_image(1);
  Workers workers({.flow_capacity = 8192});
  workers.publish(image);
  for (std::uint32_t round = 0; round < 3; ++round) {  // two thousand new flows per millisecond
    std::vector<Bytes> requests;
    for (std::uint32_t i = 0; i < 1800; ++i) requests.push_back(syn(round * 1800 + i));
    workers.receive(0, requests);
    workers.turn(kStartNs + std::uint64_t{round} * 4'000'000);
    (void)workers.sent();
  }
  ASSERT_EQ(workers.flow_count(0), 5400u);
  const std::uint64_t late_ns = kStartNs + 10'000 * kSecondNs;
  (void)workers.worker(0).keep_house(late_ns);
  EXPECT_LE(workers.stats(0).counters[MR_COUNTER_FLOW_EXPIRED], worker::kSweepStepMax);
  (void)keep_house_for(workers, late_ns, 3);
  EXPECT_EQ(workers.flow_count(0), 0u);
}

// Housekeeping by itself, on memory that a flow table was formatted in.
struct Keeper {
  Keeper(core::FlowTable table, const Image& image)
      : forwarder({.flow_table = table,
                   .nic_macs = {&kNicMac, 1},
                   .counters = {.worker = &counters, .listeners = listeners, .targets = targets}}),
        housekeeping({.worker = 0,
                      .forwarder = &forwarder,
                      .configs = &configs,
                      .local_traffic = nullptr,
                      .counters = &counters,
                      .published = &published}) {
    shm::CheckedConfig config;
    config.view = image.view();
    configs.publish(std::move(config));
  }

  mr_worker_stats counters{};
  mr_worker_stats published{};
  std::vector<mr_listener_stats> listeners{16};
  std::vector<mr_target_stats> targets{16};
  worker::ConfigExchange configs{1};
  core::Forwarder forwarder;
  worker::Housekeeping housekeeping;
};

constexpr core::FlowTable::Layout kLayout{.capacity = 64,
                                          .worker_index = 0,
                                          .worker_count = 1,
                                          .secret = {1, 2, 3, 4},
                                          .created_ns = 1,
                                          .creator_pid = 1};

TEST(Housekeeping, flows_of_an_earlier_process_are_counted_when_the_first_config_comes) {
  const Image image = balancer_image(1);
  alignas(64) std::byte memory[256 * 1024] = {};
  {
    Keeper earlier(core::FlowTable::format(memory, kLayout), image);
    (void)earlier.housekeeping.run(kStartNs);
    for (std::uint32_t client = 0; client < 5; ++client) {
      Bytes bytes = syn(client);
      core::Burst burst;
      burst.packets[burst.count++] = {.data = bytes.data(),
                                      .length = static_cast<std::uint32_t>(bytes.size()),
                                      .headroom = 0,
                                      .nic = 0,
                                      .reserved = 0};
      earlier.forwarder.process_burst(burst, kStartNs);
    }
    ASSERT_EQ(earlier.counters.flows_active, 5u);
  }
  Result<core::FlowTable> kept = core::FlowTable::attach(memory, kLayout);
  ASSERT_TRUE(kept) << kept.error().message;
  Keeper later(*kept, image);
  (void)later.housekeeping.run(kStartNs + 1);
  EXPECT_EQ(later.published.flows_active, 5u);
  std::uint64_t active = 0;
  for (const mr_target_stats& target : later.targets) active += target.active_flows;
  EXPECT_EQ(active, 5u);
}

TEST(Housekeeping, is_due_about_every_32_us_with_jitter) {
  const Image image = balancer_image(1);
  alignas(64) std::byte memory[64 * 1024] = {};
  Keeper keeper(core::FlowTable::format(memory, kLayout), image);
  worker::Housekeeping& housekeeping = keeper.housekeeping;
  std::uint64_t now_ns = kStartNs;
  std::uint32_t runs = 0;
  std::uint64_t shortest_ns = kSecondNs;
  std::uint64_t longest_ns = 0;
  std::uint64_t last_ns = now_ns;
  for (; now_ns < kStartNs + kSecondNs / 10; now_ns += 500) {
    if (!housekeeping.is_due(now_ns)) continue;
    (void)housekeeping.run(now_ns);
    if (runs++ > 0) {
      shortest_ns = std::min(shortest_ns, now_ns - last_ns);
      longest_ns = std::max(longest_ns, now_ns - last_ns);
    }
    last_ns = now_ns;
  }
  EXPECT_NEAR(runs, 100'000'000.0 / worker::kHousekeepingNs, 300);
  EXPECT_LT(shortest_ns, worker::kHousekeepingNs - 4000);
  EXPECT_GT(longest_ns, worker::kHousekeepingNs + 4000);
}

}  // namespace
}  // namespace millrace::test
