// SPDX-License-Identifier: Apache-2.0
//
// Laws of the lookup table while targets are out, held against a plain model, slot by slot.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <vector>

#include "controlplane/lookup/fallback.h"
#include "controlplane/lookup/maglev.h"

namespace millrace::control {
namespace {

using Table = std::vector<std::uint16_t>;

struct Group {
  std::vector<MaglevTarget> targets;
  std::vector<std::uint8_t> is_in;
  std::uint64_t seed = 0;
  std::uint32_t slot_count = 0;

  [[nodiscard]] Table base() const { return maglev_table(targets, seed, slot_count); }
  [[nodiscard]] Table table() const { return fallback_table(base(), targets, is_in, seed); }
  [[nodiscard]] std::uint64_t digest() const { return maglev_digest(targets, table()); }
};

// What the head of fallback.h says, in the plainest form.
Table plain_table(const Group& group) {
  const Table base = group.base();
  std::vector<MaglevTarget> living = group.targets;
  for (std::size_t i = 0; i < living.size(); ++i) {
    if (group.is_in[i] == 0) living[i].weight = 0;
  }
  const Table of_the_living = maglev_table(living, group.seed, group.slot_count);
  const auto is_in = [&](std::uint16_t owner) { return group.is_in[owner] != 0; };
  const auto living_slots = static_cast<std::uint32_t>(std::ranges::count_if(base, is_in));
  Table table = base;
  for (std::uint32_t slot = 0; slot < group.slot_count; ++slot) {
    std::uint32_t look = living_slots * 16 < group.slot_count ? 64 : 0;
    while (!is_in(table[slot]) && look < 64) {
      table[slot] = base[fallback_slot(group.seed, slot, look++, group.slot_count)];
    }
    if (!is_in(table[slot])) table[slot] = of_the_living[slot];
  }
  return table;
}

Group some_group(std::size_t target_count, std::uint32_t weight_max, std::uint32_t slot_count) {
  Group group{.targets = {},
              .is_in = std::vector<std::uint8_t>(target_count, 1),
              .seed = *rc::gen::arbitrary<std::uint64_t>(),
              .slot_count = slot_count};
  const auto identities = *rc::gen::unique<std::vector<std::uint64_t>>(
      target_count, rc::gen::arbitrary<std::uint64_t>());
  for (const std::uint64_t identity : identities) {
    group.targets.push_back(
        {.identity = identity, .weight = *rc::gen::inRange<std::uint32_t>(1, weight_max + 1)});
  }
  return group;
}

// Any part of them, but not all.
void take_some_out(Group& group) {
  const auto out_percent = *rc::gen::inRange(0u, 100u);
  for (std::uint8_t& is_in : group.is_in) is_in = *rc::gen::inRange(0u, 100u) >= out_percent;
  group.is_in[*rc::gen::inRange<std::size_t>(0, group.is_in.size())] = 1;
}

RC_GTEST_PROP(fallback, is_the_one_of_the_plain_model, ()) {
  Group group = some_group(*rc::gen::element<std::size_t>(1, 2, 3, 10, 40, 130),
                           *rc::gen::element<std::uint32_t>(1, 2, 999),
                           *rc::gen::element<std::uint32_t>(2, 5, 127, 251, 4099, 65537));
  take_some_out(group);
  if (*rc::gen::inRange(0, 4) == 0) group.targets.back().weight = group.is_in.back() = 0;
  if (group.targets.size() == 1) group.targets[0].weight = group.is_in[0] = 1;
  if (std::ranges::count(group.is_in, 1) == 0) group.is_in[0] = 1;
  RC_ASSERT(group.table() == plain_table(group));
}

RC_GTEST_PROP(fallback, no_slot_moves_whose_owner_in_the_base_is_in, ()) {
  Group group = some_group(*rc::gen::inRange<std::size_t>(2, 60), 999, 4099);
  const Table base = group.base();
  for (int change = 0; change < 5; ++change) {
    take_some_out(group);
    const Table table = group.table();
    for (std::size_t slot = 0; slot < base.size(); ++slot) {
      RC_ASSERT(group.is_in[table[slot]] == 1);
      RC_ASSERT(group.is_in[base[slot]] == 0 || table[slot] == base[slot]);
    }
  }
}

RC_GTEST_PROP(fallback, table_with_nobody_out_is_the_base, ()) {
  const Group group = some_group(*rc::gen::inRange<std::size_t>(1, 60), 999, 4099);
  RC_ASSERT(group.table() == group.base());
}

RC_GTEST_PROP(fallback, table_with_nobody_in_leads_nowhere, ()) {
  Group group = some_group(*rc::gen::inRange<std::size_t>(1, 60), 999, 4099);
  std::ranges::fill(group.is_in, std::uint8_t{0});
  RC_ASSERT(group.table() == Table(group.slot_count, kMaglevNoTarget));
}

RC_GTEST_PROP(fallback, does_not_depend_on_the_order_of_targets, ()) {
  Group group = some_group(*rc::gen::inRange<std::size_t>(2, 60), 999, 4099);
  take_some_out(group);
  const std::uint64_t digest = group.digest();
  std::rotate(group.targets.begin(), group.targets.begin() + 1, group.targets.end());
  std::rotate(group.is_in.begin(), group.is_in.begin() + 1, group.is_in.end());
  RC_ASSERT(group.digest() == digest);
}

// A target that goes out moves its own slots alone, and one that comes in takes slots, but changes
// nothing among others: as long as looks find somebody.
RC_GTEST_PROP(fallback, change_of_one_target_moves_slots_from_it_or_to_it, ()) {
  Group group = some_group(*rc::gen::inRange<std::size_t>(8, 60), 1, 4099);
  for (std::size_t i = 0; i < group.is_in.size() / 3; ++i) group.is_in[i] = 0;
  const Table before = group.table();
  const auto changed = *rc::gen::inRange<std::size_t>(0, group.is_in.size());
  group.is_in[changed] ^= 1;
  const Table after = group.table();
  for (std::size_t slot = 0; slot < before.size(); ++slot) {
    RC_ASSERT(before[slot] == after[slot] || before[slot] == changed || after[slot] == changed);
  }
}

// By how much the living differ from their shares.
struct Unevenness {
  double most = 0;       // in parts of the share
  double mean_root = 0;  // root of the mean square, in square roots of the share
};

Unevenness unevenness_of(const Group& group) {
  std::vector<std::uint32_t> owned(group.targets.size());
  for (const std::uint16_t owner : group.table()) ++owned[owner];
  double weights = 0;
  double living = 0;
  for (std::size_t i = 0; i < owned.size(); ++i) {
    if (group.is_in[i] == 0) continue;
    weights += group.targets[i].weight;
    ++living;
  }
  Unevenness result;
  double squares = 0;
  for (std::size_t i = 0; i < owned.size(); ++i) {
    if (group.is_in[i] == 0) continue;
    const double share = group.slot_count * group.targets[i].weight / weights;
    result.most = std::max(result.most, std::abs(owned[i] - share) / share);
    squares += (owned[i] - share) * (owned[i] - share) / share;
  }
  result.mean_root = std::sqrt(squares / living);
  return result;
}

Group group_of(std::uint32_t target_count, std::uint32_t slot_count, std::uint32_t weight_step) {
  Group group{.targets = {},
              .is_in = std::vector<std::uint8_t>(target_count, 1),
              .seed = 5,
              .slot_count = slot_count};
  std::uint64_t identity = target_count;
  for (std::uint32_t i = 0; i < target_count; ++i) {
    identity = identity * 6364136223846793005u + 1442695040888963407u;
    group.targets.push_back({.identity = identity, .weight = 100 + weight_step * (i % 7)});
  }
  return group;
}

TEST(Fallback, shares_of_the_living_follow_their_weights_however_many_are_out) {
  for (const std::uint32_t target_count : {10u, 30u, 100u, 256u, 1000u}) {
    const std::uint32_t slot_count = target_count <= 256 ? 65537 : 655373;
    for (const std::uint32_t weight_step : {0u, 50u}) {
      Group group = group_of(target_count, slot_count, weight_step);
      for (const std::uint32_t out_percent : {10u, 50u, 80u, 95u}) {
        const std::uint32_t out_count = target_count * out_percent / 100;
        for (std::uint32_t i = 0; i < target_count; ++i) group.is_in[i] = i < out_count ? 0 : 1;
        const Unevenness found = unevenness_of(group);
        const std::string where = std::to_string(target_count) + " targets, " +
                                  std::to_string(out_percent) + " % out, weights apart by " +
                                  std::to_string(weight_step);
        EXPECT_LE(found.mean_root, 1.6) << where;
        EXPECT_LE(found.most, weight_step == 0 ? 0.12 : 0.2) << where;
      }
    }
  }
}

// Without a bound on looks, 80 heavy targets that are out would keep the light ones from being
// found.
TEST(Fallback, few_light_targets_that_are_left_share_all_slots) {
  Group group = group_of(100, 65537, 0);
  for (std::size_t i = 0; i < 100; ++i) {
    group.targets[i].weight = i < 80 ? 999 : 1;
    group.is_in[i] = i < 80 ? 0 : 1;
  }
  EXPECT_EQ(group.table(), plain_table(group));
  EXPECT_LE(unevenness_of(group).most, 0.01);
}

}  // namespace
}  // namespace millrace::control
