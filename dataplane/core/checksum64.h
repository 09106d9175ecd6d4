// SPDX-License-Identifier: Apache-2.0
//
// The 64-bit checksum that guards published images and lookup tables against corruption, and the
// digest by which nodes compare tables. Not a MAC: whoever may write the segment is trusted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace millrace::core {

// Multiply-mix over 8-byte words in four independent lanes, about 8 bytes per cycle; order matters.
// Chain by passing the previous result as `seed`.
[[nodiscard]] inline std::uint64_t checksum64(std::span<const std::byte> bytes,
                                              std::uint64_t seed = 0) {
  constexpr std::uint64_t kMul[4] = {0x9e3779b97f4a7c15ULL, 0xbf58476d1ce4e5b9ULL,
                                     0x94d049bb133111ebULL, 0xd6e8feb86659fd93ULL};
  std::uint64_t lanes[4] = {seed ^ kMul[0], seed ^ kMul[1], seed ^ kMul[2], seed ^ kMul[3]};
  auto mix = [](std::uint64_t h, std::uint64_t word, std::uint64_t mul) {
    h = (h ^ word) * mul;
    return h ^ (h >> 29);
  };
  std::size_t at = 0;
  for (; at + 32 <= bytes.size(); at += 32) {
    for (std::size_t lane = 0; lane < 4; ++lane) {
      std::uint64_t word;
      std::memcpy(&word, bytes.data() + at + lane * 8, 8);
      lanes[lane] = mix(lanes[lane], word, kMul[lane]);
    }
  }
  for (std::size_t lane = 0; at < bytes.size(); at += 8, ++lane) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, bytes.size() - at < 8 ? bytes.size() - at : 8);
    lanes[lane] = mix(lanes[lane], word, kMul[lane]);
  }
  std::uint64_t result = bytes.size();
  for (std::size_t lane = 0; lane < 4; ++lane) result = mix(result, lanes[lane], kMul[lane]);
  return result;
}

}  // namespace millrace::core
