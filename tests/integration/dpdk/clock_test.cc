// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/clock.h"

#include <gtest/gtest.h>
#include <time.h>

#include "tests/integration/dpdk/environment.h"

namespace millrace::dpdk {
namespace {

std::uint64_t monotonic_ns() {
  timespec now{};
  (void)::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(now.tv_nsec);
}

// The flow table's times must mean the same to the next process.
TEST(Clock, tells_clock_monotonic) {
  Clock clock;
  const std::uint64_t before_ns = monotonic_ns();
  const std::uint64_t now_ns = clock.now_ns();
  const std::uint64_t after_ns = monotonic_ns();
  constexpr std::uint64_t kErrorNs = 100'000;
  EXPECT_GE(now_ns + kErrorNs, before_ns);
  EXPECT_LE(now_ns, after_ns + kErrorNs);
}

TEST(Clock, never_goes_back_not_even_at_an_anchor) {
  Clock clock;
  std::uint64_t last_ns = clock.now_ns();
  for (std::uint32_t i = 0; i < 100'000; ++i) {
    if (i % 100 == 0) clock.anchor();
    const std::uint64_t now_ns = clock.now_ns();
    ASSERT_GE(now_ns, last_ns);
    last_ns = now_ns;
  }
}

}  // namespace
}  // namespace millrace::dpdk
