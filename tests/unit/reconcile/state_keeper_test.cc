// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/state_keeper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dataplane/core/nanoseconds.h"
#include "tests/support/cc/fake_node.h"
#include "tests/unit/reconcile/memory_store.h"

namespace millrace::control {
namespace {

using test::MemoryStore;
using ::testing::HasSubstr;

class StateKeeperTest : public ::testing::Test {
 protected:
  static Moment at(std::uint64_t seconds) { return {seconds * kSecondNs, seconds * kSecondNs}; }

  test::FakeNode node_;
  ControlState state_;
  std::unique_ptr<MemoryStore> made_ = std::make_unique<MemoryStore>();
  MemoryStore& store_ = *made_;
  StateKeeper keeper_{std::move(made_), node_};
};

TEST_F(StateKeeperTest, stored_floor_stays_ahead_of_the_next_generation) {
  for (std::uint64_t generation = 0; generation < 3 * kNumberStep; ++generation) {
    ASSERT_TRUE(keeper_.save(state_, generation, at(1)));
    EXPECT_GT(keeper_.generation_floor(), generation + 1);
    EXPECT_EQ(store_.state().generation_floor, keeper_.generation_floor());
  }
}

TEST_F(StateKeeperTest, ids_are_given_out_once_the_store_knows) {
  NumberSource<std::uint32_t> ids(1);
  store_.is_failing = true;
  const Status refused = keeper_.reserve_ids(ids, 3);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("get no ids while these cannot be stored"));
  EXPECT_EQ(ids.room(), 0u);
  store_.is_failing = false;
  ASSERT_TRUE(keeper_.reserve_ids(ids, 3));
  EXPECT_GE(ids.room(), 3u);
  EXPECT_EQ(store_.state().id_floor, ids.floor());
}

TEST_F(StateKeeperTest, no_id_is_given_out_beyond_the_last_one) {
  NumberSource<std::uint32_t> ids(UINT32_MAX - 5);
  const Status refused = keeper_.reserve_ids(ids, 3);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("no ids are left for 3 new"));
}

TEST_F(StateKeeperTest, failure_is_an_alarm_and_tried_again_as_a_whole_later) {
  store_.is_failing = true;
  EXPECT_FALSE(keeper_.save(state_, 1, at(10)));
  EXPECT_EQ(keeper_.alarm(), "state is not saved: no room is left");
  EXPECT_FALSE(keeper_.is_retry_due(at(10).monotonic_ns));
  store_.is_failing = false;
  keeper_.save_targets({}, state_, 1, at(10));
  EXPECT_NE(keeper_.alarm(), "") << "not due yet";
  EXPECT_TRUE(keeper_.is_retry_due(at(11).monotonic_ns));
  state_.config.text = "a config";
  keeper_.save_targets({}, state_, 1, at(11));
  EXPECT_EQ(keeper_.alarm(), "");
  EXPECT_EQ(store_.state().config.text, "a config") << "not the targets alone";
  ASSERT_EQ(node_.log_lines.size(), 2u);
  EXPECT_EQ(node_.log_lines[1], (std::pair{LogLevel::info, std::string("state is saved again")}));
}

}  // namespace
}  // namespace millrace::control
