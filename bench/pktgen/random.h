// SPDX-License-Identifier: Apache-2.0
//
// The generator's source of chance: small, fast, the same sequence for the same seed on every
// machine. HOT.
#pragma once

#include <cstdint>

namespace millrace::pktgen {

// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014): every
// seed is as good as any other, and the state is one word.
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}

  [[nodiscard]] std::uint64_t next() noexcept {
    std::uint64_t mixed = state_ += 0x9e3779b97f4a7c15ULL;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ULL;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebULL;
    return mixed ^ (mixed >> 31);
  }

  // A number below `bound`, without a division; the bias is bound / 2^32, far below what a run of
  // any length could show.
  [[nodiscard]] std::uint32_t below(std::uint32_t bound) noexcept {
    return scaled(static_cast<std::uint32_t>(next() >> 32), bound);
  }

  // `chance`, uniform in [0, 2^32), as a number below `bound`.
  [[nodiscard]] static std::uint32_t scaled(std::uint32_t chance, std::uint32_t bound) noexcept {
    return static_cast<std::uint32_t>(std::uint64_t{chance} * bound >> 32);
  }

 private:
  std::uint64_t state_;
};

}  // namespace millrace::pktgen
