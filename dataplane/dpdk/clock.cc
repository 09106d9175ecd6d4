// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/clock.h"

#include <rte_cycles.h>
#include <time.h>

#include <algorithm>

namespace millrace::dpdk {

namespace {

std::uint64_t monotonic_ns() noexcept {
  timespec now{};
  (void)::clock_gettime(CLOCK_MONOTONIC, &now);  // cannot fail with a valid clock
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace

Clock::Clock() {
  __extension__ using Wide = unsigned __int128;
  ns_per_count_q32_ = static_cast<std::uint64_t>((Wide{1'000'000'000u} << 32) / ::rte_get_tsc_hz());
  anchor();
}

std::uint64_t Clock::now_ns() noexcept {
  __extension__ using Wide = unsigned __int128;
  const std::uint64_t counts = ::rte_rdtsc() - anchor_counter_;
  const auto since_ns = static_cast<std::uint64_t>((Wide{counts} * ns_per_count_q32_) >> 32);
  last_ns_ = std::max(last_ns_, anchor_ns_ + since_ns);
  return last_ns_;
}

void Clock::anchor() noexcept {
  anchor_ns_ = monotonic_ns();
  anchor_counter_ = ::rte_rdtsc();
}

}  // namespace millrace::dpdk
