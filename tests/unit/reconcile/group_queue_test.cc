// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/group_queue.h"

#include <gtest/gtest.h>

#include "tests/unit/reconcile/world.h"

namespace millrace::control {
namespace {

using Names = std::vector<std::string>;

TEST(GroupQueue, groups_come_out_in_the_order_in_which_they_first_came) {
  GroupQueue queue;
  for (const char* name : {"c", "a", "b", "a", "c"}) queue.add(name);
  EXPECT_EQ(queue.take(2), (Names{"c", "a"}));
  queue.add("c");
  EXPECT_EQ(queue.take(9), (Names{"b", "c"}));
  EXPECT_TRUE(queue.is_empty());
  EXPECT_EQ(queue.take(1), Names{});
}

TEST(GroupQueue, cleared_queue_takes_the_same_groups_again) {
  GroupQueue queue;
  queue.add("a");
  queue.clear();
  EXPECT_TRUE(queue.is_empty());
  queue.add("a");
  EXPECT_EQ(queue.take(1), Names{"a"});
}

// Two targets each, so that one that fails does not make the group fail open.
Config config_of_groups(std::size_t count) {
  std::string yaml = "node: {name: lb-1, zone: a}\nload_balancers:\n";
  std::string groups = "target_groups:\n";
  for (std::size_t i = 0; i < count; ++i) {
    const std::string number = std::to_string(i);
    yaml += "  - {name: lb-" + number + ", type: network, addresses: [203.0.113." + number +
            "], listeners: [{protocol: TCP, port: 80, default_target_group: g-" + number + "}]}\n";
    groups += "  - {name: g-" + number + ", protocol: TCP, port: 80, targets: [{id: 10.0.0." +
              number + "}, {id: 10.0.1." + number + "}]}\n";
  }
  return test::config_of(yaml + groups);
}

void tell(test::World& world, std::size_t group, TargetState state) {
  for (const char* network : {"10.0.0.", "10.0.1."}) {
    const bool is_first = std::string(network) == "10.0.0.";
    world->on_health({.group = "g-" + std::to_string(group),
                      .address = test::ip(network + std::to_string(group)),
                      .port = 80},
                     {.state = is_first ? state : TargetState::healthy,
                      .reason = {},
                      .description = "as the test says"});
  }
}

bool is_published_healthy(const test::World& world, std::size_t group) {
  const auto target = world.published_target("10.0.0." + std::to_string(group));
  return target && (target->flags & MR_TARGET_HEALTHY) != 0;
}

TEST(GroupQueue, many_changed_groups_are_published_by_turns_first_come_first_served) {
  constexpr std::size_t kCount = Reconciler::kGroupsPerImage + 8;
  test::World world;
  world.segment_bytes = 64 << 20;
  world.start();
  const auto applied = world->apply(config_of_groups(kCount), "test");
  ASSERT_TRUE(applied) << applied.error().message;
  world.is_woken = false;
  for (std::size_t i = 0; i < kCount; ++i) tell(world, i, TargetState::healthy);
  while (world.is_woken) world.settle_if_woken();
  for (std::size_t i = 0; i < kCount; ++i) ASSERT_TRUE(is_published_healthy(world, i)) << i;

  const std::uint64_t before = world->published().generation;
  for (std::size_t i = kCount; i-- > 0;) tell(world, i, TargetState::unhealthy);
  world.settle_if_woken();
  EXPECT_EQ(world->published().generation, before + 1);
  for (std::size_t i = 0; i < kCount; ++i) EXPECT_EQ(is_published_healthy(world, i), i < 8) << i;

  EXPECT_TRUE(world.is_woken) << "for those that are left";
  world.settle_if_woken();
  EXPECT_EQ(world->published().generation, before + 2);
  for (std::size_t i = 0; i < kCount; ++i) EXPECT_FALSE(is_published_healthy(world, i)) << i;
  EXPECT_FALSE(world.is_woken);
}

}  // namespace
}  // namespace millrace::control
