// SPDX-License-Identifier: Apache-2.0
//
// Buckets whose width grows with the value, as in HdrHistogram: each power of two is cut into equal
// parts, so that a bucket is never wider than a fixed share of its values. HOT: an index is a count
// of leading zeros and a shift. Used by the histogram and by the Zipf choice of flows.
#pragma once

#include <bit>
#include <cstdint>

namespace millrace::pktgen {

// A bucket's width is at most 2^-kPartBits of its values; values below 2^kPartBits have one each.
template <std::uint32_t kPartBits>
struct LogBuckets {
  static constexpr std::uint32_t kParts = 1u << kPartBits;
  // Every 64-bit value has a bucket.
  static constexpr std::uint32_t kCount = (64 - kPartBits + 1) * kParts;

  [[nodiscard]] static std::uint32_t index_of(std::uint64_t value) noexcept {
    if (value < kParts) return static_cast<std::uint32_t>(value);
    const auto shift = static_cast<std::uint32_t>(std::bit_width(value)) - 1 - kPartBits;
    return (shift << kPartBits) + static_cast<std::uint32_t>(value >> shift);
  }

  [[nodiscard]] static std::uint64_t first_value(std::uint32_t index) noexcept {
    if (index < kParts) return index;
    const std::uint32_t shift = (index >> kPartBits) - 1;
    return std::uint64_t{(index & (kParts - 1)) + kParts} << shift;
  }

  [[nodiscard]] static std::uint64_t width(std::uint32_t index) noexcept {
    return index < kParts ? 1 : std::uint64_t{1} << ((index >> kPartBits) - 1);
  }
};

}  // namespace millrace::pktgen
