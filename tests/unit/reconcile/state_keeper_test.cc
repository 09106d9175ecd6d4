// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/state_keeper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dataplane/core/nanoseconds.h"
#include "tests/support/cc/fake_node.h"
#include "tests/support/cc/temp_dir.h"
#include "tests/unit/reconcile/full_disk.h"

namespace millrace::control {
namespace {

using test::FullDisk;
using ::testing::HasSubstr;

class StateKeeperTest : public ::testing::Test {
 protected:
  StateStore open() const {
    Result<StateStore> store = StateStore::open(dir_.file("state.db"));
    EXPECT_TRUE(store) << store.error().message;
    return std::move(*store);
  }
  Moment at(std::uint64_t seconds) const { return {seconds * kSecondNs, seconds * kSecondNs}; }

  test::TempDir dir_;
  test::FakeNode node_;
  ControlState state_;
  StateKeeper keeper_{open(), node_};
};

TEST_F(StateKeeperTest, stored_floor_stays_ahead_of_the_next_generation) {
  for (std::uint64_t generation = 0; generation < 3 * kNumberStep; ++generation) {
    if (generation % 500 != 0) continue;
    ASSERT_TRUE(keeper_.save(state_, generation, at(1)));
    EXPECT_GT(keeper_.generation_floor(), generation + 1);
    EXPECT_EQ(open().state().generation_floor, keeper_.generation_floor());
  }
}

TEST_F(StateKeeperTest, ids_are_given_out_once_the_store_knows) {
  NumberSource<std::uint32_t> ids(1);
  {
    const FullDisk full;
    const Status refused = keeper_.reserve_ids(ids, 3);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("get no ids while these cannot be stored"));
    EXPECT_EQ(ids.room(), 0u);
  }
  ASSERT_TRUE(keeper_.reserve_ids(ids, 3));
  EXPECT_GE(ids.room(), 3u);
  EXPECT_EQ(open().state().id_floor, ids.floor());
}

TEST_F(StateKeeperTest, failure_is_an_alarm_and_tried_again_as_a_whole_later) {
  {
    const FullDisk full;
    EXPECT_FALSE(keeper_.save(state_, 1, at(10)));
  }
  EXPECT_THAT(keeper_.alarm(), HasSubstr("state is not saved: "));
  EXPECT_FALSE(keeper_.is_retry_due(at(10).monotonic_ns));
  keeper_.save_targets({}, state_, 1, at(10));
  EXPECT_NE(keeper_.alarm(), "") << "not due yet";
  EXPECT_TRUE(keeper_.is_retry_due(at(11).monotonic_ns));
  state_.config.text = "a config";
  keeper_.save_targets({}, state_, 1, at(11));
  EXPECT_EQ(keeper_.alarm(), "");
  EXPECT_EQ(open().state().config.text, "a config") << "not the targets alone";
  ASSERT_EQ(node_.log_lines.size(), 2u);
  EXPECT_EQ(node_.log_lines[1], (std::pair{LogLevel::info, std::string("state is saved again")}));
}

}  // namespace
}  // namespace millrace::control
