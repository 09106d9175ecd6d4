// SPDX-License-Identifier: Apache-2.0
//
// The store is lost, put back from an older copy, or cannot be written: an id never names another,
// and flows of what is in force go on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "tests/unit/reconcile/full_disk.h"
#include "tests/unit/reconcile/world.h"

namespace millrace::control {
namespace {

using test::FullDisk;
using test::kThree;
using test::web_config;
using test::World;
using ::testing::HasSubstr;

class LostStoreTest : public ::testing::Test {
 protected:
  LostStoreTest() {
    (void)world_.start();
    apply(kThree);
    for (const std::string& address : kThree) world_.set_health(address, TargetState::healthy);
  }
  void apply(const std::vector<std::string>& addresses) {
    Result<ApplyOutcome> outcome = world_->apply(web_config(addresses), "test");
    EXPECT_TRUE(outcome) << outcome.error().message;
    note_ids();
  }
  void restart(const std::vector<std::string>& addresses) {
    (void)world_.start();
    apply(addresses);
  }
  std::string store() const { return world_.dir().file("state.db"); }
  void lose_store() {
    world_.kill();
    for (const char* end : {"", "-wal", "-shm"}) (void)::unlink((store() + end).c_str());
  }
  void empty_store() {
    lose_store();
    std::ofstream(store()).close();
  }
  void back_up_store() {
    world_.kill();
    std::filesystem::copy_file(store(), store() + ".backup");
  }
  void restore_backup() {
    lose_store();
    std::filesystem::copy_file(store() + ".backup", store());
  }
  // Every id that is published names what it named before, in the whole test.
  void note_ids() {
    const core::ConfigView& view = world_->published();
    for (const mr_target& target : view.targets) {
      if (target.id != 0) note(target.id, "target " + IpAddress{target.addr}.to_string());
    }
    for (const mr_listener& listener : view.listeners) {
      if (listener.id != 0)
        note(listener.id, "listener " + IpAddress{listener.vip_addr}.to_string());
    }
    for (const mr_target_group& group : view.groups) {
      if (group.id != 0) note(group.id, "group " + std::to_string(group.identity));
    }
  }
  void note(std::uint32_t id, const std::string& who) {
    const auto [at, is_new] = named_.emplace(id, who);
    EXPECT_EQ(at->second, who) << "id " << id;
  }

