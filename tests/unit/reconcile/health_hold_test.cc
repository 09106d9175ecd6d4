// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/health_hold.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dataplane/core/nanoseconds.h"

namespace millrace::control {
namespace {

using ::testing::HasSubstr;

class HoldTest : public ::testing::Test {
 protected:
  HoldTest() {
    engine_.state = EngineState::running;
    engine_.nics = {{.name = "nic0", .twin = "mr0", .mac = ""},
                    {.name = "nic1", .twin = "mr1", .mac = ""}};
    engine_.workers = {{.index = 0}, {.index = 1}};
    (void)decide();
    pass(5 * kSecondNs);
  }
  HoldDecision decide() {
    return watch_.decide({.engine = engine_,
                          .silence_ns = silence_ns_,
                          .now_ns = now_ns_,
                          .probe_timeout_min_ns = probe_timeout_min_ns_,
                          .target_nics = target_nics_});
  }
  // The control plane looks ten times a second.
  void pass(std::uint64_t ns) {
    for (const std::uint64_t end_ns = now_ns_ + ns; now_ns_ < end_ns;) {
      now_ns_ += 100 * kMillisecondNs;
      (void)decide();
    }
  }
  void set_link(std::size_t nic, bool is_up) {
    NicSnapshot& shown = engine_.nics[nic];
    shown.trouble = is_up ? NicTrouble::none : NicTrouble::no_link;
    shown.trouble_text = is_up ? "" : "nic " + shown.name + " has no link";
  }

  EngineSnapshot engine_;
  std::uint64_t now_ns_ = 1000 * kSecondNs;
  std::uint64_t silence_ns_ = 0;
  std::uint64_t probe_timeout_min_ns_ = 6 * kSecondNs;
  NicMask target_nics_ = 0b01;
  HoldWatch watch_;
};

TEST_F(HoldTest, engine_that_forwards_holds_nothing) {
  EXPECT_EQ(decide().reason, "");
  EXPECT_EQ(decide().alarm.text, "");
}

TEST_F(HoldTest, no_engine_a_young_one_and_a_silent_one_hold_everybody) {
  engine_.state = EngineState::stopped;
  engine_.problem = "the engine is not running";
  EXPECT_EQ(decide().reason, "the engine is not running");
  EXPECT_TRUE(decide().is_for_all);
  engine_.state = EngineState::running;
  EXPECT_THAT(decide().reason, HasSubstr("just started"));
  pass(2 * kSecondNs);
  EXPECT_EQ(decide().reason, "");
  silence_ns_ = 51 * kMillisecondNs;
  EXPECT_THAT(decide().reason, HasSubstr("no sign of life"));
}

TEST_F(HoldTest, program_that_forwards_without_its_daemon_carries_probes) {
  engine_.state = EngineState::unattended;
  silence_ns_ = 60 * kSecondNs;
  for (WorkerSnapshot& worker : engine_.workers) worker.heartbeat_age_ms = 60'000;
  EXPECT_EQ(decide().reason, "");
  set_link(0, false);
  EXPECT_EQ(decide().reason, "nic nic0 has no link");
}

TEST_F(HoldTest, fault_76_link_that_is_down_holds_those_behind_it_until_a_while_after) {
  set_link(0, false);
  EXPECT_EQ(decide().reason, "nic nic0 has no link");
  EXPECT_TRUE(decide().is_for_all) << "there is no other way to targets";
  pass(60 * kSecondNs);
  EXPECT_EQ(decide().held_nics, 0b01u) << "for as long as nobody can be reached";
  set_link(0, true);
  EXPECT_EQ(decide().reason, "just over: nic nic0 has no link");
  pass(2 * kSecondNs);
  EXPECT_NE(decide().reason, "");
  pass(kSecondNs);
  EXPECT_EQ(decide().reason, "");
}

TEST_F(HoldTest, fault_76_flapping_link_holds_from_its_last_time) {
  for (int flap = 0; flap < 5; ++flap) {
    set_link(0, false);
    pass(kSecondNs);
    set_link(0, true);
    pass(kSecondNs);
    EXPECT_NE(decide().reason, "") << flap;
  }
}

TEST_F(HoldTest, fault_76_targets_behind_another_nic_are_judged_as_ever) {
  target_nics_ = 0b11;
  set_link(1, false);
  EXPECT_EQ(decide().held_nics, 0b10u);
  EXPECT_FALSE(decide().is_for_all);
  pass(29 * kSecondNs);
  EXPECT_EQ(decide().held_nics, 0b10u);
  pass(2 * kSecondNs);
  EXPECT_EQ(decide().held_nics, 0u) << "others are better than ones that nobody reaches";
}

TEST_F(HoldTest, nic_without_targets_is_not_held_against_those_of_others) {
  set_link(1, false);
  EXPECT_FALSE(decide().is_for_all);
}

TEST_F(HoldTest, fault_92_worker_that_stands_still_holds_everybody) {
  engine_.workers[1].heartbeat_age_ms = 999;
  EXPECT_EQ(decide().reason, "") << "less than a sixth of what a probe waits";
  engine_.workers[1].heartbeat_age_ms = 12'000;
  EXPECT_EQ(decide().reason, "worker 1 of the engine stands still");
  EXPECT_TRUE(decide().is_for_all);
  EXPECT_THAT(decide().alarm.text, HasSubstr("(since 12 s)"));
  engine_.workers[1].heartbeat_age_ms = 0;
  EXPECT_NE(decide().reason, "") << "answers are still in its queue";
  EXPECT_EQ(decide().alarm.text, "");
  pass(1100 * kMillisecondNs);
  EXPECT_EQ(decide().reason, "");
}

TEST_F(HoldTest, fault_92_quick_probes_are_held_sooner) {
  probe_timeout_min_ns_ = 150 * kMillisecondNs;
  engine_.workers[0].heartbeat_age_ms = 74;
  EXPECT_EQ(decide().reason, "");
  engine_.workers[0].heartbeat_age_ms = 76;
  EXPECT_NE(decide().reason, "");
  EXPECT_EQ(decide().alarm.text, "") << "a hiccup";
}

}  // namespace
}  // namespace millrace::control
