// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/epochs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "controlplane/lookup/maglev.h"
#include "dataplane/core/nanoseconds.h"

namespace millrace::control {
namespace {

constexpr EpochSettings kSettings{.seed = 7, .slot_count = 251, .window_ns = 300 * kSecondNs};

EpochMember member(std::uint32_t id, std::uint32_t weight = 100, bool keeps_flows = true) {
  return {.target_id = id,
          .target_slot = id + 1000,
          .identity = id * 0x9e3779b97f4a7c15ull,
          .weight = weight,
          .is_in = weight > 0,
          .keeps_flows = keeps_flows};
}

// Has a place in the base, and gets no new flows.
EpochMember out(std::uint32_t id, bool keeps_flows = true) {
  EpochMember member_out = member(id, 100, keeps_flows);
  member_out.is_in = false;
  return member_out;
}

// The target slot that a published index means.
std::uint32_t target_at(const Epochs& epochs, std::uint16_t index) {
  return index == MR_MEMBER_NONE ? 0 : epochs.member_slots().at(index);
}

// By slot, the target slot of its owner.
std::vector<std::uint32_t> target_slots_of(const Epochs& epochs) {
  std::vector<std::uint32_t> owners;
  for (const mr_lookup_slot& slot : epochs.table()->slots) {
    owners.push_back(target_at(epochs, slot.cur));
  }
  return owners;
}

TEST(Epochs, first_table_is_maglev_and_has_no_past) {
  Epochs epochs;
  epochs.update(std::vector{member(1), member(2), member(3)}, kSettings, 0);
  ASSERT_NE(epochs.table(), nullptr);
  ASSERT_EQ(epochs.table()->slots.size(), 251u);
  EXPECT_EQ(epochs.slots_with_prev(), 0u);
  EXPECT_EQ(epochs.next_expiry_ns(), kNever);
  EXPECT_EQ(epochs.slots_owned(1) + epochs.slots_owned(2) + epochs.slots_owned(3), 251u);
}

TEST(Epochs, nobody_with_weight_means_no_table) {
  Epochs epochs;
  epochs.update({}, kSettings, 0);
  EXPECT_EQ(epochs.table(), nullptr);
  epochs.update(std::vector{member(1, 0)}, kSettings, 0);
  EXPECT_EQ(epochs.table(), nullptr);
  EXPECT_EQ(epochs.member_slots(), std::vector<std::uint32_t>{1001});
}

TEST(Epochs, unchanged_input_gives_the_very_same_table) {
  Epochs epochs;
  epochs.update(std::vector{member(1), member(2)}, kSettings, 0);
  const auto before = epochs.table();
  epochs.update(std::vector{member(2), member(1)}, kSettings, 5 * kSecondNs);
  EXPECT_EQ(epochs.table(), before);
}

TEST(Epochs, draining_target_stays_as_prev_until_the_window_ends) {
  Epochs epochs;
  epochs.update(std::vector{member(1), member(2), member(3)}, kSettings, 0);
  const std::uint32_t owned = epochs.slots_owned(2);
  epochs.update(std::vector{member(1), out(2), member(3)}, kSettings, 10 * kSecondNs);

  EXPECT_EQ(epochs.slots_owned(2), 0u);
  EXPECT_EQ(epochs.slots_with_prev(), owned) << "nobody else's slots move";
  EXPECT_EQ(epochs.next_expiry_ns(), 310 * kSecondNs);
  EXPECT_EQ(std::ranges::count_if(
                epochs.table()->slots,
                [&](const mr_lookup_slot& slot) { return target_at(epochs, slot.prev) == 1002; }),
            static_cast<long>(owned));

  epochs.update(std::vector{member(1), out(2), member(3)}, kSettings, 310 * kSecondNs - 1);
  EXPECT_GT(epochs.slots_with_prev(), 0u);
  epochs.update(std::vector{member(1), out(2), member(3)}, kSettings, 310 * kSecondNs);
  EXPECT_EQ(epochs.slots_with_prev(), 0u);
  EXPECT_EQ(epochs.next_expiry_ns(), kNever);
}

TEST(Epochs, later_change_elsewhere_does_not_shorten_a_window) {
  Epochs epochs;
  const std::vector all{member(1), member(2), member(3), member(4)};
  epochs.update(all, kSettings, 0);
  std::vector now = all;
  now[1] = out(2);
  epochs.update(now, kSettings, 10 * kSecondNs);
  const auto after_first = epochs.table()->slots;
  now[2] = out(3);
  epochs.update(now, kSettings, 200 * kSecondNs);
  const auto after_second = epochs.table()->slots;
  epochs.update(now, kSettings, 310 * kSecondNs);
  for (std::size_t i = 0; i < after_first.size(); ++i) {
    const bool changed_second = after_first[i].cur != after_second[i].cur;
    const bool has_prev = epochs.table()->slots[i].prev != MR_MEMBER_NONE;
    EXPECT_EQ(has_prev, changed_second) << "slot " << i;
  }
}

// Numbers of changes wrap. When they are used up within one window, the oldest change's ends early;
// else it would look like one that was made just now.
TEST(Epochs, window_ends_early_when_more_changes_follow_than_have_numbers) {
  EpochSettings settings = kSettings;
  settings.slot_count = 31;
  const std::vector all{member(1), member(2), member(3)};
  std::vector without{member(1), member(2, 0), member(3)};
  Epochs epochs;
  epochs.update(all, settings, 0);
  epochs.update(without, settings, kSecondNs);
  const auto is_prev_of_any = [&] {
    return std::ranges::any_of(epochs.table()->slots, [&](const mr_lookup_slot& slot) {
      return target_at(epochs, slot.prev) == 1002;
    });
  };
  ASSERT_TRUE(is_prev_of_any());
  for (std::uint32_t change = 1; change < 70'000; ++change) {
    without[0].weight = 100 + change % 2;
    epochs.update(without, settings, kSecondNs + change * std::uint64_t{1'000'000});
    ASSERT_EQ(is_prev_of_any(), change < 65'535) << change;
  }
}

TEST(Epochs, target_that_gave_up_its_flows_is_nobodys_prev) {
  Epochs epochs;
  epochs.update(std::vector{member(1), member(2)}, kSettings, 0);
  epochs.update(std::vector{member(1), out(2, false)}, kSettings, 1);
  EXPECT_EQ(epochs.slots_with_prev(), 0u);
}

TEST(Epochs, deregistration_delay_of_zero_leaves_no_past) {
  EpochSettings settings = kSettings;
  settings.window_ns = 0;
  Epochs epochs;
  epochs.update(std::vector{member(1), member(2)}, settings, 5);
  epochs.update(std::vector{member(1), out(2)}, settings, 6);
  EXPECT_EQ(epochs.slots_with_prev(), 0u);
}

TEST(Epochs, target_that_comes_back_gets_its_slots_back) {
  Epochs epochs;
  epochs.update(std::vector{member(1), member(2)}, kSettings, 0);
  const std::uint64_t digest = epochs.table()->digest;
  epochs.update(std::vector{member(1), out(2)}, kSettings, 1);
  EXPECT_NE(epochs.table()->digest, digest);
  epochs.update(std::vector{member(1), member(2)}, kSettings, 2);
  EXPECT_EQ(epochs.table()->digest, digest);
  for (const mr_lookup_slot& slot : epochs.table()->slots) {
    const bool came_back = target_at(epochs, slot.cur) == 1002;
    EXPECT_EQ(target_at(epochs, slot.prev), came_back ? 1001u : 0u);
  }
}

TEST(Epochs, change_of_health_moves_no_slot_of_the_others) {
  Epochs epochs;
  std::vector<EpochMember> members;
  for (std::uint32_t id = 1; id <= 10; ++id) members.push_back(member(id));
  epochs.update(members, kSettings, 0);
  const std::vector<std::uint32_t> base = target_slots_of(epochs);
  for (const std::uint32_t id : {4u, 7u, 1u, 10u}) {
    members[id - 1] = out(id);
    epochs.update(members, kSettings, id);
    const std::vector<std::uint32_t> owners = target_slots_of(epochs);
    for (std::size_t i = 0; i < base.size(); ++i) {
      const bool is_in = members[base[i] - 1001].is_in;
      ASSERT_TRUE(!is_in || owners[i] == base[i]) << id << ", slot " << i;
    }
  }
}

TEST(Epochs, members_that_retire_while_others_are_out_leave_their_base_alone) {
  Epochs epochs;
  epochs.update(std::vector{member(1, 0), member(2), out(3), member(4)}, kSettings, 0);
  const std::vector<std::uint32_t> before = target_slots_of(epochs);
  epochs.update(std::vector{member(2), out(3), member(4)}, kSettings, 1);
  EXPECT_EQ(target_slots_of(epochs), before);
  epochs.update(std::vector{member(2), member(3), member(4)}, kSettings, 2);
  Epochs fresh;
  fresh.update(std::vector{member(2), member(3), member(4)}, kSettings, 2);
  EXPECT_EQ(target_slots_of(epochs), target_slots_of(fresh));
}

TEST(Epochs, table_is_there_again_after_everybody_was_out) {
  Epochs epochs;
  epochs.update(std::vector{member(1), member(2)}, kSettings, 0);
  const std::vector<std::uint32_t> before = target_slots_of(epochs);
  epochs.update(std::vector{out(1), out(2)}, kSettings, 1);
  EXPECT_EQ(epochs.table(), nullptr);
  epochs.update(std::vector{out(1), member(2)}, kSettings, 2);
  EXPECT_EQ(epochs.slots_owned(2), 251u);
  epochs.update(std::vector{member(1), member(2)}, kSettings, 3);
  EXPECT_EQ(target_slots_of(epochs), before);
}

TEST(Epochs, retired_member_leaves_the_others_slots_alone) {
  Epochs epochs;
  epochs.update(std::vector{member(1, 0), member(2), member(3)}, kSettings, 0);
  const std::uint64_t digest = epochs.table()->digest;
  std::vector<std::uint32_t> before;
  for (const auto& slot : epochs.table()->slots) before.push_back(target_at(epochs, slot.cur));
  epochs.update(std::vector{member(2), member(3)}, kSettings, 1);
  EXPECT_EQ(epochs.member_slots().size(), 2u);
  EXPECT_EQ(epochs.table()->digest, digest);
  for (std::size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(target_at(epochs, epochs.table()->slots[i].cur), before[i]);
  }
}

TEST(Epochs, many_members_leave_at_once_and_the_rest_keep_their_slots) {
  Epochs epochs;
  std::vector<EpochMember> members;
  for (std::uint32_t id = 1; id <= 40; ++id) members.push_back(member(id, id % 2 == 0 ? 100 : 0));
  epochs.update(members, kSettings, 0);
  std::vector<std::uint32_t> owners;
  for (const mr_lookup_slot& slot : epochs.table()->slots) {
    owners.push_back(target_at(epochs, slot.cur));
  }
  std::erase_if(members, [](const EpochMember& m) { return m.weight == 0; });
  epochs.update(members, kSettings, kSecondNs);
  ASSERT_EQ(epochs.member_slots().size(), 20u);
  for (std::size_t i = 0; i < owners.size(); ++i) {
    ASSERT_EQ(target_at(epochs, epochs.table()->slots[i].cur), owners[i]) << i;
  }
  EXPECT_EQ(epochs.slots_owned(1), 0u);
  EXPECT_GT(epochs.slots_owned(40), 0u);
}

TEST(Epochs, another_table_size_starts_without_a_past) {
  Epochs epochs;
  epochs.update(std::vector{member(1), member(2)}, kSettings, 0);
  EpochSettings larger = kSettings;
  larger.slot_count = 509;
  epochs.update(std::vector{member(1), member(2)}, larger, 1);
  EXPECT_EQ(epochs.table()->slots.size(), 509u);
  EXPECT_EQ(epochs.slots_with_prev(), 0u);
}

TEST(Epochs, restored_table_is_the_same_table) {
  Epochs first;
  first.update(std::vector{member(1), member(2), member(3)}, kSettings, 0);
  first.update(std::vector{member(1), member(2, 0), member(3)}, kSettings, 10 * kSecondNs);
  std::vector<std::uint32_t> ids;
  for (const std::uint32_t slot : first.member_slots()) ids.push_back(slot - 1000);

  Epochs second;
  second.restore(first.table()->slots, ids, 500 * kSecondNs);
  second.update(std::vector{member(3), member(1), member(2, 0)}, kSettings, 500 * kSecondNs);

  EXPECT_EQ(second.table()->checksum, first.table()->checksum);
  EXPECT_EQ(second.table()->digest, first.table()->digest);
  EXPECT_EQ(second.member_slots(), first.member_slots());
  EXPECT_EQ(second.next_expiry_ns(), 800 * kSecondNs) << "late rather than early";
}

// Nothing differs from what restore() assumes before it knows the targets' slots.
TEST(Epochs, restored_table_of_a_single_target_in_slot_0_is_the_same_table) {
  const EpochMember only{
      .target_id = 1, .identity = 7, .weight = 100, .is_in = true, .keeps_flows = true};
  Epochs first;
  first.update(std::vector{only}, kSettings, 0);
  Epochs second;
  second.restore(first.table()->slots, std::vector<std::uint32_t>{1}, 5 * kSecondNs);
  second.update(std::vector{only}, kSettings, 5 * kSecondNs);
  ASSERT_NE(second.table(), nullptr);
  EXPECT_EQ(second.table()->checksum, first.table()->checksum);
  EXPECT_EQ(second.slots_owned(1), 251u);
}

TEST(Epochs, restored_table_forgets_targets_that_no_longer_exist) {
  Epochs first;
  first.update(std::vector{member(1), member(2), member(3)}, kSettings, 0);
  Epochs second;
  second.restore(first.table()->slots, std::vector<std::uint32_t>{1, 0, 3}, 1);
  second.update(std::vector{member(1), member(3)}, kSettings, 1);
  EXPECT_EQ(second.slots_owned(1) + second.slots_owned(3), 251u);
  Epochs fresh;
  fresh.update(std::vector{member(1), member(3)}, kSettings, 1);
  EXPECT_EQ(second.table()->digest, fresh.table()->digest);
}

}  // namespace
}  // namespace millrace::control
