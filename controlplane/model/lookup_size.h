// SPDX-License-Identifier: Apache-2.0
//
// How many slots a target group's lookup table has. Cold and pure.
//
// Every target with a weight owns slots: a table grows until the lightest target's share is at
// least kSlotsOfLightestMin. Rounding costs it less than three of them. All nodes with the same
// config get the same size.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "dataplane/contract/config_abi.h"

namespace millrace::control {

// Primes, as Maglev wants them, a factor of 4 to 10 apart. The first has 256 slots for each of 16
// targets; with fewer slots a target, shares get uneven while others are out.
inline constexpr std::uint32_t kLookupSizes[] = {4093, 16381, MR_LOOKUP_SLOTS_DEFAULT,
                                                 MR_LOOKUP_SLOTS_MAX};
inline constexpr std::uint64_t kSlotsOfLightestMin = 4;

// Of the targets with a weight.
struct Weights {
  std::uint64_t sum = 0;
  std::uint32_t lightest = 0;  // 0: nobody has one

  void add(std::uint32_t weight) {
    if (weight == 0) return;
    sum += weight;
    lightest = lightest == 0 ? weight : std::min(lightest, weight);
  }
};

[[nodiscard]] inline bool suffices(std::uint32_t slot_count, const Weights& weights) {
  return weights.lightest * std::uint64_t{slot_count} >= kSlotsOfLightestMin * weights.sum;
}

// The least size from `floor` on, which is one of them, that suffices for the weights; the largest
// size when none does. The config's check refuses such weights.
[[nodiscard]] inline std::uint32_t lookup_size(std::uint32_t floor, const Weights& weights) {
  for (const std::uint32_t size : kLookupSizes) {
    if (size >= floor && suffices(size, weights)) return size;
  }
  return MR_LOOKUP_SLOTS_MAX;
}

}  // namespace millrace::control
