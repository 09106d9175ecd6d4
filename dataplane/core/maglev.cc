// SPDX-License-Identifier: Apache-2.0
#include "dataplane/core/maglev.h"

#include <algorithm>
#include <cstddef>

#include "dataplane/core/checksum64.h"

namespace millrace::core {
namespace {

// One target's permutation of the slots: offset, offset + skip, offset + 2 skip, ... modulo a
// prime, which visits every slot once (section 3.4 of the paper).
struct Turn {
  std::uint32_t target;  // index into the caller's span
  std::uint32_t weight;
  std::uint32_t credit;
  std::uint32_t next;  // slot to try next
  std::uint32_t skip;  // 1 to slot_count - 1
};

std::uint64_t hash_identity(std::uint64_t identity, std::uint64_t seed) {
  return checksum64(std::as_bytes(std::span{&identity, 1}), seed);
}

std::vector<Turn> turns_in_identity_order(std::span<const MaglevTarget> targets, std::uint64_t seed,
                                          std::uint32_t slot_count) {
  std::vector<Turn> turns;
  for (std::uint32_t index = 0; index < targets.size(); ++index) {
    if (targets[index].weight == 0) continue;
    const std::uint64_t offset = hash_identity(targets[index].identity, seed);
    const std::uint64_t skip = hash_identity(targets[index].identity, ~seed);
    turns.push_back({.target = index,
                     .weight = targets[index].weight,
                     .credit = 0,
                     .next = static_cast<std::uint32_t>(offset % slot_count),
                     .skip = static_cast<std::uint32_t>(skip % (slot_count - 1) + 1)});
  }
  std::ranges::sort(turns, [&](const Turn& a, const Turn& b) {
    return targets[a.target].identity < targets[b.target].identity;
  });
  return turns;
}

}  // namespace

std::vector<std::uint32_t> maglev_table(std::span<const MaglevTarget> targets, std::uint64_t seed,
                                        std::uint32_t slot_count) {
  std::vector<std::uint32_t> owners(slot_count, kMaglevNoTarget);
  std::vector<Turn> turns = turns_in_identity_order(targets, seed, slot_count);
  if (turns.empty()) return owners;
  const std::uint32_t weight_max = std::ranges::max(turns, {}, &Turn::weight).weight;

  // Which slots have an owner, a bit each: nearly all of the work is looking for one that has none,
  // and 65537 bits lie in the first-level cache where as many owners would not.
  std::vector<std::uint64_t> taken(slot_count / 64 + 1);
  std::uint32_t filled = 0;
  // Ends: in every round the heaviest target takes a turn, and a turn fills one slot.
  while (true) {
    for (Turn& turn : turns) {
      turn.credit += turn.weight;
      if (turn.credit < weight_max) continue;
      turn.credit -= weight_max;
      std::uint32_t slot = turn.next;
      while ((taken[slot / 64] >> slot % 64 & 1) != 0) {
        // Modulo slot_count: when the sum is below it, the difference wraps and is the larger.
        slot = std::min(slot + turn.skip, slot + turn.skip - slot_count);
      }
      turn.next = slot;
      taken[slot / 64] |= std::uint64_t{1} << slot % 64;
      owners[slot] = turn.target;
      if (++filled == slot_count) return owners;
    }
  }
}

std::uint64_t maglev_digest(std::span<const MaglevTarget> targets,
                            std::span<const std::uint32_t> owners) {
  std::vector<std::uint64_t> identities(owners.size());
  std::ranges::transform(owners, identities.begin(), [&](std::uint32_t owner) {
    return owner == kMaglevNoTarget ? 0 : targets[owner].identity;
  });
  return checksum64(std::as_bytes(std::span{identities}));
}

}  // namespace millrace::core
