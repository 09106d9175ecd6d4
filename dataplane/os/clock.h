// SPDX-License-Identifier: Apache-2.0
//
// The clocks whose readings both processes write into segments and compare. Cold.
#pragma once

#include <time.h>

#include <cstdint>

#include "dataplane/core/nanoseconds.h"

namespace millrace {

// Nanoseconds of a clock that cannot fail: CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME.
[[nodiscard]] inline std::uint64_t clock_ns(clockid_t clock) noexcept {
  timespec now{};
  (void)::clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * kSecondNs +
         static_cast<std::uint64_t>(now.tv_nsec);
}

}  // namespace millrace
