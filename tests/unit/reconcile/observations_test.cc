// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/observations.h"

#include <gtest/gtest.h>

namespace millrace::control {
namespace {

mr_target_stats target(std::uint64_t new_flows, std::uint64_t active_flows = 0) {
  mr_target_stats stats{};
  stats.new_flows = new_flows;
  stats.active_flows = active_flows;
  return stats;
}

constexpr std::uint64_t kGeneration = 5;

TEST(CounterSums, goes_on_over_a_restart_of_the_engine) {
  CounterSums<mr_target_stats> sums;
  sums.begin(1, target(0), kGeneration);
  sums.observe(1, target(15), kGeneration);
  sums.restart(true);
  sums.observe(1, target(3), kGeneration);
  EXPECT_EQ(sums.sum(1).new_flows, 18u);
}

TEST(CounterSums, gauge_is_what_was_last_seen) {
  CounterSums<mr_target_stats> sums;
  sums.begin(1, target(0), kGeneration);
  sums.observe(1, target(10, 5), kGeneration);
  sums.observe(1, target(11, 2), kGeneration);
  EXPECT_EQ(sums.sum(1).active_flows, 2u);
  sums.restart(true);
  sums.observe(1, target(0, 7), kGeneration);
  EXPECT_EQ(sums.sum(1).active_flows, 7u);
}

TEST(CounterSums, fault_82_first_look_at_a_used_slot_is_no_growth) {
  CounterSums<mr_target_stats> sums;
  sums.observe(1, target(100), kGeneration);
  EXPECT_EQ(sums.sum(1).new_flows, 0u) << "nobody's yet";
  sums.begin(1, target(100), kGeneration);
  sums.observe(1, target(103), kGeneration);
  EXPECT_EQ(sums.sum(1).new_flows, 3u);
}

TEST(CounterSums,
     fault_82_counts_from_before_the_workers_have_the_generation_are_the_former_owners) {
  CounterSums<mr_target_stats> sums;
  sums.begin(2, target(10), kGeneration);
  sums.begin(2, target(99), kGeneration);  // no effect: known
  sums.observe(2, target(1000), kGeneration - 1);
  EXPECT_EQ(sums.sum(2).new_flows, 0u);
  sums.observe(2, target(1002), kGeneration);
  EXPECT_EQ(sums.sum(2).new_flows, 2u);
  sums.restart(true);
  sums.observe(2, target(4), 0);
  EXPECT_EQ(sums.sum(2).new_flows, 6u) << "an engine that starts has it from the first packet on";
  sums.retain({2});
  EXPECT_EQ(sums.sum(1).new_flows, 0u);
  EXPECT_EQ(sums.sum(2).new_flows, 6u);
}

TEST(CounterSums, fault_82_engine_that_ran_before_us_is_counted_from_the_first_look_on) {
  CounterSums<mr_target_stats> sums;
  sums.begin(1, std::nullopt, kGeneration);
  sums.restart(false);
  sums.observe(1, target(50), kGeneration);
  EXPECT_EQ(sums.sum(1).new_flows, 0u);
  sums.observe(1, target(51), kGeneration);
  EXPECT_EQ(sums.sum(1).new_flows, 1u);
}

TEST(CounterSums, fault_82_counter_that_falls_is_no_growth) {
  CounterSums<mr_target_stats> sums;
  sums.begin(1, target(0), kGeneration);
  sums.observe(1, target(50), kGeneration);
  sums.observe(1, target(20), kGeneration);
  EXPECT_EQ(sums.sum(1).new_flows, 50u);
}

TEST(CounterSums, every_listener_counter_is_summed) {
  CounterSums<mr_listener_stats> sums;
  const mr_listener_stats once{.new_flows = 1,
                               .packets = 2,
                               .bytes = 3,
                               .rejected_flows = 4,
                               .unhealthy_routing_flows = 5,
                               .client_resets = 6,
                               .target_resets = 7,
                               .balancer_resets = 8};
  sums.begin(1, mr_listener_stats{}, kGeneration);
  sums.observe(1, once, kGeneration);
  sums.restart(true);
  sums.observe(1, once, kGeneration);
  EXPECT_EQ(sums.sum(1).new_flows, 2u);
  EXPECT_EQ(sums.sum(1).bytes, 6u);
  EXPECT_EQ(sums.sum(1).balancer_resets, 16u);
}

}  // namespace
}  // namespace millrace::control