  World world_;
  std::map<std::uint32_t, std::string> named_;
};

TEST_F(LostStoreTest, fault_75_store_that_is_gone_or_empty_costs_no_flow) {
  for (const bool is_gone : {true, false}) {
    const Snapshot before = world_->snapshot();
    const std::uint64_t offset = world_->published().groups[0].table_offset;
    is_gone ? lose_store() : empty_store();
    restart(kThree);
    const Snapshot after = world_->snapshot();
    EXPECT_EQ(after.generation, before.generation + 1);
    EXPECT_EQ(after.listeners[0].id, before.listeners[0].id);
    EXPECT_EQ(after.listeners[0].slot, before.listeners[0].slot);
    EXPECT_EQ(after.target_groups[0].id, before.target_groups[0].id);
    EXPECT_EQ(world_->published().groups[0].table_offset, offset) << "the very same table";
    for (std::size_t i = 0; i < kThree.size(); ++i) {
      const TargetSnapshot& was = before.target_groups[0].targets[i];
      const TargetSnapshot& is = after.target_groups[0].targets[i];
      EXPECT_EQ(is.id, was.id);
      EXPECT_EQ(is.slot, was.slot);
      EXPECT_EQ(is.state, TargetState::healthy);
    }
  }
}

TEST_F(LostStoreTest, fault_75_health_and_drains_are_as_the_image_says) {
  world_.set_health("10.0.1.11", TargetState::unhealthy);
  apply({"10.0.1.11", "10.0.1.12"});
  const std::uint32_t id = world_.target("10.0.1.13").id;
  lose_store();
  restart({"10.0.1.11", "10.0.1.12"});
  EXPECT_EQ(world_.target("10.0.1.11").state, TargetState::unhealthy);
  EXPECT_EQ(world_.target("10.0.1.12").state, TargetState::healthy);
  EXPECT_EQ(world_.target("10.0.1.13").id, id);
  EXPECT_EQ(world_.target("10.0.1.13").state, TargetState::draining);
  EXPECT_EQ(world_.target("10.0.1.13").drain_seconds_left, 300u);
}

TEST_F(LostStoreTest, fault_75_targets_that_share_an_address_or_keep_the_listeners_port) {
  Config config = web_config({"10.0.1.11"});
  config.target_groups[0].targets.push_back(config.target_groups[0].targets[0]);
  config.target_groups[0].targets[1].port = 8081;
  for (const Forwarding forwarding : {Forwarding::nat, Forwarding::dsr}) {
    config.target_groups[0].forwarding = forwarding;
    ASSERT_TRUE(world_->apply(config, "test"));
    const TargetGroupSnapshot before = world_->snapshot().target_groups[0];
    lose_store();
    (void)world_.start();
    ASSERT_TRUE(world_->apply(config, "test"));
    const TargetGroupSnapshot after = world_->snapshot().target_groups[0];
    std::map<std::uint16_t, std::uint32_t> ids;
    for (const TargetSnapshot& target : before.targets) {
      if (target.state != TargetState::draining) ids[target.key.port] = target.id;
    }
    ASSERT_EQ(ids.size(), 2u);
    for (const TargetSnapshot& target : after.targets) {
      if (target.state == TargetState::draining) continue;
      EXPECT_EQ(target.id, ids[target.key.port]);
    }
  }
}

TEST_F(LostStoreTest, fault_75_older_copy_ends_no_flows_of_a_target_that_is_well_by_now) {
  world_.set_health("10.0.1.13", TargetState::unhealthy);
  back_up_store();
  restart(kThree);
  ASSERT_TRUE(world_.published_target("10.0.1.13")->flags & MR_TARGET_RESETS_FLOWS);
  world_.set_health("10.0.1.13", TargetState::healthy);
  restore_backup();
  restart(kThree);
  EXPECT_EQ(world_.published_target("10.0.1.13")->flags, MR_TARGET_KEEPS_FLOWS | MR_TARGET_HEALTHY);
}

TEST_F(LostStoreTest, fault_75_older_copy_gives_way_to_what_is_in_force) {
  back_up_store();
  restart({"10.0.1.11", "10.0.1.12", "10.0.1.14"});
  world_.start_engine();
  world_.pass(301);
  ASSERT_NE(world_.engine().adopt(), nullptr);
  world_.pass(3);
  ASSERT_FALSE(world_.has_target("10.0.1.13")) << "retired: its slot is free";
  apply({"10.0.1.11", "10.0.1.12", "10.0.1.14", "10.0.1.15"});  // gets it
  std::map<std::string, std::pair<std::uint32_t, std::uint32_t>> before;
  for (const char* address : {"10.0.1.11", "10.0.1.12", "10.0.1.14", "10.0.1.15"}) {
    before[address] = {world_.target(address).slot, world_.target(address).id};
  }
  restore_backup();
  restart({"10.0.1.11", "10.0.1.12", "10.0.1.14", "10.0.1.15", "10.0.1.13", "10.0.1.16"});
  for (const auto& [address, place] : before) {
    EXPECT_EQ(std::pair(world_.target(address).slot, world_.target(address).id), place) << address;
  }
  std::set<std::uint32_t> slots;
  const Snapshot snapshot = world_->snapshot();
  for (const TargetSnapshot& target : snapshot.target_groups[0].targets) {
    EXPECT_TRUE(slots.insert(target.slot).second);
  }
}

TEST_F(LostStoreTest, fault_75_no_id_is_used_twice_whatever_becomes_of_the_store) {
  back_up_store();
  (void)world_.start();
  for (int i = 0; i < 12; ++i) {
    if (i % 4 == 1) lose_store();
    if (i % 4 == 2) restore_backup();
    if (i % 4 == 3) empty_store();
    restart({"10.0.1.11", "10.0.2." + std::to_string(i + 1)});
  }
}

TEST_F(LostStoreTest, fault_75_without_anything_in_force_ids_begin_above_clock_and_flows) {
  world_.start_engine();
  lose_store();
  ASSERT_EQ(::unlink(world_.dir().file("config").c_str()), 0);
  restart(kThree);
  EXPECT_GE(world_->snapshot().listeners[0].id, world_.realtime_ns / kSecondNs);
  EXPECT_GE(world_.target("10.0.1.11").id, world_.realtime_ns / kSecondNs);

  lose_store();
  ASSERT_EQ(::unlink(world_.dir().file("config").c_str()), 0);
  world_.realtime_ns = 100 * kSecondNs;  // a clock that has not been set yet
  world_.flow_id_max = 4'000'000'000;
  restart(kThree);
  EXPECT_GT(world_->snapshot().listeners[0].id, 4'000'000'000u);
  EXPECT_GT(world_.target("10.0.1.11").id, 4'000'000'000u);
}

TEST_F(LostStoreTest, fault_75_full_disk_gives_no_new_ids_and_says_so) {
  const std::vector<std::string> four = {"10.0.1.11", "10.0.1.12", "10.0.1.13", "10.0.1.14"};
  restart(kThree);  // with no ids in store
  const std::uint64_t generation = world_->published().generation;
  {
    const FullDisk full;
    Result<ApplyOutcome> refused = world_->apply(web_config(four), "test");
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("1 new listeners, target groups and targets"));
    EXPECT_THAT(refused.error().message, HasSubstr("cannot write " + store()));
    EXPECT_EQ(world_->published().generation, generation);
    EXPECT_FALSE(world_.has_target("10.0.1.14"));
    ASSERT_EQ(world_->snapshot().alarms.size(), 1u);
    EXPECT_THAT(world_->snapshot().alarms[0].text, HasSubstr("state is not saved"));

    world_.set_health("10.0.1.11", TargetState::unhealthy);
    EXPECT_EQ(world_.published_target("10.0.1.11")->flags, MR_TARGET_RESETS_FLOWS)
        << "health needs no id";
  }
  world_.pass(2);
  EXPECT_TRUE(world_->snapshot().alarms.empty());
  apply(four);
  EXPECT_TRUE(world_.has_target("10.0.1.14"));
}

TEST_F(LostStoreTest, fault_75_full_disk_and_two_restarts_give_no_id_to_two_machines) {
  {
    const FullDisk full;
    EXPECT_FALSE(world_->apply(web_config({"10.0.1.11", "10.0.1.21"}), "test"))
        << "with ids that were stored ahead: the rest cannot be stored";
  }
  restart({"10.0.1.11", "10.0.1.22"});
  restart({"10.0.1.11", "10.0.1.23"});
}

TEST_F(LostStoreTest, ids_that_have_run_out_are_told) {
  lose_store();
  ASSERT_EQ(::unlink(world_.dir().file("config").c_str()), 0);
  world_.start_engine();
  world_.flow_id_max = UINT32_MAX;
  (void)world_.start();
  Result<ApplyOutcome> refused = world_->apply(web_config(kThree), "test");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("no ids are left for 5 new"));
}

}  // namespace
}  // namespace millrace::control
