// SPDX-License-Identifier: Apache-2.0
//
// Laws of the lookup table, held against the paper's plain population of it.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <numeric>
#include <span>
#include <vector>

#include "controlplane/lookup/maglev.h"
#include "controlplane/model/lookup_size.h"
#include "dataplane/core/checksum64.h"

namespace millrace::control {
namespace {

constexpr std::uint32_t kSlots = 4099;

std::vector<MaglevTarget> some_targets(std::uint32_t weight_max) {
  const auto identities = *rc::gen::unique<std::vector<std::uint64_t>>(
      *rc::gen::inRange<std::size_t>(2, 30), rc::gen::arbitrary<std::uint64_t>());
  std::vector<MaglevTarget> targets;
  targets.reserve(identities.size());
  for (const std::uint64_t identity : identities) {
    targets.push_back(
        {.identity = identity, .weight = *rc::gen::inRange<std::uint32_t>(1, weight_max + 1)});
  }
  return targets;
}

// The paper's population of a table, word for word: one target after the other walks along its
// permutation to the first slot that nobody has.
std::vector<std::uint16_t> plain_maglev(std::vector<MaglevTarget> targets, std::uint64_t seed,
                                        std::uint32_t slot_count) {
  struct Walk {
    std::uint64_t at, skip;
    std::uint32_t credit;
  };
  const auto hash = [](std::uint64_t identity, std::uint64_t salt) {
    return core::checksum64(std::as_bytes(std::span{&identity, 1}), salt);
  };
  std::vector<std::uint16_t> order(targets.size());
  std::iota(order.begin(), order.end(), std::uint16_t{0});
  std::ranges::sort(order, {}, [&](std::uint16_t i) { return targets[i].identity; });
  std::vector<Walk> walks;
  walks.reserve(targets.size());
  for (const MaglevTarget& target : targets) {
    walks.push_back({.at = hash(target.identity, seed) % slot_count,
                     .skip = hash(target.identity, ~seed) % (slot_count - 1) + 1,
                     .credit = 0});
  }
  const std::uint32_t weight_max = std::ranges::max(targets, {}, &MaglevTarget::weight).weight;
  std::vector<std::uint16_t> owners(slot_count, kMaglevNoTarget);
  for (std::uint32_t filled = 0;;) {
    for (const std::uint16_t i : order) {
      walks[i].credit += targets[i].weight;
      if (walks[i].credit < weight_max) continue;
      walks[i].credit -= weight_max;
      while (owners[walks[i].at] != kMaglevNoTarget) {
        walks[i].at = (walks[i].at + walks[i].skip) % slot_count;
      }
      owners[walks[i].at] = i;
      if (++filled == slot_count) return owners;
    }
  }
}

RC_GTEST_PROP(lookup_table, is_the_one_of_the_plain_model, ()) {
  const auto identities = *rc::gen::unique<std::vector<std::uint64_t>>(
      *rc::gen::element<std::size_t>(1, 2, 3, 5, 10, 40, 130, 300),
      rc::gen::arbitrary<std::uint64_t>());
  // From tables that hardly have a slot for each target to those that have hundreds.
  const auto slot_count = *rc::gen::element<std::uint32_t>(2, 3, 5, 127, 251, 4099, 65537, 131101);
  const auto weight_max = *rc::gen::element<std::uint32_t>(1, 2, 999);
  const auto seed = *rc::gen::arbitrary<std::uint64_t>();
  std::vector<MaglevTarget> targets;
  targets.reserve(identities.size());
  for (const std::uint64_t identity : identities) {
    targets.push_back(
        {.identity = identity, .weight = *rc::gen::inRange<std::uint32_t>(0, weight_max + 1)});
  }
  targets.front().weight = weight_max;
  RC_ASSERT(maglev_table(targets, seed, slot_count) == plain_maglev(targets, seed, slot_count));
}

RC_GTEST_PROP(lookup_table, digest_is_the_checksum_of_the_owners_identities, ()) {
  const std::vector<MaglevTarget> targets = some_targets(3);
  const auto owners =
      maglev_table(targets, 7, *rc::gen::element<std::uint32_t>(2, 3, 5, 7, 127, 251, 4099));
  std::vector<std::uint64_t> identities;
  identities.reserve(owners.size());
  for (const std::uint16_t owner : owners) identities.push_back(targets[owner].identity);
  RC_ASSERT(maglev_digest(targets, owners) ==
            core::checksum64(std::as_bytes(std::span{identities})));
}

RC_GTEST_PROP(lookup_table, does_not_depend_on_the_order_of_targets, ()) {
  std::vector<MaglevTarget> targets = some_targets(999);
  const auto digest = maglev_digest(targets, maglev_table(targets, 7, kSlots));
  std::rotate(targets.begin(), targets.begin() + 1, targets.end());
  std::swap(targets.front(), targets.back());
  RC_ASSERT(maglev_digest(targets, maglev_table(targets, 7, kSlots)) == digest);
}

RC_GTEST_PROP(lookup_table, shares_follow_weights, ()) {
  const std::vector<MaglevTarget> targets = some_targets(999);
  std::vector<std::uint32_t> owned(targets.size());
  for (const std::uint32_t owner : maglev_table(targets, 7, kSlots)) ++owned[owner];
  const double weights =
      std::accumulate(targets.begin(), targets.end(), 0.0,
                      [](double sum, const MaglevTarget& target) { return sum + target.weight; });
  const std::uint32_t weight_max = std::ranges::max(targets, {}, &MaglevTarget::weight).weight;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const double expected = kSlots * targets[i].weight / weights;
    // A target is at most one turn off, and each turn is at most one slot; the last round is cut.
    RC_ASSERT(std::abs(owned[i] - expected) <= 2.0 + targets[i].weight / double(weight_max));
  }
}

RC_GTEST_PROP(lookup_table, every_target_owns_slots_of_a_table_that_suffices, ()) {
  const std::vector<MaglevTarget> targets = some_targets(999);
  Weights weights;
  for (const MaglevTarget& target : targets) weights.add(target.weight);
  std::vector<std::uint32_t> owned(targets.size());
  for (const std::uint32_t owner : maglev_table(targets, 7, lookup_size(4093, weights))) {
    ++owned[owner];
  }
  RC_ASSERT(*std::ranges::min_element(owned) > 0);
}

RC_GTEST_PROP(lookup_table, removing_a_target_moves_few_slots_of_the_others, ()) {
  std::vector<MaglevTarget> targets = some_targets(1);
  const auto before = maglev_table(targets, 7, kSlots);
  const auto removed = static_cast<std::uint32_t>(targets.size()) - 1;
  targets.pop_back();
  const auto after = maglev_table(targets, 7, kSlots);
  std::uint32_t moved = 0;
  std::uint32_t freed = 0;
  for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
    freed += before[slot] == removed;
    moved += before[slot] != removed && before[slot] != after[slot];
  }
  // Section 5.3 of the paper: a few per cent at this ratio of slots to targets.
  RC_ASSERT(moved <= freed + kSlots / 10);
}

}  // namespace
}  // namespace millrace::control
