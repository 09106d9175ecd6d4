// SPDX-License-Identifier: Apache-2.0
//
// Weighted Maglev: which target owns which slot of a lookup table. Cold: runs in the control plane.
//
// Source: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
// section 3.4. Weights: in every round a target gains its weight as credit and takes one turn per
// full `weight_max` of credit, so that shares are proportional and a weight of zero owns nothing.
// The result is a pure function of the set of (identity, weight), the seed and the slot count: the
// order of `targets` does not matter, because turns are taken in the order of identities.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace millrace::control {

struct MaglevTarget {
  std::uint64_t identity;  // unique within the group, equal on every node
  std::uint32_t weight;    // 0: owns no slot
};

inline constexpr std::uint16_t kMaglevNoTarget = 0xffff;

// Returns, for each of `slot_count` slots (a prime >= 2), the index into `targets` of its owner;
// all kMaglevNoTarget when no target has weight. Fewer than 65535 targets. About 0.4 ms for 65537
// slots and 10 targets, 0.7 ms for 100.
[[nodiscard]] std::vector<std::uint16_t> maglev_table(std::span<const MaglevTarget> targets,
                                                      std::uint64_t seed, std::uint32_t slot_count);

// Digest over the identities that own the slots, in slot order: equal on two nodes exactly when
// their tables send every flow to the same target. `owners` is what maglev_table() returned.
[[nodiscard]] std::uint64_t maglev_digest(std::span<const MaglevTarget> targets,
                                          std::span<const std::uint16_t> owners);

}  // namespace millrace::control
