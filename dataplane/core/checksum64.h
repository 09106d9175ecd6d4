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

// Four independent lanes of multiply-mix over 8-byte words, about 8 bytes per cycle.
class Checksum64Lanes {
 public:
  explicit Checksum64Lanes(std::uint64_t seed)
      : lanes_{seed ^ kMul[0], seed ^ kMul[1], seed ^ kMul[2], seed ^ kMul[3]} {}

  // Words 4 n to 4 n + 3 belong to the lanes 0 to 3.
  void add(std::size_t lane, std::uint64_t word) {
    lanes_[lane] = mix(lanes_[lane], word, kMul[lane]);
  }
  // Not a loop: unless it is unrolled, the lanes don't stay in registers.
  template <typename WordAt>
  void add_four(WordAt word_at) {
    add(0, word_at(std::size_t{0}));
    add(1, word_at(std::size_t{1}));
    add(2, word_at(std::size_t{2}));
    add(3, word_at(std::size_t{3}));
  }
  [[nodiscard]] std::uint64_t sum(std::uint64_t byte_count) const {
    std::uint64_t result = byte_count;
    for (std::size_t lane = 0; lane < 4; ++lane) result = mix(result, lanes_[lane], kMul[lane]);
    return result;
  }

 private:
  static constexpr std::uint64_t kMul[4] = {0x9e3779b97f4a7c15ULL, 0xbf58476d1ce4e5b9ULL,
                                            0x94d049bb133111ebULL, 0xd6e8feb86659fd93ULL};
  [[nodiscard]] static std::uint64_t mix(std::uint64_t h, std::uint64_t word, std::uint64_t mul) {
    h = (h ^ word) * mul;
    return h ^ (h >> 29);
  }
  std::uint64_t lanes_[4];
};

// Order matters. Chain by passing the previous result as `seed`.
[[nodiscard]] inline std::uint64_t checksum64(std::span<const std::byte> bytes,
                                              std::uint64_t seed = 0) {
  Checksum64Lanes lanes(seed);
  std::size_t at = 0;
  for (; at + 32 <= bytes.size(); at += 32) {
    lanes.add_four([&](std::size_t lane) {
      std::uint64_t word;
      std::memcpy(&word, bytes.data() + at + lane * 8, 8);
      return word;
    });
  }
  for (std::size_t lane = 0; at < bytes.size(); at += 8, ++lane) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, bytes.size() - at < 8 ? bytes.size() - at : 8);
    lanes.add(lane, word);
  }
  return lanes.sum(bytes.size());
}

// The checksum64() of an array of words that are not in memory: `word_at(i)` gives them, in order.
template <typename WordAt>
[[nodiscard]] std::uint64_t checksum64_of(std::size_t word_count, WordAt word_at) {
  Checksum64Lanes lanes(0);
  std::size_t at = 0;
  for (; at + 4 <= word_count; at += 4) {
    lanes.add_four([&](std::size_t lane) { return word_at(at + lane); });
  }
  for (std::size_t lane = 0; at < word_count; ++at, ++lane) lanes.add(lane, word_at(at));
  return lanes.sum(word_count * sizeof(std::uint64_t));
}

}  // namespace millrace::core
