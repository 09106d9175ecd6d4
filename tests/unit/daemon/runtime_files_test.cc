// SPDX-License-Identifier: Apache-2.0
#include "controlplane/daemon/runtime_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/cc/fake_node.h"
#include "tests/support/cc/temp_dir.h"

namespace millrace::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

class RuntimeFilesTest : public ::testing::Test {
 protected:
  Result<RuntimeFiles> open() { return RuntimeFiles::open(runtime_, dir_.file("state")); }
  void renew(RuntimeFiles& files, const Result<bool>& socket = false) {
    files.renew_lost([&] { return socket; }, node_);
  }

  test::TempDir dir_;
  test::FakeNode node_;
  std::string runtime_ = dir_.file("run");
};

TEST_F(RuntimeFilesTest, directories_are_made_and_a_second_program_is_kept_out) {
  const Result<RuntimeFiles> files = open();
  ASSERT_TRUE(files) << files.error().message;
  EXPECT_TRUE(std::filesystem::is_directory(dir_.file("state")));
  const Result<RuntimeFiles> second = open();
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr("already held by process"));
  const Result<RuntimeFiles> same_state =
      RuntimeFiles::open(dir_.file("other"), dir_.file("state"));
  ASSERT_FALSE(same_state);
  EXPECT_THAT(same_state.error().message, HasSubstr("in use by process"));
}

TEST_F(RuntimeFilesTest, nothing_is_said_while_all_is_there) {
  Result<RuntimeFiles> files = open();
  ASSERT_TRUE(files);
  renew(*files);
  EXPECT_THAT(node_.log_lines, IsEmpty());
}

TEST_F(RuntimeFilesTest, lock_that_somebody_removed_is_made_again) {
  Result<RuntimeFiles> files = open();
  ASSERT_TRUE(files);
  std::filesystem::remove_all(runtime_);
  renew(*files);
  EXPECT_THAT(node_.log_lines, ElementsAre(Pair(LogLevel::warning, HasSubstr("made again"))));
  EXPECT_FALSE(open()) << "it keeps a second one out";
}

TEST_F(RuntimeFilesTest, what_is_in_the_way_is_said_once) {
  Result<RuntimeFiles> files = open();
  ASSERT_TRUE(files);
  for (int i = 0; i < 3; ++i) renew(*files, Error{"no room"});
  EXPECT_THAT(node_.log_lines, ElementsAre(Pair(LogLevel::error, HasSubstr("no room"))));
  renew(*files, true);
  EXPECT_EQ(node_.log_lines.size(), 2u);
}

}  // namespace
}  // namespace millrace::control
