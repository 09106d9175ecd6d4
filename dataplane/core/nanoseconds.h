// SPDX-License-Identifier: Apache-2.0
//
// Time as both processes and their segments write it: nanoseconds of a clock of Linux. Cold where
// a clock is read.
#pragma once

#include <cstdint>
#include <ctime>

namespace millrace {

inline constexpr std::uint64_t kMillisecondNs = 1'000'000;
inline constexpr std::uint64_t kSecondNs = 1000 * kMillisecondNs;

// Of a clock that cannot fail: CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME.
[[nodiscard]] inline std::uint64_t clock_ns(clockid_t clock) noexcept {
  timespec now{};
  (void)::clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * kSecondNs +
         static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace millrace
