// SPDX-License-Identifier: Apache-2.0
//
// Known answers of the lookup table: they may change only with a migration note, because nodes of
// one cluster must agree across versions (fault 50).
#include "controlplane/lookup/maglev.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <span>
#include <vector>

#include "controlplane/lookup/fallback.h"
#include "dataplane/core/checksum64.h"

namespace millrace::control {
namespace {

std::vector<MaglevTarget> targets_of(std::initializer_list<std::uint32_t> weights) {
  std::vector<MaglevTarget> targets;
  for (const std::uint32_t weight : weights) {
    targets.push_back({.identity = 0x1000 + targets.size() * 7919, .weight = weight});
  }
  return targets;
}

TEST(maglev, fault_50_digest_is_the_one_that_every_node_computes) {
  const auto targets = targets_of({100, 100, 50});
  const auto owners = maglev_table(targets, 42, 65537);
  EXPECT_EQ(maglev_digest(targets, owners), 10503519890941960765u);
}

// Found with the paper's plain population; one digest over those of many groups.
TEST(maglev, fault_50_digests_of_many_groups_are_the_ones_that_every_node_computes) {
  std::uint64_t word = 1;
  const auto next = [&] { return word = word * 6364136223846793005u + 1442695040888963407u; };
  std::vector<std::uint64_t> digests;
  for (std::uint32_t group = 0; group < 60; ++group) {
    std::vector<MaglevTarget> targets;
    for (std::uint64_t count = 1 + next() % (group < 50 ? 30 : 1000); count > 0; --count) {
      const std::uint64_t identity = next();
      const std::uint64_t weight = group % 2 == 0 ? 100 : next() >> 33 & 7;
      targets.push_back({.identity = identity, .weight = static_cast<std::uint32_t>(weight)});
    }
    const auto owners = maglev_table(targets, next(), group % 3 == 0 ? 4099 : 65537);
    digests.push_back(maglev_digest(targets, owners));
  }
  EXPECT_EQ(core::checksum64(std::as_bytes(std::span{digests})), 3717551678321310087u);
}

// Of a hundred targets, 10, 50, 90 and 97 of which are out: looks that always find somebody, looks
// that sometimes do, and the table of the living alone.
TEST(fallback, fault_50_digests_are_the_ones_that_every_node_computes) {
  std::vector<MaglevTarget> targets;
  for (std::uint64_t i = 0; i < 100; ++i) {
    targets.push_back({.identity = i * 0x9e3779b97f4a7c15u, .weight = 100});
  }
  const auto base = maglev_table(targets, 42, 65537);
  std::vector<std::uint64_t> digests;
  for (const std::size_t out_count : {10u, 50u, 90u, 97u}) {
    std::vector<std::uint8_t> is_in(100, 1);
    std::fill_n(is_in.begin(), out_count, std::uint8_t{0});
    digests.push_back(maglev_digest(targets, fallback_table(base, targets, is_in, 42)));
  }
  EXPECT_EQ(digests, (std::vector<std::uint64_t>{11150731450330025593u, 17350464457285170572u,
                                                 13010327973419276195u, 12856935444377553383u}));
}

TEST(maglev, no_target_with_weight_owns_nothing) {
  for (const auto& targets : {targets_of({}), targets_of({0, 0})}) {
    const auto owners = maglev_table(targets, 1, 251);
    EXPECT_EQ(owners.size(), 251u);
    EXPECT_TRUE(std::ranges::all_of(owners, [](auto owner) { return owner == kMaglevNoTarget; }));
  }
}

TEST(maglev, single_target_owns_every_slot) {
  const auto owners = maglev_table(targets_of({1}), 1, 251);
  EXPECT_TRUE(std::ranges::all_of(owners, [](auto owner) { return owner == 0; }));
}

TEST(maglev, seed_changes_the_table) {
  const auto targets = targets_of({100, 100, 100});
  EXPECT_NE(maglev_table(targets, 1, 251), maglev_table(targets, 2, 251));
}

}  // namespace
}  // namespace millrace::control
