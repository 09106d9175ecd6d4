// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/slots.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <set>

namespace millrace::control {
namespace {

TEST(SlotAllocator, gives_the_lowest_free_slot) {
  SlotAllocator slots(10);
  EXPECT_EQ(slots.take(), 0u);
  EXPECT_EQ(slots.take(), 1u);
  EXPECT_EQ(slots.take(), 2u);
  slots.release(0);
  slots.release(1);
  EXPECT_EQ(slots.take(), 0u);
  EXPECT_EQ(slots.slot_count(), 3u);
}

TEST(SlotAllocator, array_gets_shorter_when_its_end_is_free) {
  SlotAllocator slots(10);
  for (int i = 0; i < 5; ++i) (void)slots.take();
  slots.release(3);
  EXPECT_EQ(slots.slot_count(), 5u);
  slots.release(4);
  EXPECT_EQ(slots.slot_count(), 3u);
}

TEST(SlotAllocator, stored_slots_are_taken_once) {
  SlotAllocator slots(10);
  EXPECT_TRUE(slots.take(4));
  EXPECT_FALSE(slots.take(4));
  EXPECT_FALSE(slots.take(10));
  EXPECT_TRUE(slots.take(2));
  EXPECT_EQ(slots.take(), 0u);
  EXPECT_EQ(slots.slot_count(), 5u);
}

TEST(SlotAllocator, is_full_at_its_ceiling) {
  SlotAllocator slots(2);
  EXPECT_EQ(slots.free_count(), 2u);
  (void)slots.take();
  (void)slots.take();
  EXPECT_EQ(slots.take(), std::nullopt);
  EXPECT_EQ(slots.free_count(), 0u);
}

TEST(SlotAllocator, slot_has_one_owner_at_a_time) {
  const bool holds = rc::check("slot_has_one_owner_at_a_time", [] {
    constexpr std::uint32_t kMax = 12;
    SlotAllocator slots(kMax);
    std::set<std::uint32_t> model;
    for (const std::uint32_t dice : *rc::gen::arbitrary<std::vector<std::uint32_t>>()) {
      if (dice % 3 == 0 && !model.empty()) {
        const auto steps = static_cast<std::ptrdiff_t>(dice / 3 % model.size());
        const std::uint32_t victim = *std::next(model.begin(), steps);
        slots.release(victim);
        model.erase(victim);
      } else if (dice % 3 == 1) {
        const std::uint32_t wanted = dice / 3 % (kMax + 2);
        RC_ASSERT(slots.take(wanted) == (wanted < kMax && model.insert(wanted).second));
      } else {
        const auto taken = slots.take();
        RC_ASSERT(taken.has_value() == (model.size() < kMax));
        if (taken) RC_ASSERT(model.insert(*taken).second);
      }
      RC_ASSERT(slots.free_count() == kMax - model.size());
      RC_ASSERT(slots.slot_count() == (model.empty() ? 0 : *model.rbegin() + 1));
    }
  });
  EXPECT_TRUE(holds);
}

TEST(NumberSource, number_taken_after_a_crash_was_never_taken_before) {
  const bool holds = rc::check("number_taken_after_a_crash_was_never_taken_before", [] {
    std::uint64_t stored_floor = 1;
    std::set<std::uint64_t> taken;
    for (const std::uint8_t run : *rc::gen::arbitrary<std::vector<std::uint8_t>>()) {
      NumberSource<std::uint64_t> numbers(stored_floor);
      for (int i = 0; i < run % 37; ++i) {
        if (numbers.room() == 0) {
          stored_floor = numbers.next() + 10;
          numbers.raise(stored_floor);
        }
        RC_ASSERT(taken.insert(numbers.take()).second);
      }
    }
  });
  EXPECT_TRUE(holds);
}

TEST(NumberSource, has_no_room_beyond_what_was_stored) {
  NumberSource<std::uint32_t> numbers(7);
  EXPECT_EQ(numbers.room(), 0u);
  numbers.raise(9);
  EXPECT_EQ(numbers.room(), 2u);
  EXPECT_EQ(numbers.take(), 7u);
  numbers.raise(8);
  EXPECT_EQ(numbers.room(), 1u) << "a floor never sinks";
}

TEST(NumberSource, numbers_that_others_used_are_skipped_and_leave_no_room) {
  NumberSource<std::uint32_t> numbers(7);
  numbers.raise(20);
  numbers.skip_to(10);
  EXPECT_EQ(numbers.room(), 10u);
  numbers.skip_to(500);
  EXPECT_EQ(numbers.room(), 0u);
  EXPECT_EQ(numbers.floor(), 500u);
}

}  // namespace
}  // namespace millrace::control
