// SPDX-License-Identifier: Apache-2.0
//
// The control plane dies and comes back: same ids, same health, same tables, no packet lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <unistd.h>

#include <set>

#include "controlplane/config/dump.h"
#include "controlplane/reconcile/restore.h"
#include "tests/support/cc/random_settings.h"
#include "tests/unit/reconcile/world.h"

namespace millrace::control {
namespace {

using test::kThree;
using test::web_config;
using test::World;

class RestartTest : public ::testing::Test {
 protected:
  RestartTest() {
    (void)world_.start();
    apply(web_config(kThree));
    for (const std::string& address : kThree) world_.set_health(address, TargetState::healthy);
  }
  void apply(const Config& config) {
    Result<ApplyOutcome> outcome = world_->apply(config, "test");
    EXPECT_TRUE(outcome) << outcome.error().message;
  }
  void restart(const Config& config) {
    (void)world_.start();
    apply(config);
  }
  std::uint64_t digest() { return world_->snapshot().target_groups[0].table_digest; }

  World world_;
};

TEST_F(RestartTest, fault_31_ids_slots_health_and_table_are_the_same) {
  const Snapshot before = world_->snapshot();
  const std::uint64_t offset = world_->published().groups[0].table_offset;
  restart(web_config(kThree));
  const Snapshot after = world_->snapshot();
  EXPECT_EQ(after.generation, before.generation + 1);
  EXPECT_EQ(after.listeners[0].id, before.listeners[0].id);
  EXPECT_EQ(after.target_groups[0].id, before.target_groups[0].id);
  EXPECT_EQ(after.target_groups[0].table_digest, before.target_groups[0].table_digest);
  EXPECT_EQ(world_->published().groups[0].table_offset, offset) << "not even copied";
  for (std::size_t i = 0; i < kThree.size(); ++i) {
    const TargetSnapshot& was = before.target_groups[0].targets[i];
    const TargetSnapshot& is = after.target_groups[0].targets[i];
    EXPECT_EQ(is.id, was.id);
    EXPECT_EQ(is.slot, was.slot);
    EXPECT_EQ(is.state, TargetState::healthy);
  }
  ASSERT_EQ(world_.health_targets.size(), 3u);
  for (const HealthTarget& target : world_.health_targets) {
    ASSERT_TRUE(target.restored.has_value());
    EXPECT_EQ(target.restored->state, TargetState::healthy);
  }
}

TEST_F(RestartTest, fault_31_next_hops_stay_until_the_kernel_has_answered) {
  world_.start_engine();
  world_.resolve("10.0.1.11", 0x11);
  world_.pass(1);
  ASSERT_EQ(world_.published_target("10.0.1.11")->next_hop.flags, MR_NEXT_HOP_RESOLVED);
  ASSERT_NE(world_.engine().adopt(), nullptr);
  world_.forget_next_hops();
  restart(web_config(kThree));
  ASSERT_NE(world_.engine().adopt(), nullptr);
  EXPECT_EQ(world_.published_target("10.0.1.11")->next_hop.flags, MR_NEXT_HOP_RESOLVED);
  EXPECT_EQ(world_.published_target("10.0.1.11")->next_hop.mac[5], 0x11);
  world_.pass(6);
  EXPECT_EQ(world_.published_target("10.0.1.11")->next_hop.flags, 0)
      << "the kernel had its time and says that there is none";
}

// Also without the store: the image's TCP group is the config's of TCP_UDP.
TEST_F(RestartTest, group_and_listener_that_got_udp_meanwhile_keep_their_ids_and_table) {
  for (const bool is_store_lost : {false, true}) {
    apply(web_config(kThree));
    const Snapshot before = world_->snapshot();
    world_.kill();
    for (const char* end : {"", "-wal", "-shm"}) {
      if (is_store_lost) (void)::unlink((world_.dir().file("state.db") + end).c_str());
    }
    Config both = web_config(kThree);
    both.load_balancers[0].listeners[0].protocol = Protocol::tcp_udp;
    both.target_groups[0].protocol = Protocol::tcp_udp;
    restart(both);
    const Snapshot after = world_->snapshot();
    ASSERT_EQ(after.listeners.size(), 2u);
    EXPECT_EQ(after.listeners[0].protocol, Protocol::tcp);
    EXPECT_EQ(after.listeners[0].id, before.listeners[0].id);
    EXPECT_EQ(after.listeners[1].protocol, Protocol::udp);
    EXPECT_EQ(after.target_groups[0].id, before.target_groups[0].id);
    EXPECT_EQ(after.target_groups[0].table_digest, before.target_groups[0].table_digest);
    for (std::size_t i = 0; i < kThree.size(); ++i) {
      EXPECT_EQ(after.target_groups[0].targets[i].id, before.target_groups[0].targets[i].id);
      EXPECT_EQ(after.target_groups[0].targets[i].state, TargetState::healthy);
    }
    EXPECT_EQ(world_.health_targets.size(), kThree.size()) << "one health check for both";
  }
}

TEST_F(RestartTest, changes_made_to_the_file_meanwhile_are_applied_like_any) {
  world_.kill();
  restart(web_config({"10.0.1.11", "10.0.1.12", "10.0.1.14"}));
  EXPECT_EQ(world_.target("10.0.1.13").state, TargetState::draining);
  EXPECT_EQ(world_.target("10.0.1.14").state, TargetState::initial);
  EXPECT_EQ(world_.target("10.0.1.11").state, TargetState::healthy);
  EXPECT_GT(world_->snapshot().target_groups[0].slots_with_prev, 0u);
}

TEST_F(RestartTest, drain_ends_when_it_would_have_ended) {
  ASSERT_TRUE(world_->drain(World::key("10.0.1.12")));
  world_.kill();
  world_.pass(100);
  restart(web_config(kThree));
  EXPECT_EQ(world_.target("10.0.1.12").state, TargetState::draining);
  EXPECT_EQ(world_.target("10.0.1.12").drain_seconds_left, 200u);
  EXPECT_TRUE(world_.target("10.0.1.12").operator_drained);
  world_.pass(200);
  EXPECT_EQ(world_.target("10.0.1.12").state, TargetState::unused);
}

TEST_F(RestartTest, drain_whose_delay_was_shortened_ends_when_it_would_have_ended) {
  ASSERT_TRUE(world_->drain(World::key("10.0.1.12")));
  world_.pass(100);
  Config config = web_config(kThree);
  for (const std::uint32_t delay : {60U, 250U}) {
    config.target_groups[0].deregistration_delay_seconds = delay;
    apply(config);
    const auto left = world_.target("10.0.1.12").drain_seconds_left;
    EXPECT_EQ(left, 60u);
    restart(config);
    EXPECT_EQ(world_.target("10.0.1.12").drain_seconds_left, left);
  }
}

// They decide how its targets' flows go on: to which port, for how long, to the previous target.
TEST(StoredSettingsTest, of_a_group_that_left_the_config_are_all_as_they_were) {
  EXPECT_TRUE(rc::check("settings are the same after a restart", [] {
    TargetGroup group = test::random_settings(*rc::gen::element(Protocol::tcp, Protocol::udp));
    group.name = "web";
    group.port = 80;
    ControlState state;
    state.ids.raise(100);
    state.groups["web"].settings = group;
    state.groups["web"].settings.targets.resize(2);
    state.groups["web"].is_configured = false;
    const Result<ControlState> after = from_store(to_store(state, 0, {}), {});
    RC_ASSERT(after.has_value());
    RC_ASSERT(after->groups.at("web").settings == group);
  }));
}

TEST_F(RestartTest, fault_47_wall_clock_jump_does_not_stretch_a_drain) {
  ASSERT_TRUE(world_->drain(World::key("10.0.1.12")));
  world_.kill();
  world_.realtime_ns -= 3600 * kSecondNs;
  restart(web_config(kThree));
  EXPECT_EQ(world_.target("10.0.1.12").drain_seconds_left, 300u);
  world_.realtime_ns += 7200 * kSecondNs;
  world_.pass(1);
  EXPECT_EQ(world_.target("10.0.1.12").drain_seconds_left, 299u) << "the running one ignores it";
}

TEST_F(RestartTest, windows_of_changed_slots_stay_open) {
  world_.set_health("10.0.1.12", TargetState::unhealthy);
  world_.set_health("10.0.1.12", TargetState::healthy);
  const std::uint32_t open = world_->snapshot().target_groups[0].slots_with_prev;
  ASSERT_GT(open, 0u);
  restart(web_config(kThree));
  EXPECT_EQ(world_->snapshot().target_groups[0].slots_with_prev, open);
  world_.pass(300);
  EXPECT_EQ(world_->snapshot().target_groups[0].slots_with_prev, 0u);
}

TEST_F(RestartTest, restart_after_restart_uses_no_id_twice) {
  std::set<std::uint32_t> ids;
  for (int i = 0; i < 5; ++i) {
    const std::string address = "10.0.2." + std::to_string(i + 1);
    restart(web_config({"10.0.1.11", address}));
    EXPECT_TRUE(ids.insert(world_.target(address).id).second);
  }
}

TEST_F(RestartTest, last_good_config_is_remembered) {
  (void)world_.start();
  EXPECT_EQ(test::config_of(world_->stored_config().text), web_config(kThree));
}

TEST_F(RestartTest, lost_segment_and_lost_engine_are_made_up_for_from_the_store) {
  const std::uint64_t before = digest();
  const std::uint64_t generation = world_->published().generation;
  world_.kill();
  ASSERT_EQ(::unlink(world_.dir().file("config").c_str()), 0);
  restart(web_config(kThree));
  EXPECT_EQ(digest(), before);
  EXPECT_GT(world_->published().generation, generation);
  EXPECT_EQ(world_.target("10.0.1.11").state, TargetState::healthy);
}

TEST_F(RestartTest, lost_store_does_not_lead_to_a_generation_that_workers_think_they_know) {
  world_.start_engine();
  ASSERT_NE(world_.engine().adopt(), nullptr);
  const std::uint64_t acknowledged = world_.engine().config().generation;
  world_.kill();
  for (const char* file : {"config", "state.db", "state.db-wal", "state.db-shm"}) {
    (void)::unlink(world_.dir().file(file).c_str());
  }
  restart(web_config(kThree));
  EXPECT_GT(world_->published().generation, acknowledged);
  ASSERT_NE(world_.engine().adopt(), nullptr);
}

TEST_F(RestartTest, fault_31_engine_sees_one_generation_after_the_other) {
  world_.start_engine();
  ASSERT_NE(world_.engine().adopt(), nullptr);
  for (int i = 0; i < 3; ++i) {
    const std::uint64_t before = world_.engine().config().generation;
    restart(web_config(kThree));
    ASSERT_NE(world_.engine().adopt(), nullptr);
    EXPECT_EQ(world_.engine().config().generation, before + 1);
    EXPECT_TRUE(world_->snapshot().alarms.empty());
  }
}

TEST_F(RestartTest, fault_81_what_was_applied_past_the_file_goes_on) {
  const Config file = web_config(kThree);
  const Config applied = web_config({"10.0.1.11"});
  const auto apply_as = [&](const Config& config, const std::string& source) {
    ASSERT_TRUE(world_->apply(config, source));
  };
  const auto is_apply_newer = [&] {
    (void)world_.start();
    return world_->is_stored_config_newer_than_file();
  };
  world_.write_config_file(dump_config(file));
  apply_as(file, "apply of the file");
  EXPECT_TRUE(world_->snapshot().is_config_file_in_force) << "whoever brought it in";
  EXPECT_FALSE(is_apply_newer()) << "the file says the same";

  // It was edited while it was read.
  ASSERT_TRUE(world_->resume(file));
  world_.write_config_file("edited");
  apply_as(file, world_.config_file());
  EXPECT_FALSE(is_apply_newer()) << "a start reads the file";
  world_.write_config_file(dump_config(file));

  ASSERT_TRUE(world_->resume(file));
  apply_as(applied, "apply by somebody");
  const Snapshot before = world_->snapshot();
  ASSERT_TRUE(is_apply_newer());
  const LoadResult stored = load_config(world_->stored_config().text, "stored");
  ASSERT_TRUE(world_->resume(std::get<Config>(stored)));
  world_.realtime_ns += 1000 * kSecondNs;
  const Snapshot after = world_->snapshot();
  EXPECT_EQ(after.config_source, "apply by somebody");
  EXPECT_EQ(after.config_applied_ns, before.config_applied_ns);
  EXPECT_EQ(world_.target("10.0.1.12").state, TargetState::draining);
  EXPECT_FALSE(after.is_config_file_in_force);
  ASSERT_TRUE(is_apply_newer()) << "over any number of restarts";

  world_.write_config_file("edited");
  EXPECT_FALSE(is_apply_newer()) << "then the file is the newer word";
  ASSERT_TRUE(world_->resume(applied));
  apply_as(applied, "apply by somebody");
  EXPECT_TRUE(is_apply_newer()) << "the file as it was when somebody applied";
}

// Releases differ in what their dumps write out, so nothing that is kept may depend on one.
TEST_F(RestartTest, fault_81_what_was_applied_past_the_file_goes_on_over_an_upgrade) {
  const std::string file = "# ours\n" + dump_config(web_config(kThree));
  world_.write_config_file(file);
  apply(web_config({"10.0.1.11"}));
  (void)world_.start();
  EXPECT_EQ(world_->stored_config().file_text, file) << "as it was written";
  EXPECT_TRUE(world_->is_stored_config_newer_than_file());
  world_.write_config_file("# ours, with another comment\n\n" + file);
  EXPECT_TRUE(world_->is_stored_config_newer_than_file()) << "it says the same";
  ASSERT_TRUE(world_->resume(web_config({"10.0.1.11"})));
  EXPECT_FALSE(world_->snapshot().is_config_file_in_force);
  world_.write_config_file(dump_config(web_config({"10.0.1.11"})));
  EXPECT_TRUE(world_->snapshot().is_config_file_in_force) << "as the alarm says, too";
}

// A file that is away for a moment is no word of anybody.
TEST_F(RestartTest, fault_81_what_was_applied_while_the_file_could_not_be_read_goes_on) {
  const std::string file = "# ours\n" + dump_config(web_config(kThree));
  const auto is_apply_newer = [&] {
    (void)world_.start();
    return world_->is_stored_config_newer_than_file();
  };
  world_.write_config_file(file);
  ASSERT_TRUE(world_->apply(web_config(kThree), world_.config_file()));
  ASSERT_FALSE(is_apply_newer()) << "it was read from there";
  ASSERT_TRUE(world_->resume(web_config(kThree)));
  for (const char* address : {"10.0.1.11", "10.0.1.12"}) {
    ASSERT_EQ(::unlink(world_.config_file().c_str()), 0);
    apply(web_config({address}));
    world_.write_config_file(file);
    EXPECT_TRUE(is_apply_newer()) << "the file came back as it was";
    ASSERT_TRUE(world_->resume(web_config({address})));
  }
  world_.write_config_file(dump_config(web_config({"10.0.1.13"})));
  EXPECT_FALSE(is_apply_newer()) << "it says something else";
}

TEST_F(RestartTest, fault_81_what_was_applied_past_an_empty_file_goes_on) {
  world_.write_config_file("");
  apply(web_config({"10.0.1.11"}));
  (void)world_.start();
  EXPECT_TRUE(world_->is_stored_config_newer_than_file());
  world_.write_config_file(dump_config(web_config(kThree)));
  EXPECT_FALSE(world_->is_stored_config_newer_than_file());
}

}  // namespace
}  // namespace millrace::control
