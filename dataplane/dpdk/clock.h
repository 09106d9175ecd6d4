// SPDX-License-Identifier: Apache-2.0
//
// CLOCK_MONOTONIC in nanoseconds, read from the CPU's time stamp counter. HOT: one read per turn of
// the poll loop, about 10 ns; the only conversion between counter and nanoseconds.
//
// The counter is believed for a tenth of a second, then CLOCK_MONOTONIC is asked again (about 50 ns
// by the vDSO, no system call). Its measured frequency is some parts per million off and the kernel
// slews its clock, which makes an error of some microseconds until then. And it may do anything
// while a virtual machine is paused, restored from a snapshot or moved to another host: go on where
// the kernel's clock stood still, or begin anew. Without a bound one such read would make all flows
// idle at once, and the clock stand still until the kernel's has come as far. Because the values
// are CLOCK_MONOTONIC's, times in the flow table go on across a restart of the process.
#pragma once

#include <cstdint>

namespace millrace::dpdk {

// The arithmetic, with both readings as arguments.
class CounterClock {
 public:
  // How long the counter is believed: what a wrong one may be wrong by.
  static constexpr std::uint64_t kBelievedNs = 100'000'000;

  explicit CounterClock(std::uint64_t counts_per_second) noexcept;

  // Takes `monotonic_ns` as the truth at `counter`. Comes before everything else.
  void anchor(std::uint64_t counter, std::uint64_t monotonic_ns) noexcept;

  // Nothing follows from `counter`: the anchor is too old, or was at a later count.
  [[nodiscard]] bool needs_anchor(std::uint64_t counter) const noexcept {
    return counter - anchor_counter_ >= believed_counts_;
  }

  // Never earlier than the last value it returned; stays there, for kBelievedNs at most, when the
  // counter was ahead of the truth. `counter` needs no anchor.
  [[nodiscard]] std::uint64_t at(std::uint64_t counter) noexcept;

 private:
  std::uint64_t anchor_counter_ = 0;
  std::uint64_t anchor_ns_ = 0;
  std::uint64_t last_ns_ = 0;
  std::uint64_t ns_per_count_q32_;  // 32.32 fixed point
  std::uint64_t believed_counts_;
};

// One per thread: not shared.
class Clock {
 public:
  Clock();

  // Never earlier than the last value it returned.
  [[nodiscard]] std::uint64_t now_ns() noexcept;

 private:
  std::uint64_t anchor() noexcept;

  CounterClock clock_;
};

}  // namespace millrace::dpdk
