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

TEST(CounterSums, goes_on_over_a_restart_of_the_engine) {
  CounterSums<mr_target_stats> sums;
  sums.observe(1, target(10));
  sums.observe(1, target(15));
  sums.restart();
  sums.observe(1, target(3));
  EXPECT_EQ(sums.sum(1).new_flows, 18u);
}

TEST(CounterSums, gauge_is_what_was_last_seen) {
  CounterSums<mr_target_stats> sums;
  sums.observe(1, target(10, 5));
  sums.observe(1, target(11, 2));
  EXPECT_EQ(sums.sum(1).active_flows, 2u);
  sums.restart();
  sums.observe(1, target(0, 7));
  EXPECT_EQ(sums.sum(1).active_flows, 7u);
}

TEST(CounterSums, next_owner_of_a_slot_does_not_inherit_its_counts) {
  CounterSums<mr_target_stats> sums;
  sums.observe(1, target(10));
  sums.begin(2, target(10));
  sums.begin(2, target(99));  // no effect: known
  sums.observe(2, target(12));
  EXPECT_EQ(sums.sum(2).new_flows, 2u);
  sums.retain({2});
  EXPECT_EQ(sums.sum(1).new_flows, 0u);
  EXPECT_EQ(sums.sum(2).new_flows, 2u);
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
  sums.observe(1, once);
  sums.restart();
  sums.observe(1, once);
  EXPECT_EQ(sums.sum(1).new_flows, 2u);
  EXPECT_EQ(sums.sum(1).bytes, 6u);
  EXPECT_EQ(sums.sum(1).balancer_resets, 16u);
}

}  // namespace
}  // namespace millrace::control
