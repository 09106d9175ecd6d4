// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/clock.h"

#include <rte_cycles.h>
#include <time.h>

#include <algorithm>

#include "dataplane/core/nanoseconds.h"

namespace millrace::dpdk {

namespace {

__extension__ using Wide = unsigned __int128;

std::uint64_t monotonic_ns() noexcept {
  timespec now{};
  (void)::clock_gettime(CLOCK_MONOTONIC, &now);  // cannot fail with a valid clock
  return static_cast<std::uint64_t>(now.tv_sec) * kSecondNs +
         static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace

Clock::Clock() : clock_(::rte_get_tsc_hz()) { (void)anchor(); }

std::uint64_t Clock::now_ns() noexcept {
  std::uint64_t counter = ::rte_rdtsc();
  if (clock_.needs_anchor(counter)) [[unlikely]]
    counter = anchor();
  return clock_.at(counter);
}

// The counter comes second: a thread that loses its CPU in between is late by that, and not early,
// until the next anchor.
std::uint64_t Clock::anchor() noexcept {
  const std::uint64_t truth_ns = monotonic_ns();
  const std::uint64_t counter = ::rte_rdtsc();
  clock_.anchor(counter, truth_ns);
  return counter;
}

CounterClock::CounterClock(std::uint64_t counts_per_second) noexcept
    : ns_per_count_q32_(static_cast<std::uint64_t>((Wide{kSecondNs} << 32) / counts_per_second)),
      believed_counts_(
          static_cast<std::uint64_t>(Wide{kBelievedNs} * counts_per_second / kSecondNs)) {}

void CounterClock::anchor(std::uint64_t counter, std::uint64_t monotonic_ns) noexcept {
  anchor_counter_ = counter;
  anchor_ns_ = monotonic_ns;
}

std::uint64_t CounterClock::at(std::uint64_t counter) noexcept {
  const Wide since_ns = (Wide{counter - anchor_counter_} * ns_per_count_q32_) >> 32;
  last_ns_ = std::max(last_ns_, anchor_ns_ + static_cast<std::uint64_t>(since_ns));
  return last_ns_;
}

}  // namespace millrace::dpdk
