// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/engine_news.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/cc/fake_node.h"

namespace millrace::control {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

class EngineNewsTest : public ::testing::Test {
 protected:
  bool note_state(EngineState state, const std::string& problem = "") {
    engine_.state = state;
    engine_.problem = problem;
    return news_.note_state(engine_);
  }
  void note_nics() { news_.note_nics(engine_); }

  test::FakeNode node_;
  EngineSnapshot engine_;
  EngineNews news_{node_};
};

TEST_F(EngineNewsTest, state_is_told_when_it_changes_and_not_again) {
  EXPECT_FALSE(note_state(EngineState::running));
  EXPECT_TRUE(news_.is_running());
  EXPECT_FALSE(note_state(EngineState::running));
  EXPECT_FALSE(note_state(EngineState::stopped, "it has ended"));
  EXPECT_FALSE(news_.is_running());
  EXPECT_FALSE(note_state(EngineState::unattended, "its daemon is away"));
  EXPECT_THAT(node_.log_lines,
              ElementsAre(Pair(LogLevel::info, "the engine runs"),
                          Pair(LogLevel::error, "nothing is forwarded: it has ended"),
                          Pair(LogLevel::error,
                               "the engine forwards, but carries out no change: its daemon is "
                               "away")));
}

TEST_F(EngineNewsTest, engine_that_is_not_there_yet_is_expected_and_one_that_is_unseen_is_not) {
  (void)note_state(EngineState::stopped, "no engine runs");
  EngineNews other(node_);
  engine_.state = EngineState::unseen;
  engine_.problem = "cannot be read";
  (void)other.note_state(engine_);
  EXPECT_THAT(node_.log_lines,
              ElementsAre(Pair(LogLevel::info, "nothing is forwarded: no engine runs"),
                          Pair(LogLevel::error, "cannot be read")));
}

TEST_F(EngineNewsTest, end_of_being_unseen_is_told_to_the_caller_once) {
  EXPECT_FALSE(note_state(EngineState::unseen));
  EXPECT_TRUE(note_state(EngineState::running));
  EXPECT_FALSE(note_state(EngineState::running));
}

TEST_F(EngineNewsTest, trouble_of_a_nic_is_an_alarm_while_it_lasts) {
  engine_.state = EngineState::running;
  engine_.nics = {{.name = "eth0", .twin = "mr0", .mac = ""},
                  {.name = "eth1", .twin = "mr1", .mac = ""}};
  engine_.nics[1].trouble = NicTrouble::no_link;
  engine_.nics[1].trouble_text = "nic eth1 has no link";
  note_nics();
  note_nics();
  const std::string text = "nic eth1 has no link: nothing comes in or leaves by it";
  EXPECT_THAT(news_.nic_alarms(), ElementsAre(Alarm{AlarmKind::link, text}));
  engine_.nics[1].trouble = NicTrouble::none;
  note_nics();
  EXPECT_THAT(news_.nic_alarms(), IsEmpty());
  EXPECT_THAT(node_.log_lines,
              ElementsAre(Pair(LogLevel::error, text), Pair(LogLevel::info, "over: " + text)));
}

TEST_F(EngineNewsTest, nics_of_an_engine_that_does_not_forward_are_no_alarm) {
  engine_.state = EngineState::stopped;
  engine_.nics = {{.name = "eth0", .twin = "mr0", .mac = ""}};
  engine_.nics[0].trouble = NicTrouble::twin_gone;
  note_nics();
  EXPECT_THAT(news_.nic_alarms(), IsEmpty());
}

}  // namespace
}  // namespace millrace::control
