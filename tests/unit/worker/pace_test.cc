// SPDX-License-Identifier: Apache-2.0
#include "dataplane/worker/pace.h"

#include <gtest/gtest.h>

namespace millrace::worker {
namespace {

constexpr std::uint64_t kStartNs = 5'000'000'000;

TEST(Pace, busy_worker_polls_again_at_once) {
  mr_worker_stats counters{};
  Pace pace(/*spins=*/false, counters);
  EXPECT_EQ(pace.rest(kStartNs, kStartNs + 3000, 32), 0u);
  EXPECT_EQ(counters.counters[MR_COUNTER_POLLS], 1u);
  EXPECT_EQ(counters.counters[MR_COUNTER_POLLS_EMPTY], 0u);
  EXPECT_EQ(counters.counters[MR_COUNTER_BUSY_NS], 3000u);
}

TEST(Pace, idle_worker_spins_first_then_sleeps_longer_and_longer) {
  mr_worker_stats counters{};
  Pace pace(/*spins=*/false, counters);
  ASSERT_EQ(pace.rest(kStartNs - 100, kStartNs, 1), 0u);
  EXPECT_EQ(pace.rest(kStartNs, kStartNs + kSpinNs - 1, 0), 0u);
  EXPECT_EQ(pace.rest(kStartNs, kStartNs + kSpinNs, 0), kLightSleepNs);
  EXPECT_EQ(pace.rest(kStartNs, kStartNs + kDeepAfterNs - 1, 0), kLightSleepNs);
  EXPECT_EQ(pace.rest(kStartNs, kStartNs + kDeepAfterNs, 0), kDeepSleepNs);
  EXPECT_EQ(counters.counters[MR_COUNTER_POLLS_EMPTY], 4u);
}

TEST(Pace, one_packet_ends_the_idle_time) {
  mr_worker_stats counters{};
  Pace pace(/*spins=*/false, counters);
  ASSERT_EQ(pace.rest(kStartNs, kStartNs + 100, 0), kDeepSleepNs);
  EXPECT_EQ(pace.rest(kStartNs + 100, kStartNs + 200, 1), 0u);
  EXPECT_EQ(pace.rest(kStartNs + 200, kStartNs + 300, 0), 0u);
}

TEST(Pace, spinning_worker_never_sleeps) {
  mr_worker_stats counters{};
  Pace pace(/*spins=*/true, counters);
  EXPECT_EQ(pace.rest(kStartNs, kStartNs + 10 * kDeepAfterNs, 0), 0u);
}

TEST(Pace, long_turn_is_a_stall_and_the_longest_is_kept) {
  mr_worker_stats counters{};
  Pace pace(/*spins=*/false, counters);
  (void)pace.rest(kStartNs, kStartNs + kStallNs, 1);
  EXPECT_EQ(counters.counters[MR_COUNTER_STALLS], 0u);
  (void)pace.rest(kStartNs, kStartNs + kStallNs + 1, 1);
  (void)pace.rest(kStartNs, kStartNs + 10, 0);
  EXPECT_EQ(counters.counters[MR_COUNTER_STALLS], 1u);
  EXPECT_EQ(counters.turn_ns_max, kStallNs + 1);
}

}  // namespace
}  // namespace millrace::worker
