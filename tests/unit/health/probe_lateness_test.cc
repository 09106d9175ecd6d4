// SPDX-License-Identifier: Apache-2.0
#include "controlplane/health/probe_lateness.h"

#include <gtest/gtest.h>

namespace millrace::control {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr ProbeTime kStart{seconds(100'000)};

class ProbeLatenessTest : public ::testing::Test {
 protected:
  // A probe starts after this time, this late; true when a spell is over.
  bool start_after(milliseconds time, milliseconds late, LateCause cause = LateCause::cpu) {
    now_ += time;
    return lateness_.note_start(now_ - late, now_, cause);
  }

  ProbeTime now_ = kStart;
  ProbeLateness lateness_;
};

TEST_F(ProbeLatenessTest, probes_in_time_are_no_spell) {
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(start_after(milliseconds(100), ProbeLateness::kMax));
  EXPECT_FALSE(lateness_.is_on(now_));
}

TEST_F(ProbeLatenessTest, loop_that_was_held_up_once_is_a_spell_that_does_not_last) {
  for (int i = 0; i < 500; ++i) start_after(milliseconds(0), milliseconds(1000 + i));
  EXPECT_TRUE(lateness_.is_on(now_));
  EXPECT_FALSE(lateness_.lasts());
  EXPECT_FALSE(lateness_.is_on(now_ + ProbeLateness::kCalm))
      << "also when no probe is due for minutes";
}

TEST_F(ProbeLatenessTest, probes_that_are_late_again_and_again_last) {
  for (int i = 0; i < 12; ++i) {
    start_after(milliseconds(300), milliseconds(2000));
    start_after(milliseconds(200), milliseconds(0));  // by luck
  }
  EXPECT_TRUE(lateness_.lasts());
  EXPECT_TRUE(start_after(ProbeLateness::kCalm, milliseconds(0))) << "soon after they are in time";
  EXPECT_FALSE(lateness_.is_on(now_));
}

TEST_F(ProbeLatenessTest, few_probes_that_are_all_late_last) {
  start_after(seconds(0), seconds(2));
  start_after(seconds(30), seconds(2));
  EXPECT_TRUE(lateness_.lasts());
  EXPECT_TRUE(lateness_.is_on(now_ + seconds(29))) << "nothing says that it is over";
  EXPECT_TRUE(start_after(seconds(30), milliseconds(1)));
  EXPECT_FALSE(lateness_.lasts());
}

TEST_F(ProbeLatenessTest, probe_that_waits_is_late_before_it_starts) {
  const ProbeTime due = now_;
  lateness_.note_late(due, due + ProbeLateness::kMax, LateCause::cpu);
  EXPECT_FALSE(lateness_.is_on(due + ProbeLateness::kMax));
  lateness_.note_late(due, due + seconds(2), LateCause::cpu);
  EXPECT_FALSE(lateness_.lasts());
  lateness_.note_late(due, due + ProbeLateness::kMax + ProbeLateness::kLasting, LateCause::cpu);
  EXPECT_TRUE(lateness_.lasts());
}

TEST_F(ProbeLatenessTest, cause_is_that_of_the_last_late_start) {
  start_after(seconds(0), seconds(2), LateCause::places);
  start_after(seconds(4), seconds(9), LateCause::places);
  start_after(seconds(1), seconds(0), LateCause::cpu);
  EXPECT_TRUE(lateness_.lasts());
  EXPECT_EQ(lateness_.cause(), LateCause::places) << "one in time has none";
  start_after(seconds(1), seconds(2), LateCause::cpu);
  EXPECT_EQ(lateness_.cause(), LateCause::cpu);
}

TEST_F(ProbeLatenessTest, lack_of_places_is_over_soon_after_nobody_waits_for_one) {
  start_after(seconds(0), seconds(20), LateCause::places);
  ASSERT_TRUE(lateness_.lasts());
  EXPECT_TRUE(lateness_.is_on(now_ + ProbeLateness::kCalm - milliseconds(1)));
  EXPECT_FALSE(lateness_.is_on(now_ + ProbeLateness::kCalm)) << "the next start may be minutes off";
  EXPECT_TRUE(start_after(seconds(100), seconds(2), LateCause::places)) << "another spell";
  EXPECT_FALSE(lateness_.lasts());
  lateness_.note_late(now_ + seconds(100), now_ + seconds(102), LateCause::places);
  EXPECT_FALSE(lateness_.lasts()) << "of one that waits, too";
}

}  // namespace
}  // namespace millrace::control
