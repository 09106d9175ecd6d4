// SPDX-License-Identifier: Apache-2.0
//
// What time it is, for those who decide. Cold. Whoever can take a time as an argument does that
// instead.
#pragma once

#include <cstdint>

namespace millrace::control {

// The same moment on both clocks. Deadlines are kept on the monotonic one, which no operator sets,
// and stored on the wall clock, which outlives the machine's uptime.
struct Moment {
  std::uint64_t monotonic_ns = 0;
  std::uint64_t realtime_ns = 0;
};

class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual Moment now() const = 0;
};

}  // namespace millrace::control
