// SPDX-License-Identifier: Apache-2.0
//
// CLOCK_MONOTONIC in nanoseconds, read from the CPU's time stamp counter. HOT: one read per turn of
// the poll loop, about 10 ns; the only conversion between counter and nanoseconds.
//
// The counter's measured frequency is some parts per million off and the kernel slews its clock, so
// the owner anchors again every second or so; between anchors the error stays below 0.1 ms. Because
// the values are CLOCK_MONOTONIC's, times in the flow table go on across a restart of the process.
#pragma once

#include <cstdint>

namespace millrace::dpdk {

// One per thread: not shared.
class Clock {
 public:
  Clock();

  // Never earlier than the last value it returned.
  [[nodiscard]] std::uint64_t now_ns() noexcept;

  // Takes CLOCK_MONOTONIC as the truth again. About 50 ns.
  void anchor() noexcept;

 private:
  std::uint64_t anchor_counter_ = 0;
  std::uint64_t anchor_ns_ = 0;
  std::uint64_t last_ns_ = 0;
  std::uint64_t ns_per_count_q32_ = 0;  // 32.32 fixed point
};

}  // namespace millrace::dpdk
