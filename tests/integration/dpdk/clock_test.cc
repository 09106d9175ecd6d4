// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/clock.h"

#include <gtest/gtest.h>
#include <time.h>

#include "dataplane/os/clock.h"
#include "tests/integration/dpdk/environment.h"

namespace millrace::dpdk {
namespace {

// The flow table's times must mean the same to the next process.
TEST(Clock, tells_clock_monotonic) {
  Clock clock;
  const std::uint64_t before_ns = clock_ns(CLOCK_MONOTONIC);
  const std::uint64_t now_ns = clock.now_ns();
  const std::uint64_t after_ns = clock_ns(CLOCK_MONOTONIC);
  constexpr std::uint64_t kErrorNs = 100'000;
  EXPECT_GE(now_ns + kErrorNs, before_ns);
  EXPECT_LE(now_ns, after_ns + kErrorNs);
}

TEST(Clock, never_goes_back_not_even_at_an_anchor) {
  Clock clock;
  const std::uint64_t end_ns = clock_ns(CLOCK_MONOTONIC) + 3 * CounterClock::kBelievedNs;
  for (std::uint64_t last_ns = clock.now_ns(); last_ns < end_ns;) {
    const std::uint64_t now_ns = clock.now_ns();
    ASSERT_GE(now_ns, last_ns);
    last_ns = now_ns;
  }
}

constexpr std::uint64_t kMs = 1'000'000;
constexpr std::uint64_t kMinute = 60'000 * kMs;
constexpr std::uint64_t kCountsPerMs = 2'600'000;

// A machine: what its counter and its CLOCK_MONOTONIC show. The clock is read as by Clock.
struct Machine {
  std::uint64_t counter = 77'000 * kCountsPerMs;
  std::uint64_t monotonic_ns = 5 * kMinute;
  CounterClock clock{1000 * kCountsPerMs};

  Machine() { clock.anchor(counter, monotonic_ns); }

  void pass_ms(std::uint64_t duration_ms) {
    counter += duration_ms * kCountsPerMs;
    monotonic_ns += duration_ms * kMs;
  }
  std::uint64_t read_ns() {
    if (clock.needs_anchor(counter)) clock.anchor(counter, monotonic_ns);
    return clock.at(counter);
  }
};

// What the clock says, every millisecond for a second, next to the truth.
void expect_to_follow(Machine& machine) {
  std::uint64_t last_ns = machine.read_ns();
  for (std::uint32_t i = 0; i < 1000; ++i) {
    machine.pass_ms(1);
    const std::uint64_t now_ns = machine.read_ns();
    ASSERT_GE(now_ns, last_ns) << i;
    ASSERT_LE(now_ns, machine.monotonic_ns + CounterClock::kBelievedNs) << i;
    ASSERT_GE(now_ns + CounterClock::kBelievedNs, machine.monotonic_ns) << i;
    last_ns = now_ns;
  }
  EXPECT_NEAR(static_cast<double>(last_ns), static_cast<double>(machine.monotonic_ns), 1000.0);
}

TEST(Clock, fault_78_counter_that_went_on_while_the_machine_was_paused_makes_no_jump) {
  Machine machine;
  expect_to_follow(machine);
  machine.counter += 10 * 60'000 * kCountsPerMs;  // ten minutes that the kernel's clock stood still
  expect_to_follow(machine);
}

TEST(Clock, fault_78_counter_that_begins_anew_does_not_stop_the_clock) {
  Machine machine;
  expect_to_follow(machine);
  machine.counter = 12;  // restored from a snapshot, on a host that was started since
  machine.pass_ms(1);
  expect_to_follow(machine);
  machine.counter -= 500 * kCountsPerMs;  // another CPU, another count
  expect_to_follow(machine);
}

TEST(Clock, fault_78_small_gaps_are_made_up_within_the_time_that_the_counter_is_believed) {
  Machine machine;
  for (std::uint32_t round = 0; round < 20; ++round) {
    machine.pass_ms(7);
    machine.counter += 90 * kCountsPerMs;
    expect_to_follow(machine);
  }
}

TEST(Clock, fault_78_kernel_clock_that_jumps_ahead_is_followed) {
  Machine machine;
  expect_to_follow(machine);
  machine.monotonic_ns += kMinute;
  machine.pass_ms(CounterClock::kBelievedNs / kMs);
  EXPECT_EQ(machine.read_ns(), machine.monotonic_ns);
  expect_to_follow(machine);
}

}  // namespace
}  // namespace millrace::dpdk
