// SPDX-License-Identifier: Apache-2.0
#include "controlplane/config/file_watch.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "controlplane/config/dump.h"
#include "tests/support/cc/temp_dir.h"
#include "tests/support/cc/unprivileged.h"
#include "tests/unit/config/load_support.h"

namespace millrace::control {
namespace {

using ::testing::HasSubstr;

class ConfigFileWatchTest : public ::testing::Test {
 protected:
  ConfigFileWatchTest() { write(kSmallConfig); }
  // As an editor does, so that it is another file.
  void write(std::string_view text) {
    std::ofstream(dir_.file("new")) << text;
    ASSERT_EQ(std::rename(dir_.file("new").c_str(), path_.c_str()), 0);
  }
  const std::string& alarm_after(std::uint64_t ns) {
    now_ns_ += ns;
    watch_.look(in_force_, now_ns_);
    return watch_.alarm();
  }

  test::TempDir dir_;
  std::string path_ = dir_.file("millrace.yaml");
  std::string in_force_ = dump_config(load_good(kSmallConfig));
  std::uint64_t now_ns_ = 1;
  ConfigFileWatch watch_{path_};
};

TEST_F(ConfigFileWatchTest, config_that_is_the_files_is_no_alarm_however_it_is_written) {
  EXPECT_EQ(alarm_after(0), "");
  write(std::string("# a comment\n") + std::string(kSmallConfig));
  EXPECT_EQ(alarm_after(1), "");
  EXPECT_EQ(alarm_after(2 * ConfigFileWatch::kEditNs), "");
}

TEST_F(ConfigFileWatchTest, config_in_force_that_another_release_wrote_is_no_alarm) {
  in_force_ = std::string(kSmallConfig);  // without the defaults that this one writes out
  EXPECT_EQ(alarm_after(0), "");
  EXPECT_EQ(alarm_after(2 * ConfigFileWatch::kEditNs), "");
}

TEST_F(ConfigFileWatchTest, file_that_is_no_config_says_what_its_bytes_say) {
  for (const std::string text : {"nonsense: [", "more nonsense: ["}) {
    write(text);
    EXPECT_EQ(watch_.text(), text);
    EXPECT_TRUE(watch_.says(text));
    EXPECT_FALSE(watch_.says("nonsense: [ "));
    EXPECT_FALSE(watch_.says(in_force_));
  }
}

TEST_F(ConfigFileWatchTest, file_that_cannot_be_read_is_no_empty_file) {
  write("");
  EXPECT_EQ(watch_.text(), "");
  ASSERT_EQ(::unlink(path_.c_str()), 0);
  EXPECT_EQ(watch_.text(), std::nullopt);
}

TEST_F(ConfigFileWatchTest, another_config_in_force_is_an_alarm_after_a_while_and_until_it_is_not) {
  const std::string own = in_force_;
  EXPECT_EQ(alarm_after(0), "");
  in_force_ = "something else";
  EXPECT_EQ(alarm_after(1), "");
  EXPECT_THAT(alarm_after(ConfigFileWatch::kEditNs), HasSubstr("is not that of " + path_));
  in_force_ = own;
  EXPECT_EQ(alarm_after(1), "");
}

TEST_F(ConfigFileWatchTest, file_that_was_edited_broken_or_removed_and_not_applied_is_an_alarm) {
  EXPECT_EQ(alarm_after(0), "");
  std::string other(kSmallConfig);
  other.replace(other.find("10.0.1.11"), 9, "10.0.1.12");
  for (const std::string& text : {other, std::string("nonsense: ["), std::string()}) {
    write(text);
    if (text.empty()) {
      ASSERT_EQ(std::remove(path_.c_str()), 0);
    }
    EXPECT_EQ(alarm_after(1), "");
    EXPECT_NE(alarm_after(ConfigFileWatch::kEditNs), "") << text;
    write(kSmallConfig);
    EXPECT_EQ(alarm_after(1), "");
  }
}

TEST_F(ConfigFileWatchTest, file_that_may_not_be_read_any_more_is_told_as_that) {
  if (!test::is_root()) GTEST_SKIP() << "takes rights from itself, which only root has to spare";
  ASSERT_EQ(::chmod(dir_.path().c_str(), 0755), 0);
  ASSERT_EQ(::chmod(path_.c_str(), 0644), 0);
  EXPECT_EQ(alarm_after(0), "");
  ASSERT_EQ(::chmod(path_.c_str(), 0600), 0);
  const test::AsServiceUser service;
  EXPECT_EQ(alarm_after(1), "");
  EXPECT_THAT(alarm_after(ConfigFileWatch::kEditNs), HasSubstr("ermission denied"));
}

TEST_F(ConfigFileWatchTest, file_that_could_not_be_read_for_a_while_is_read_again) {
  if (!test::is_root()) GTEST_SKIP() << "takes rights from itself, which only root has to spare";
  ASSERT_EQ(::chmod(dir_.path().c_str(), 0755), 0);
  ASSERT_EQ(::chmod(path_.c_str(), 0600), 0);
  {
    const test::AsServiceUser service;
    (void)watch_.says("");
  }
  EXPECT_TRUE(watch_.says(in_force_));
  EXPECT_EQ(alarm_after(2 * ConfigFileWatch::kEditNs), "");
}

}  // namespace
}  // namespace millrace::control
