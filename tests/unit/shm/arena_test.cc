// SPDX-License-Identifier: Apache-2.0
#include "dataplane/shm/arena.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <map>

namespace millrace::shm {
namespace {

constexpr std::uint64_t kLine = 64;

TEST(Arena, hands_out_whole_lines_until_it_is_full) {
  Arena arena(512, 512 + 4 * kLine);
  EXPECT_EQ(arena.allocate(1), 512u);
  EXPECT_EQ(arena.allocate(65), 576u);
  EXPECT_EQ(arena.allocate(0), 704u);
  EXPECT_EQ(arena.allocate(1), std::nullopt);
  EXPECT_EQ(arena.used_bytes(), arena.total_bytes());
}

TEST(Arena, freed_neighbours_become_one_range) {
  Arena arena(0, 3 * kLine);
  (void)arena.allocate(64);
  (void)arena.allocate(64);
  (void)arena.allocate(64);
  arena.release(0, 64);
  arena.release(128, 64);
  EXPECT_EQ(arena.free_ranges().size(), 2u);
  arena.release(64, 64);
  EXPECT_EQ(arena.free_ranges().size(), 1u);
  EXPECT_EQ(arena.allocate(192), 0u);
}

TEST(Arena, block_goes_where_it_fits_best_and_fresh_memory_is_taken_last) {
  Arena arena(0, 16 * kLine);
  const std::uint64_t large = *arena.allocate(4 * kLine);
  (void)arena.allocate(64);
  const std::uint64_t small = *arena.allocate(2 * kLine);
  (void)arena.allocate(64);
  arena.release(large, 4 * kLine);
  arena.release(small, 2 * kLine);
  EXPECT_EQ(arena.allocate(2 * kLine), small);
  EXPECT_EQ(arena.allocate(3 * kLine), large);
  EXPECT_EQ(arena.allocate(2 * kLine), 8 * kLine);
}

TEST(Arena, occupy_takes_exactly_that_range_once) {
  Arena arena(512, 512 + 8 * kLine);
  EXPECT_TRUE(arena.occupy(640, 100));
  EXPECT_FALSE(arena.occupy(704, 1));
  EXPECT_FALSE(arena.occupy(0, 64)) << "before the arena";
  EXPECT_FALSE(arena.occupy(960, 128)) << "over the end";
  EXPECT_FALSE(arena.occupy(650, 64)) << "not on a line";
  EXPECT_FALSE(arena.occupy(640, ~0ull)) << "overflow";
  EXPECT_EQ(arena.allocate(128), 512u);
  EXPECT_EQ(arena.allocate(1), 768u);
}

TEST(Arena, blocks_never_overlap_and_nothing_is_lost) {
  const bool holds = rc::check("blocks_never_overlap_and_nothing_is_lost", [] {
    constexpr std::uint64_t kLines = 64;
    Arena arena(512, 512 + kLines * 64);
    std::map<std::uint64_t, std::uint64_t> held;
    const auto steps =
        *rc::gen::container<std::vector<std::uint32_t>>(rc::gen::arbitrary<std::uint32_t>());
    for (const std::uint32_t dice : steps) {
      if (dice % 3 != 0 || held.empty()) {
        const std::uint64_t bytes = 1 + dice / 3 % 400;
        if (const auto offset = arena.allocate(bytes)) held.emplace(*offset, bytes);
      } else {
        const auto victim = std::next(held.begin(), static_cast<long>(dice / 3 % held.size()));
        arena.release(victim->first, victim->second);
        held.erase(victim);
      }
      std::uint64_t end = 512;
      std::uint64_t lines = 0;
      for (const auto& [offset, bytes] : held) {
        RC_ASSERT(offset >= end);
        end = offset + (bytes + 63) / 64 * 64;
        lines += (bytes + 63) / 64;
      }
      RC_ASSERT(end <= 512 + kLines * 64);
      RC_ASSERT(arena.used_bytes() == lines * 64);
    }
    for (const auto& [offset, bytes] : held) arena.release(offset, bytes);
    RC_ASSERT(arena.free_ranges().size() == 1u);
  });
  EXPECT_TRUE(holds);
}

}  // namespace
}  // namespace millrace::shm
