// SPDX-License-Identifier: Apache-2.0
// Lengths of time in nanoseconds, as stamps are. Hot.
#pragma once
#include <cstdint>

namespace millrace {

inline constexpr std::uint64_t kMillisecondNs = 1'000'000;
inline constexpr std::uint64_t kSecondNs = 1000 * kMillisecondNs;

}  // namespace millrace
