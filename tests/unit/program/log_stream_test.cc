// SPDX-License-Identifier: Apache-2.0
//
// Readers that stop, go, or have no room: a line is written, or counted as lost, and nobody waits.
// A write that did wait would hang this test.
#include "dataplane/program/log_stream.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>

#include "dataplane/os/file.h"
#include "tests/support/cc/temp_dir.h"

namespace millrace::program {
namespace {

using os::File;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

struct Ends {
  File reader;
  File writer;
};

Ends make_pipe() {
  std::array<int, 2> fds{};
  EXPECT_EQ(::pipe2(fds.data(), O_CLOEXEC), 0);
  return {File(fds[0]), File(fds[1])};
}

Ends make_sockets() {
  std::array<int, 2> fds{};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
  return {File(fds[0]), File(fds[1])};
}

// All that there is to read.
std::string drain(const File& file) {
  EXPECT_EQ(::fcntl(file.fd(), F_SETFL, O_NONBLOCK), 0);
  std::string text;
  std::array<char, 65536> chunk{};
  for (ssize_t got = 0; (got = ::read(file.fd(), chunk.data(), chunk.size())) > 0;) {
    text.append(chunk.data(), static_cast<std::size_t>(got));
  }
  return text;
}

class LogStreamTest : public testing::TestWithParam<Ends (*)()> {
 protected:
  LogStreamTest() { EXPECT_NE(::signal(SIGPIPE, SIG_IGN), SIG_ERR); }
};

TEST_P(LogStreamTest, fault_87_reader_that_stops_loses_lines_and_is_told_how_many) {
  const Ends ends = GetParam()();
  LogStream log(ends.writer.fd());
  constexpr int kLines = 20'000;
  for (int i = 0; i < kLines; ++i)
    log.write("line " + std::to_string(i) + std::string(50, '.') + "\n");
  const std::string before = drain(ends.reader);
  log.write("after\n");
  const std::string after = drain(ends.reader);
  const std::string all = before + after;
  EXPECT_THAT(all, StartsWith("line 0."));
  EXPECT_THAT(all, EndsWith("after\n"));
  const auto whole = static_cast<int>(std::count(all.begin(), all.end(), '\n')) - 2;
  EXPECT_GT(whole, 0);
  EXPECT_THAT(all,
              HasSubstr("(" + std::to_string(kLines - whole) + " lines of this log were lost"));
}

TEST_P(LogStreamTest, fault_87_how_many_lines_were_lost_is_told_without_another_line) {
  const Ends ends = GetParam()();
  LogStream log(ends.writer.fd());
  log.catch_up();
  EXPECT_EQ(drain(ends.reader), "") << "none was";
  for (int i = 0; i < 20'000; ++i) log.write("line " + std::string(50, '.') + "\n");
  log.catch_up();  // nobody takes it yet
  (void)drain(ends.reader);
  log.catch_up();
  EXPECT_THAT(drain(ends.reader), EndsWith("lines of this log were lost: nobody took them)\n"));
  log.catch_up();
  EXPECT_EQ(drain(ends.reader), "") << "once";
}

TEST_P(LogStreamTest, fault_87_reader_that_is_gone_ends_nothing) {
  Ends ends = GetParam()();
  LogStream log(ends.writer.fd());
  log.write("heard\n");
  ends.reader.close();
  for (int i = 0; i < 1000; ++i) log.write("unheard\n");
}

TEST_P(LogStreamTest, who_shares_the_stream_finds_it_as_it_was) {
  const Ends ends = GetParam()();
  const int before = ::fcntl(ends.writer.fd(), F_GETFL);
  { const LogStream log(ends.writer.fd()); }
  EXPECT_EQ(::fcntl(ends.writer.fd(), F_GETFL), before);
}

INSTANTIATE_TEST_SUITE_P(Readers, LogStreamTest, testing::Values(make_pipe, make_sockets));

TEST(LogStream, fault_87_full_disk_loses_lines) {
  const File full(::open("/dev/full", O_WRONLY));
  ASSERT_TRUE(full.is_open());
  LogStream log(full.fd());
  for (int i = 0; i < 10; ++i) log.write("line\n");
}

TEST(LogStream, file_is_added_to_where_others_write) {
  const test::TempDir dir;
  Result<File> file = File::open(dir.file("log"), O_RDWR | O_CREAT);
  ASSERT_TRUE(file);
  LogStream log(file->fd());
  log.write("ours\n");
  ASSERT_EQ(::write(file->fd(), "theirs\n", 7), 7);
  log.write("ours\n");
  ASSERT_EQ(::lseek(file->fd(), 0, SEEK_SET), 0);
  EXPECT_EQ(drain(*file), "ours\ntheirs\nours\n");
}

TEST(LogStream, closed_descriptor_is_no_fault) { LogStream(-1).write("line\n"); }

}  // namespace
}  // namespace millrace::program
