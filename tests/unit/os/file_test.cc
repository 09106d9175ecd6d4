// SPDX-License-Identifier: Apache-2.0
//
// What cannot be opened, and what the operator is told of it.
#include "dataplane/os/file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "dataplane/os/denied.h"
#include "dataplane/os/process_lock.h"
#include "tests/support/cc/temp_dir.h"
#include "tests/support/cc/unprivileged.h"

namespace millrace::os {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

// To wait for the other end of a pipe would hang whoever opens it, and for good.
TEST(File, named_pipe_in_the_place_of_a_file_is_refused_without_waiting) {
  const test::TempDir dir;
  const std::string path = dir.file("pipe");
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const std::string said = "cannot open " + path + ": it is a named pipe, no file; move it away";
  for (const int flags : {O_RDONLY, O_RDWR, O_RDWR | O_CREAT}) {
    const Result<File> opened = File::open(path, flags);
    ASSERT_FALSE(opened) << flags;
    EXPECT_EQ(opened.error().message, said);
    const Result<File> shared = File::open_shared(path, flags);
    ASSERT_FALSE(shared) << flags;
    EXPECT_EQ(shared.error().message, said);
  }
  EXPECT_FALSE(ProcessLock::acquire(path));
}

TEST(File, device_or_socket_is_no_file_either) {
  const Result<File> device = File::open("/dev/null", O_RDWR);
  ASSERT_FALSE(device);
  EXPECT_THAT(device.error().message, HasSubstr("it is a device, no file"));
  const test::TempDir dir;
  const std::string path = dir.file("s");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  const File bound(::socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(::bind(bound.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  const Result<File> socket = File::open(path, O_RDWR);
  ASSERT_FALSE(socket);
  EXPECT_THAT(socket.error().message, HasSubstr("it is a socket or a device, no file"));
  EXPECT_TRUE(File::open(path, O_PATH)) << "which asks about it alone";
}

class Denied : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!test::is_root()) GTEST_SKIP() << "gives files to other users, which only root may";
    ASSERT_EQ(::chmod(dir_.path().c_str(), 0755), 0);
    const File made = std::move(File::open(path_, O_RDWR | O_CREAT, 0640)).value();
    ASSERT_EQ(::fchown(made.fd(), 0, kOthers), 0);
  }
  [[nodiscard]] Denial denial() const {
    const test::AsServiceUser service;
    return denial_of(path_);
  }

  static constexpr gid_t kOthers = 54'323;  // nobody's
  const test::TempDir dir_;
  const std::string path_ = dir_.file("state");
};

TEST_F(Denied, file_names_who_asks_whose_it_is_and_whose_members_may) {
  const Denial told = denial();
  EXPECT_EQ(told.text, "user 54321 may not: " + path_ + " belongs to root:54323, mode 0640");
  EXPECT_EQ(told.user, "54321");
  EXPECT_EQ(told.group, "54323");
  ASSERT_EQ(::chmod(path_.c_str(), 0600), 0);
  EXPECT_EQ(denial().group, "") << "to be a member is of no use";
  ASSERT_EQ(::chown(path_.c_str(), 0, test::kServiceGroup), 0);
  ASSERT_EQ(::chmod(path_.c_str(), 0640), 0);
  EXPECT_EQ(denial().group, "") << "is a member";
}

TEST_F(Denied, directory_on_the_way_is_the_one_that_is_told_of) {
  ASSERT_EQ(::chmod(dir_.path().c_str(), 0700), 0);
  EXPECT_THAT(denial().text, EndsWith(dir_.path() + " belongs to root:root, mode 0700"));
  ASSERT_EQ(::chmod(dir_.path().c_str(), 0755), 0);
  ASSERT_EQ(::unlink(path_.c_str()), 0);
  EXPECT_THAT(denial().text, EndsWith(dir_.path() + " belongs to root:root, mode 0755"))
      << "what is not there yet is for the directory to refuse";
}

TEST_F(Denied, open_says_so) {
  const test::AsServiceUser service;
  const Result<File> opened = File::open(path_, O_RDONLY);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().message, "cannot open " + path_ +
                                        ": Permission denied: user 54321 may " + "not: " + path_ +
                                        " belongs to root:54323, mode 0640");
}

}  // namespace
}  // namespace millrace::os
