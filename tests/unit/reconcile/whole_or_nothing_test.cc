// SPDX-License-Identifier: Apache-2.0
//
// What an operator asks for is in force and stored when the answer says so, or else nothing of it
// is: no room, no memory, a full disk.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tests/unit/reconcile/full_disk.h"
#include "tests/unit/reconcile/world.h"

namespace millrace::control {
namespace {

using test::FullDisk;
using test::kThree;
using test::web_config;
using test::World;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// `count` groups of one target each, behind one listener each.
Config many_groups(int count) {
  std::string listeners;
  std::string groups;
  for (int i = 0; i < count; ++i) {
    const std::string n = std::to_string(i);
    listeners += "      - {protocol: TCP, port: " + std::to_string(1000 + i) +
                 ", default_target_group: g" + n + "}\n";
    groups += "  - name: g" + n +
              "\n    protocol: TCP\n    port: 8080\n    targets: [{id: 10.1.1." +
              std::to_string(i + 1) + "}, {id: 10.1.2." + std::to_string(i + 1) + "}]\n";
  }
  return test::config_of(
      "load_balancers:\n  - name: web\n    type: network\n    addresses: [203.0.113.10]\n"
      "    listeners:\n" +
      listeners + "target_groups:\n" + groups);
}

class WholeOrNothing : public ::testing::Test {
 protected:
  WholeOrNothing() { begin(); }
  void begin() {
    (void)world_.start();
    (void)apply(web_config(kThree));
    for (const std::string& address : kThree) world_.set_health(address, TargetState::healthy);
  }
  ApplyOutcome apply(const Config& config) {
    Result<ApplyOutcome> outcome = world_->apply(config, "test");
    EXPECT_TRUE(outcome) << outcome.error().message;
    return outcome ? *outcome : ApplyOutcome{};
  }
  // The segment has room for three lookup tables, and the worker leaves no image from now on.
  void fill_segment() {
    world_.kill();
    world_.segment_bytes = 850 << 10;
    ASSERT_EQ(::unlink(world_.dir().file("config").c_str()), 0);
    begin();
    world_.start_engine();
    ASSERT_NE(world_.engine().adopt(), nullptr);
    for (const auto& [address, state] : {std::pair{"10.0.1.11", TargetState::unhealthy},
                                         std::pair{"10.0.1.12", TargetState::unhealthy},
                                         std::pair{"10.0.1.11", TargetState::healthy}}) {
      world_.set_health(address, state);
      world_.pass(1);
    }
    EXPECT_FALSE(world_->snapshot().alarms.empty());
  }
  // What everybody outside sees.
  struct Seen {
    std::uint64_t generation;
    std::string source;
    std::vector<std::string> states;
    std::size_t probed;
    friend bool operator==(const Seen&, const Seen&) = default;
  };
  Seen seen() {
    Seen out{world_->published().generation, world_->snapshot().config_source, {}, 0};
    for (const auto& group : world_->snapshot().target_groups) {
      for (const auto& target : group.targets) {
        out.states.push_back(target.key.to_string() + " " + to_string(target.state));
      }
    }
    out.probed = world_.health_targets.size();
    return out;
  }

