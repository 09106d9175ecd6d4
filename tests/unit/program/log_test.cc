// SPDX-License-Identifier: Apache-2.0
#include "dataplane/program/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "tests/support/cc/temp_dir.h"

namespace millrace::program {
namespace {

// What a program writes to its stderr; `is_journal`: JOURNAL_STREAM names that file.
std::string written(bool is_journal) {
  const test::TempDir dir;
  const int before = ::dup(STDERR_FILENO);
  const int file = ::open(dir.file("err").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  struct stat own {};
  EXPECT_EQ(::fstat(file, &own), 0);
  const std::uint64_t inode = own.st_ino + (is_journal ? 0 : 1);
  const std::string stream = std::to_string(own.st_dev) + ":" + std::to_string(inode);
  (void)::dup2(file, STDERR_FILENO);
  // NOLINTBEGIN(concurrency-mt-unsafe): the test has one thread
  ::setenv("JOURNAL_STREAM", stream.c_str(), 1);
  start_log("millrace-test", spdlog::level::info);
  spdlog::debug("not written");
  spdlog::info("a target is healthy");
  spdlog::warn("a target is unhealthy");
  spdlog::error("the file is not used:\nline 3\nline 9");
  print_failure("millrace-test", "no such file");
  ::unsetenv("JOURNAL_STREAM");
  // NOLINTEND(concurrency-mt-unsafe)
  (void)::fflush(stderr);
  (void)::dup2(before, STDERR_FILENO);
  (void)::close(before);
  (void)::close(file);
  std::ifstream text(dir.file("err"));
  return {std::istreambuf_iterator<char>(text), {}};
}

TEST(Log, journal_is_told_the_priority_of_every_line) {
  EXPECT_EQ(written(true),
            "<6>a target is healthy\n"
            "<4>a target is unhealthy\n"
            "<3>the file is not used:\n<3>line 3\n<3>line 9\n"
            "<3>millrace-test: no such file\n");
}

TEST(Log, others_are_told_name_time_and_level) {
  const std::string text = written(false);
  EXPECT_EQ(text.find('<'), std::string::npos) << text;
  EXPECT_NE(text.find("[millrace-test] [warning] a target is unhealthy\n"), std::string::npos);
  EXPECT_NE(text.find("\nmillrace-test: no such file\n"), std::string::npos);
}

}  // namespace
}  // namespace millrace::program
