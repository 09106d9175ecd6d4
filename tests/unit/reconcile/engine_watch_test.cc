// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/engine_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "dataplane/core/nanoseconds.h"
#include "tests/support/cc/unprivileged.h"
#include "tests/unit/reconcile/fake_engine.h"

namespace millrace::control {
namespace {

using test::FakeEngine;
using ::testing::HasSubstr;
using ::testing::StartsWith;

LinkState no_link(std::uint32_t) { return {}; }

TEST(EngineWatch, without_an_engine_nothing_is_read_and_everything_may_be_reused) {
  const test::TempDir dir;
  EngineWatch watch(dir.path());
  (void)watch.poll(kSecondNs, no_link);
  EXPECT_FALSE(watch.is_alive());
  EXPECT_EQ(watch.oldest_read(7), 7u);
  const EngineSnapshot engine = watch.snapshot(7, 0, kSecondNs);
  EXPECT_EQ(engine.state, EngineState::stopped);
  EXPECT_EQ(engine.problem,
            "no engine runs with this directory: nobody holds " + dir.file("dataplane.lock"));
}

// Nobody may say "is not there" of what cannot be looked at.
TEST(EngineWatch, engine_that_may_not_be_looked_at_is_unseen_and_not_stopped) {
  if (!test::is_root()) GTEST_SKIP() << "takes rights from itself, which only root has to spare";
  const test::TempDir dir;
  const FakeEngine fake(dir.path());
  ASSERT_EQ(::chmod(dir.path().c_str(), 0755), 0);
  ASSERT_EQ(::chmod(dir.file("stats").c_str(), 0600), 0);
  EngineWatch watch(dir.path());
  const auto look = [&] {
    const test::AsServiceUser service;
    (void)watch.poll(kSecondNs, no_link);
    return watch.snapshot(0, 0, kSecondNs);
  };
  for (const unsigned lock_mode : {0644u, 0600u}) {
    ASSERT_EQ(::chmod(dir.file("dataplane.lock").c_str(), lock_mode), 0);
    const EngineSnapshot engine = look();
    EXPECT_EQ(engine.state, EngineState::unseen);
    EXPECT_FALSE(engine.is_forwarding()) << "nothing is promised";
    EXPECT_THAT(engine.problem, HasSubstr("cannot be read, so whether it runs is unknown"));
    EXPECT_THAT(engine.problem, HasSubstr("stats: Permission denied"));
    EXPECT_EQ(watch.oldest_read(7), std::nullopt) << "it may be reading anything";
  }
  ASSERT_EQ(::chmod(dir.file("stats").c_str(), 0644), 0);
  EXPECT_NE(look().state, EngineState::unseen);
}

// Members of its group may put any file into the runtime directory.
TEST(EngineWatch, counters_that_another_user_may_write_are_not_believed) {
  if (!test::is_root()) GTEST_SKIP() << "gives a file to another user, which only root may";
  const test::TempDir dir;
  const FakeEngine fake(dir.path());
  ASSERT_EQ(::chown(dir.file("stats").c_str(), test::kServiceUser, test::kServiceGroup), 0);
  EngineWatch watch(dir.path());
  (void)watch.poll(kSecondNs, no_link);
  const EngineSnapshot engine = watch.snapshot(0, 0, kSecondNs);
  EXPECT_EQ(engine.state, EngineState::unseen);
  EXPECT_THAT(engine.problem, HasSubstr("stats: others than root"));
}

TEST(EngineWatch, counters_that_cannot_be_understood_hide_an_engine_that_lives) {
  const test::TempDir dir;
  const FakeEngine fake(dir.path());
  std::ofstream(dir.file("stats")) << "of another release";
  EngineWatch watch(dir.path());
  (void)watch.poll(kSecondNs, no_link);
  EXPECT_EQ(watch.snapshot(0, 0, kSecondNs).state, EngineState::unseen);
  ASSERT_EQ(::unlink(dir.file("stats").c_str()), 0);
  (void)watch.poll(kSecondNs, no_link);
  const EngineSnapshot starting = watch.snapshot(0, 0, kSecondNs);
  EXPECT_EQ(starting.state, EngineState::stopped) << "forwards nothing yet";
  EXPECT_THAT(starting.problem, HasSubstr("shows no counters"));
}

// The XDP program goes on without its daemon, and what it is called is in the counters.
TEST(EngineWatch, counters_that_cannot_be_understood_hide_what_an_engine_left_behind) {
  const test::TempDir dir;
  { const FakeEngine fake(dir.path(), 100, MR_ENGINE_XDP); }
  std::ofstream(dir.file("stats")) << "of another release";
  EngineWatch watch(dir.path());
  (void)watch.poll(kSecondNs, no_link);
  EXPECT_FALSE(watch.is_alive());
  EXPECT_EQ(watch.snapshot(0, 0, kSecondNs).state, EngineState::unseen);
  EXPECT_THAT(watch.snapshot(0, 0, kSecondNs).problem, HasSubstr("whether it runs is unknown"));
  ASSERT_EQ(::unlink(dir.file("stats").c_str()), 0);
  std::ofstream(dir.file("stats.new")) << "of an engine that was killed while it started";
  (void)watch.poll(kSecondNs, no_link);
  EXPECT_EQ(watch.snapshot(0, 0, kSecondNs).state, EngineState::stopped) << "was never completed";
}

TEST(EngineWatch, slowest_worker_decides_what_may_be_reused) {
  const test::TempDir dir;
  FakeEngine fake(dir.path());
  EngineWatch watch(dir.path());
  EXPECT_EQ(watch.oldest_read(7), std::nullopt) << "alive, not joined yet";
  const EngineWatch::Poll first = watch.poll(kSecondNs, no_link);
  EXPECT_TRUE(first.is_new_engine);
  EXPECT_TRUE(first.twins_changed);
  EXPECT_EQ(watch.oldest_read(7), 0u) << "has adopted nothing";
  fake.acknowledge(6);
  EXPECT_EQ(watch.oldest_read(7), 6u);
  EXPECT_EQ(watch.nic_of_twin(FakeEngine::kTwinIndex), 0);
  EXPECT_EQ(watch.nic_of_twin(99), std::nullopt);
  const EngineWatch::Poll second = watch.poll(kSecondNs, no_link);
  EXPECT_FALSE(second.is_new_engine);
  EXPECT_FALSE(second.twins_changed);
}

TEST(EngineWatch, workers_of_the_xdp_engine_share_one_flow_table_and_need_no_twin) {
  const test::TempDir dir;
  const FakeEngine fake(dir.path(), 100, MR_ENGINE_XDP);
  EngineWatch watch(dir.path());
  (void)watch.poll(kSecondNs, no_link);
  const EngineSnapshot engine = watch.snapshot(0, 0, kSecondNs);
  EXPECT_EQ(engine.kind, "xdp");
  EXPECT_EQ(engine.workers.size(), 2u);
  EXPECT_EQ(engine.flow_table_count, 1u);
  EXPECT_EQ(watch.nic_of_twin(FakeEngine::kTwinIndex), 0);
}

TEST(EngineWatch, dead_engine_does_not_hold_memory_back) {
  const test::TempDir dir;
  EngineWatch watch(dir.path());
  {
    FakeEngine fake(dir.path());
    fake.acknowledge(3);
    (void)watch.poll(kSecondNs, no_link);
    EXPECT_EQ(watch.oldest_read(7), 3u);
  }
  EXPECT_EQ(watch.oldest_read(7), 7u);
  (void)watch.poll(kSecondNs, no_link);
  EXPECT_THAT(watch.snapshot(7, 0, kSecondNs).problem, HasSubstr("nobody holds "));
}

TEST(EngineWatch, restarted_engine_is_a_new_one_with_the_same_nics) {
  const test::TempDir dir;
  EngineWatch watch(dir.path());
  {
    FakeEngine fake(dir.path(), 100);
    (void)watch.poll(kSecondNs, no_link);
  }
  FakeEngine fake(dir.path(), 200);
  EXPECT_EQ(watch.oldest_read(7), std::nullopt) << "alive with another segment";
  const EngineWatch::Poll poll = watch.poll(kSecondNs, no_link);
  EXPECT_TRUE(poll.is_new_engine);
  EXPECT_FALSE(poll.twins_changed);
}

TEST(EngineWatch, problems_are_told_by_their_cause) {
  const test::TempDir dir;
  FakeEngine fake(dir.path());
  EngineWatch watch(dir.path());
  auto problem = [&](std::uint64_t published_at_ns, std::uint64_t now_ns) {
    (void)watch.poll(kSecondNs, no_link);
    return watch.snapshot(7, published_at_ns, now_ns).problem;
  };
  fake.beat(10 * kSecondNs);
  fake.acknowledge(7);
  EXPECT_EQ(problem(kSecondNs, 10 * kSecondNs), "");
  EXPECT_EQ(watch.snapshot(7, 1, 10 * kSecondNs).state, EngineState::running);

  fake.acknowledge(6);
  EXPECT_EQ(problem(10 * kSecondNs, 10 * kSecondNs), "") << "just published";
  EXPECT_THAT(problem(8 * kSecondNs, 10 * kSecondNs), HasSubstr("not acknowledged generation 7"));

  fake.writer().set_adopted(6);
  fake.writer().set_refused(7, "image 7: checksum");
  EXPECT_THAT(problem(8 * kSecondNs, 10 * kSecondNs), HasSubstr("refused generation 7: image 7"));

  fake.writer().set_heartbeat(13 * kSecondNs);
  EXPECT_THAT(problem(8 * kSecondNs, 13 * kSecondNs), HasSubstr("worker 0 stalled for 3000 ms"));

  EXPECT_THAT(problem(8 * kSecondNs, 15 * kSecondNs), HasSubstr("no sign of life for 2000 ms"));
  EXPECT_EQ(watch.snapshot(7, 8 * kSecondNs, 15 * kSecondNs).state, EngineState::stopped);
}

TEST(EngineWatch, xdp_program_forwards_on_without_its_daemon_as_long_as_it_is_attached) {
  const test::TempDir dir;
  EngineWatch watch(dir.path());
  LinkState link{.has_carrier = true, .has_xdp_program = true};
  std::vector<std::uint32_t> asked;
  const auto ask = [&](std::uint32_t index) {
    asked.push_back(index);
    return link;
  };
  const auto state_at = [&](std::uint64_t now_ns) {
    (void)watch.poll(now_ns, ask);
    return watch.snapshot(7, 0, now_ns).state;
  };
  {
    FakeEngine daemon(dir.path(), 100, MR_ENGINE_XDP);
    daemon.beat(10 * kSecondNs);
    EXPECT_EQ(state_at(10 * kSecondNs), EngineState::running);
    link = {};
    EXPECT_EQ(state_at(10 * kSecondNs), EngineState::running);
    EXPECT_TRUE(watch.snapshot(7, 0, 10 * kSecondNs).nics[0].link_up) << "it says itself";
    link = {.has_carrier = true, .has_xdp_program = true};
    EXPECT_EQ(state_at(12 * kSecondNs), EngineState::unattended) << "hangs";
  }
  EXPECT_EQ(state_at(12 * kSecondNs), EngineState::unattended);
  EXPECT_EQ(asked.back(), FakeEngine::kTwinIndex);
  EngineSnapshot engine = watch.snapshot(7, 0, 12 * kSecondNs);
  EXPECT_TRUE(engine.nics[0].link_up);
  EXPECT_EQ(engine.problem, "millrace-xdp, process " + std::to_string(::getpid()) +
                                ", has ended: nobody holds " + dir.file("dataplane.lock"));
  link.has_carrier = false;
  EXPECT_EQ(state_at(12 * kSecondNs), EngineState::unattended);
  EXPECT_FALSE(watch.snapshot(7, 0, 12 * kSecondNs).nics[0].link_up) << "as the kernel says";
  link.has_xdp_program = false;
  EXPECT_EQ(state_at(12 * kSecondNs), EngineState::stopped) << "detached";
}

TEST(EngineWatch, what_keeps_probes_from_passing_a_nic_is_told_by_its_cause) {
  const LinkState fine{.has_carrier = true};
  const LinkState set_down{.is_set_down = true, .has_carrier = false};
  const LinkState gone{.is_gone = true};
  struct Case {
    mr_engine_kind kind;
    LinkState twin;
    bool has_link;
    bool has_program;
    std::string trouble;
  };
  const Case cases[] = {
      {MR_ENGINE_DPDK, fine, true, true, ""},
      {MR_ENGINE_DPDK, {}, true, true, ""},  // the kernel does not say
      {MR_ENGINE_DPDK, fine, false, true, "nic lb0 has no link"},
      {MR_ENGINE_DPDK, fine, true, false, "nic lb0 has lost its XDP program"},
      {MR_ENGINE_DPDK, set_down, true, true, "twin mr0 of nic lb0 is down"},
      {MR_ENGINE_DPDK, set_down, false, true, "nic lb0 has no link"},
      {MR_ENGINE_DPDK, gone, true, true, "twin mr0 of nic lb0 is gone"},
      {MR_ENGINE_DPDK, gone, false, true, "twin mr0 of nic lb0 is gone"},
      {MR_ENGINE_XDP, fine, true, true, ""},
      {MR_ENGINE_XDP, fine, true, false, "nic lb0 has lost its XDP program"},
      {MR_ENGINE_XDP, set_down, false, true, "nic lb0 has no link"},
      {MR_ENGINE_XDP, gone, false, true, "nic lb0 is gone"},
  };
  for (const Case& one : cases) {
    const test::TempDir dir;
    const FakeEngine fake(dir.path(), 100, one.kind);
    fake.beat(kSecondNs);
    fake.writer().set_link(0, one.has_link);
    fake.writer().set_program(0, one.has_program);
    EngineWatch watch(dir.path());
    (void)watch.poll(kSecondNs, [&](std::uint32_t) { return one.twin; });
    const NicSnapshot nic = watch.snapshot(0, 0, kSecondNs).nics[0];
    EXPECT_EQ(nic.trouble_text, one.trouble);
    EXPECT_EQ(nic.trouble == NicTrouble::none, one.trouble.empty());
    EXPECT_EQ(nic.link_up, one.has_link && one.has_program) << one.trouble;
    EXPECT_EQ(nic.has_program, one.has_program) << one.trouble;
  }
}

TEST(EngineWatch, program_on_a_twin_is_no_engine_that_forwards) {
  const test::TempDir dir;
  std::optional<FakeEngine> fake(std::in_place, dir.path());
  EngineWatch watch(dir.path());
  fake.reset();
  (void)watch.poll(kSecondNs, [](std::uint32_t) {
    return LinkState{.has_carrier = true, .has_xdp_program = true};
  });
  EXPECT_EQ(watch.snapshot(0, 0, kSecondNs).state, EngineState::stopped);
}

TEST(EngineWatch, config_that_the_engine_does_not_even_join_is_told_with_the_reason) {
  const test::TempDir dir;
  FakeEngine fake(dir.path());
  fake.beat(10 * kSecondNs);
  fake.writer().set_refused(0, "config: others may write to it");
  EngineWatch watch(dir.path());
  (void)watch.poll(10 * kSecondNs, no_link);
  EXPECT_THAT(watch.snapshot(7, kSecondNs, 10 * kSecondNs).problem,
              HasSubstr("the engine refused all: config: others may write to it"));
}

TEST(EngineWatch, dpdk_workers_that_turn_forward_without_their_main_thread) {
  const test::TempDir dir;
  EngineWatch watch(dir.path());
  std::optional<FakeEngine> fake(std::in_place, dir.path());
  const auto state_at = [&](std::uint64_t now_ns) {
    (void)watch.poll(now_ns, no_link);
    return watch.snapshot(7, 0, now_ns).state;
  };
  fake->beat(12 * kSecondNs);
  fake->writer().set_heartbeat(10 * kSecondNs);
  EXPECT_EQ(state_at(12 * kSecondNs), EngineState::unattended);
  EXPECT_EQ(state_at(14 * kSecondNs), EngineState::stopped) << "the workers stand still, too";
  fake->beat(14 * kSecondNs);
  fake.reset();
  EXPECT_EQ(state_at(14 * kSecondNs), EngineState::stopped) << "dead";
  EXPECT_THAT(watch.snapshot(7, 0, 14 * kSecondNs).problem,
              StartsWith("millrace-dataplane, process " + std::to_string(::getpid()) +
                         ", has ended: nobody holds "));
}

TEST(EngineWatch, damaged_stats_segment_blocks_reuse_and_is_told) {
  const test::TempDir dir;
  FakeEngine fake(dir.path());
  std::ofstream(dir.file("stats"), std::ios::trunc) << "nonsense";
  EngineWatch watch(dir.path());
  (void)watch.poll(kSecondNs, no_link);
  EXPECT_EQ(watch.oldest_read(7), std::nullopt);
  EXPECT_THAT(watch.snapshot(7, 0, kSecondNs).problem, HasSubstr("cannot be read"));
}

}  // namespace
}  // namespace millrace::control
