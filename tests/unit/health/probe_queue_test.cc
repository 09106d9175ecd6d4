// SPDX-License-Identifier: Apache-2.0
#include "controlplane/health/probe_queue.h"

#include <gtest/gtest.h>

#include <map>
#include <vector>

namespace millrace::control {
namespace {

constexpr auto kAnswering = ProbeKind::answering;
constexpr auto kSilent = ProbeKind::silent;

TEST(ProbeQueue, those_that_answer_go_first_and_each_kind_in_its_order) {
  ProbeQueue<int> queue(100);
  queue.push(1, kSilent);
  queue.push(2, kAnswering);
  queue.push(3, kSilent);
  queue.push(4, kAnswering);
  std::vector<int> order;
  while (const auto next = queue.pop()) order.push_back(*next);
  EXPECT_EQ(order, (std::vector<int>{2, 4, 1, 3}));
  EXPECT_EQ(queue.open_count(), 4U);
  EXPECT_EQ(queue.waiting_count(), 0U);
}

TEST(ProbeQueue, neither_kind_takes_the_last_quarter_of_the_places) {
  for (const auto& [many, few] : {std::pair{kSilent, kAnswering}, {kAnswering, kSilent}}) {
    ProbeQueue<int> queue(8);
    for (int i = 0; i < 20; ++i) queue.push(i, many);
    for (int i = 0; i < 6; ++i) EXPECT_EQ(queue.pop(), i);
    EXPECT_EQ(queue.pop(), std::nullopt);
    for (int i = 100; i < 104; ++i) queue.push(i, few);
    EXPECT_EQ(queue.pop(), 100);
    EXPECT_EQ(queue.pop(), 101);
    EXPECT_EQ(queue.pop(), std::nullopt) << "all places are taken";
    queue.release(few);
    EXPECT_EQ(queue.pop(), 102);
    queue.release(many);
    queue.release(few);
    EXPECT_EQ(queue.open_count(), 6U);
  }
}

TEST(ProbeQueue, removed_one_is_not_started) {
  ProbeQueue<int> queue(4);
  queue.push(1, kSilent);
  queue.push(2, kSilent);
  queue.remove(1);
  queue.remove(7);
  EXPECT_EQ(queue.pop(), 2);
  EXPECT_EQ(queue.pop(), std::nullopt);
}

TEST(ProbeQueue, smallest_one_serves_both_kinds) {
  ProbeQueue<int> queue(0);
  EXPECT_EQ(queue.places_max(), 1U);
  for (const ProbeKind kind : {kSilent, kAnswering}) {
    queue.push(1, kind);
    EXPECT_EQ(queue.pop(), 1);
    queue.release(kind);
  }
}

// A minute of a node in virtual milliseconds: 3000 targets that nobody answers for, far more than
// there are places, beside 50 that answer within 2 ms, all every second.
TEST(ProbeQueue, fault_85_living_targets_are_never_late_beside_thousands_of_silent_ones) {
  constexpr int kSilentCount = 3000;
  constexpr int kTargets = kSilentCount + 50;
  constexpr int kIntervalMs = 1000;
  const auto kind_of = [](int target) { return target < kSilentCount ? kSilent : kAnswering; };
  ProbeQueue<int> queue(512);
  std::multimap<int, int> due;   // time, target
  std::multimap<int, int> ends;  // likewise, of probes that are open
  std::map<int, int> due_at;
  for (int target = 0; target < kTargets; ++target) due.emplace(target * 7 % kIntervalMs, target);
  int living_late_ms = 0;
  int silent_probes = 0;
  std::size_t most_open = 0;
  for (int now = 0; now < 60 * kIntervalMs; ++now) {
    for (; !ends.empty() && ends.begin()->first <= now; ends.erase(ends.begin())) {
      const int target = ends.begin()->second;
      queue.release(kind_of(target));
      due.emplace(std::max(now, due_at[target] + kIntervalMs), target);
    }
    for (; !due.empty() && due.begin()->first <= now; due.erase(due.begin())) {
      due_at[due.begin()->second] = due.begin()->first;
      queue.push(due.begin()->second, kind_of(due.begin()->second));
    }
    while (const auto next = queue.pop()) {
      const bool is_silent = kind_of(*next) == kSilent;
      ends.emplace(now + (is_silent ? kIntervalMs : 2), *next);
      if (is_silent) ++silent_probes;
      if (!is_silent) living_late_ms = std::max(living_late_ms, now - due_at[*next]);
    }
    most_open = std::max(most_open, queue.open_count());
  }
  EXPECT_EQ(living_late_ms, 0);
  EXPECT_LE(most_open, 512U);
  EXPECT_GT(silent_probes, 59 * 384 - 384) << "the silent ones use their three quarters";
}

}  // namespace
}  // namespace millrace::control
