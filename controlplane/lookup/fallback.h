// SPDX-License-Identifier: Apache-2.0
//
// Who owns a slot while some targets are out. Cold and pure: runs in the control plane.
//
// The *base* is the Maglev table of all configured targets. It does not depend on health. A target
// is *in* when it gets new flows, else *out*.
//
//   owner in the base is in     it owns the slot: nobody's health moves the slot
//   owner in the base is out    other slots of the base are looked at, in a pseudo-random order
//                               that is the slot's own, until the owner of one is in
//   nobody found in 64 looks, or the living own less than a sixteenth of the base
//                               the slot's owner in the Maglev table of the living alone
//
// So a change of health costs as many looks as the targets that are out have slots, and moves only
// their slots and few of those that fell back before. The result is a pure function of base,
// targets and seed: equal on every node, whatever happened before.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "controlplane/lookup/maglev.h"

namespace millrace::control {

// A target is found at a look with the probability of its share of the base. At a share of 1/16, 64
// looks find nobody for 1.6 % of the slots, and a slot takes 16 looks on average: below that, the
// table of the living costs less.
inline constexpr std::uint32_t kLooksMax = 64;
inline constexpr std::uint32_t kLivingShareMin = 16;  // one in so many slots of the base

// Where slot `slot` looks at its `look`th try, 0 to kLooksMax - 1. The word is that of SplitMix64
// (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) at the
// position that slot and try name, in the stream that starts at `seed`.
[[nodiscard]] inline std::uint32_t fallback_slot(std::uint64_t seed, std::uint32_t slot,
                                                 std::uint32_t look, std::uint32_t slot_count) {
  const std::uint64_t position = std::uint64_t{slot} * kLooksMax + look + 1;
  std::uint64_t word = seed + position * 0x9e3779b97f4a7c15u;
  word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9u;
  word = (word ^ word >> 27) * 0x94d049bb133111ebu;
  word ^= word >> 31;
  return static_cast<std::uint32_t>((word >> 32) * slot_count >> 32);
}

// Returns the owner of each slot, as index into `targets`; all kMaglevNoTarget when nobody is in.
// `base` is maglev_table(targets, seed, base.size()). `is_in` has 0 or 1 for each target; one
// without weight is not in. One of ten equal targets out: 0.1 ms for 65537 slots.
[[nodiscard]] std::vector<std::uint16_t> fallback_table(std::span<const std::uint16_t> base,
                                                        std::span<const MaglevTarget> targets,
                                                        std::span<const std::uint8_t> is_in,
                                                        std::uint64_t seed);

}  // namespace millrace::control