  World world_;
};

TEST_F(WholeOrNothing, apply_on_a_full_disk_is_refused_and_leaves_no_trace) {
  const Seen before = seen();
  {
    const FullDisk full;
    Result<ApplyOutcome> refused = world_->apply(web_config({"10.0.1.12"}), "somebody");
    ASSERT_FALSE(refused);
    EXPECT_EQ(seen(), before);
    world_.settle_if_woken();
    EXPECT_EQ(seen(), before);
  }
  world_.pass(2);
  EXPECT_THAT(world_->snapshot().alarms, IsEmpty());
  EXPECT_EQ(apply(web_config({"10.0.1.12"})).targets_removed, 2u);
}

TEST_F(WholeOrNothing, settings_that_engines_do_not_see_are_stored_or_refused_as_well) {
  Config config = web_config(kThree);
  config.target_groups[0].health_check.interval_ms = 5'000;
  {
    const FullDisk full;
    Result<ApplyOutcome> refused = world_->apply(config, "somebody");
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("state.db"));
    EXPECT_NE(world_.health_targets[0].check.interval_ms, 5'000u);
  }
  EXPECT_EQ(apply(config).target_groups_changed, 1u);
  EXPECT_EQ(world_.health_targets[0].check.interval_ms, 5'000u);
}

TEST_F(WholeOrNothing, drain_and_undrain_on_a_full_disk_are_refused) {
  const TargetKey key = World::key("10.0.1.11");
  {
    const FullDisk full;
    EXPECT_FALSE(world_->drain(key));
    EXPECT_EQ(world_.target("10.0.1.11").state, TargetState::healthy);
  }
  ASSERT_TRUE(world_->drain(key));
  {
    const FullDisk full;
    EXPECT_FALSE(world_->undrain(key));
    EXPECT_EQ(world_.target("10.0.1.11").state, TargetState::draining);
  }
  (void)world_.start();
  (void)apply(web_config(kThree));
  EXPECT_EQ(world_.target("10.0.1.11").state, TargetState::draining) << "what was said holds";
}

TEST_F(WholeOrNothing, fault_83_no_room_refuses_the_whole_change_and_health_follows_later) {
  fill_segment();
  const Seen before = seen();
  Result<ApplyOutcome> refused =
      world_->apply(web_config({"10.0.1.11", "10.0.1.12", "10.0.1.13", "10.0.1.14"}), "somebody");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("acknowledged"));
  EXPECT_EQ(seen(), before);
  EXPECT_FALSE(world_->drain(World::key("10.0.1.13")));
  EXPECT_EQ(seen(), before);

  ASSERT_NE(world_.engine().adopt(), nullptr);
  world_.pass(1);
  EXPECT_THAT(world_->snapshot().alarms, IsEmpty());
  EXPECT_EQ(world_.published_target("10.0.1.12")->flags & MR_TARGET_HEALTHY, 0);
  EXPECT_NE(world_.published_target("10.0.1.11")->flags & MR_TARGET_HEALTHY, 0);
}

TEST_F(WholeOrNothing, fault_83_publish_that_failed_is_tried_again_once_a_second) {
  fill_segment();
  world_.plan_count = 0;
  constexpr int kSeconds = 5;
  for (int second = 0; second < kSeconds; ++second) {
    world_.tick_for(1);
    world_.set_health("10.0.1.13", second % 2 == 0 ? TargetState::unhealthy : TargetState::healthy);
  }
  EXPECT_GE(world_.plan_count, kSeconds - 1);
  EXPECT_LE(world_.plan_count, kSeconds) << "neither ticks nor health that changes add tries";
  EXPECT_FALSE(world_->snapshot().alarms.empty());

  ASSERT_NE(world_.engine().adopt(), nullptr);
  ASSERT_TRUE(world_->drain(World::key("10.0.1.12"))) << "who asks does not wait";
  EXPECT_THAT(world_->snapshot().alarms, IsEmpty());
}

TEST_F(WholeOrNothing, fault_83_what_could_not_be_published_outlives_what_can_be) {
  world_.kill();
  world_.segment_bytes = 850 << 10;
  ASSERT_EQ(::unlink(world_.dir().file("config").c_str()), 0);
  begin();
  world_.start_engine();
  ASSERT_NE(world_.engine().adopt(), nullptr);
  // Many, so that a few hundred images fill the segment.
  for (int i = 1; i < 250; ++i) {
    world_.local_addrs.push_back(test::ip("10.8.0." + std::to_string(i)));
  }
  IpAddress& last = world_.local_addrs.emplace_back();
  for (int i = 1; i < 60'000 && world_->snapshot().alarms.empty(); ++i) {
    last = test::ip("10.9." + std::to_string(i / 250) + "." + std::to_string(i % 250 + 1));
    world_->on_next_hops();
    world_.settle_if_woken();
  }
  ASSERT_FALSE(world_->snapshot().alarms.empty()) << "the worker leaves no image";
  ASSERT_NE(world_.engine().adopt(), nullptr);
  world_.pass(0);  // takes back the memory
  world_.set_health("10.0.1.11", TargetState::unhealthy);
  world_.pass(1);
  EXPECT_THAT(world_->snapshot().alarms, IsEmpty());
  ASSERT_EQ(world_->published().local_addrs.size(), world_.local_addrs.size());
  EXPECT_EQ(IpAddress{world_->published().local_addrs.back()}, last);
}

TEST_F(WholeOrNothing, lost_segment_that_cannot_be_made_is_tried_again_once_a_second) {
  ASSERT_EQ(::unlink(world_.dir().file("config").c_str()), 0);
  {
    const FullDisk full;
    world_.tick_for(1);
    EXPECT_THAT(world_->snapshot().alarms[0].text, HasSubstr("config segment is lost"));
  }
  const auto is_there = [&] { return ::access(world_.dir().file("config").c_str(), F_OK) == 0; };
  world_.tick_for(2);
  EXPECT_TRUE(is_there());
  EXPECT_THAT(world_->snapshot().alarms, IsEmpty());
}

TEST_F(WholeOrNothing, groups_that_change_all_at_once_come_into_force) {
  world_.kill();
  world_.segment_bytes = 1 << 20;  // for a few of the tables only
  ASSERT_EQ(::unlink(world_.dir().file("config").c_str()), 0);
  (void)world_.start();
  world_.start_engine();
  constexpr int kGroups = 40;
  (void)apply(many_groups(kGroups));
  ASSERT_NE(world_.engine().adopt(), nullptr);
  world_.pass(1);
  for (const TargetState state : {TargetState::healthy, TargetState::unhealthy}) {
    for (int i = 0; i < kGroups; ++i) {
      const TargetKey key{.group = "g" + std::to_string(i),
                          .address = test::ip("10.1.1." + std::to_string(i + 1)),
                          .port = 8080};
      world_->on_health(key, {.state = state, .reason = {}, .description = ""});
    }
    for (int turn = 0; turn < 4; ++turn) world_->settle();  // it takes so many groups at a time
    EXPECT_THAT(world_->snapshot().alarms, IsEmpty());
    int healthy = 0;
    for (const mr_target& target : world_->published().targets) {
      const bool is_of_many = IpAddress{target.addr}.to_string().starts_with("10.1.");
      healthy += is_of_many && (target.flags & MR_TARGET_HEALTHY) != 0 ? 1 : 0;
    }
    EXPECT_EQ(healthy, state == TargetState::healthy ? kGroups : 0);
    ASSERT_NE(world_.engine().adopt(), nullptr);
    world_.pass(1);
  }
}

TEST_F(WholeOrNothing, rehearsal_answers_as_apply_does_and_changes_nothing) {
  const Seen before = seen();
  const Config config = web_config({"10.0.1.11", "10.0.1.21"});
  Result<ApplyOutcome> rehearsed = world_->rehearse(config);
  ASSERT_TRUE(rehearsed) << rehearsed.error().message;
  EXPECT_EQ(seen(), before);
  world_.pass(1);
  EXPECT_EQ(seen(), before);
  EXPECT_EQ(rehearsed->targets_added, 1u);
  EXPECT_EQ(rehearsed->targets_removed, 2u);
  const ApplyOutcome applied = apply(config);
  EXPECT_EQ(applied.targets_added, 1u);
  EXPECT_EQ(applied.targets_removed, 2u);

  fill_segment();
  EXPECT_FALSE(world_->rehearse(web_config({"10.0.1.11", "10.0.1.31"})))
      << "what apply would refuse is not good";
}

// The loop does not turn meanwhile, for seconds when the config is large.
TEST_F(WholeOrNothing, apply_and_rehearsal_give_signs_of_life_between_their_parts) {
  constexpr int kParts = 4;  // text and file, tables, image, store
  world_.progress_count = 0;
  (void)apply(web_config({"10.0.1.11"}));
  EXPECT_GE(world_.progress_count, kParts);
  world_.progress_count = 0;
  ASSERT_TRUE(world_->rehearse(web_config(kThree)));
  EXPECT_GE(world_.progress_count, kParts - 1) << "nothing is stored";
}

TEST_F(WholeOrNothing, draining_the_last_target_does_not_pass_without_a_word) {
  EXPECT_THAT(*world_->drain(World::key("10.0.1.11")), IsEmpty());
  world_.set_health("10.0.1.12", TargetState::unhealthy);
  EXPECT_THAT(*world_->drain(World::key("10.0.1.13")),
              ElementsAre(HasSubstr("no healthy target is left in group web")));
  EXPECT_THAT(*world_->drain(World::key("10.0.1.12")),
              ElementsAre(HasSubstr("no target of group web gets new flows")));
  EXPECT_THAT(*world_->undrain(World::key("10.0.1.12")), IsEmpty());
}

TEST_F(WholeOrNothing, apply_that_leaves_a_listener_without_targets_says_so) {
  EXPECT_THAT(apply(web_config({"10.0.1.11"})).warnings, IsEmpty());
  EXPECT_THAT(apply(web_config({})).warnings,
              ElementsAre(HasSubstr("no target of group web gets new flows")));
}

}  // namespace
}  // namespace millrace::control
