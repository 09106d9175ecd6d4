// SPDX-License-Identifier: Apache-2.0
#include "dataplane/os/process_lock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <optional>

#include "tests/support/cc/temp_dir.h"

namespace millrace::os {
namespace {

using ::testing::HasSubstr;

TEST(ProcessLock, second_instance_is_refused_with_the_pid_of_the_first) {
  const test::TempDir dir;
  Result<ProcessLock> first = ProcessLock::acquire(dir.file("lock"));
  ASSERT_TRUE(first) << first.error().message;

  Result<ProcessLock> second = ProcessLock::acquire(dir.file("lock"));

  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr("process " + std::to_string(::getpid())));
}

TEST(ProcessLock, is_free_again_when_its_owner_lets_go) {
  const test::TempDir dir;
  EXPECT_FALSE(ProcessLock::is_held(dir.file("lock")));
  std::optional<ProcessLock> lock;
  {
    Result<ProcessLock> acquired = ProcessLock::acquire(dir.file("lock"));
    ASSERT_TRUE(acquired);
    lock.emplace(std::move(*acquired));
  }
  EXPECT_TRUE(ProcessLock::is_held(dir.file("lock")));
  lock.reset();
  EXPECT_FALSE(ProcessLock::is_held(dir.file("lock")));
  EXPECT_TRUE(ProcessLock::acquire(dir.file("lock")));
}

TEST(ProcessLock, kill_of_the_owner_frees_it) {
  const test::TempDir dir;
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Result<ProcessLock> lock = ProcessLock::acquire(dir.file("lock"));
    const char status = lock ? 'y' : 'n';
    if (::write(ready[1], &status, 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  char status = 0;
  ASSERT_EQ(::read(ready[0], &status, 1), 1);
  EXPECT_EQ(status, 'y');
  EXPECT_TRUE(ProcessLock::is_held(dir.file("lock")));
  Result<ProcessLock> refused = ProcessLock::acquire(dir.file("lock"));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr(std::to_string(child)));

  ASSERT_EQ(::kill(child, SIGKILL), 0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);

  EXPECT_FALSE(ProcessLock::is_held(dir.file("lock")));
  EXPECT_TRUE(ProcessLock::acquire(dir.file("lock")));
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST(ProcessLock, missing_directory_is_named) {
  Result<ProcessLock> lock = ProcessLock::acquire("/nonexistent/dir/lock");
  ASSERT_FALSE(lock);
  EXPECT_THAT(lock.error().message,
              HasSubstr("/nonexistent/dir/lock: cannot open /nonexistent/dir: No such"));
}

TEST(ProcessLock, fault_92_removed_lock_is_noticed_and_taken_anew) {
  const test::TempDir dir;
  Result<ProcessLock> lock = ProcessLock::acquire(dir.file("lock"));
  ASSERT_TRUE(lock);
  EXPECT_FALSE(lock->is_lost());
  ASSERT_EQ(::unlink(dir.file("lock").c_str()), 0);
  EXPECT_TRUE(lock->is_lost());
  EXPECT_FALSE(ProcessLock::is_held(dir.file("lock")));
  ASSERT_TRUE(lock->renew());
  EXPECT_FALSE(lock->is_lost());
  EXPECT_TRUE(ProcessLock::is_held(dir.file("lock")));
}

TEST(ProcessLock, fault_92_lock_that_another_took_meanwhile_is_told) {
  const test::TempDir dir;
  Result<ProcessLock> first = ProcessLock::acquire(dir.file("lock"));
  ASSERT_TRUE(first);
  ASSERT_EQ(::unlink(dir.file("lock").c_str()), 0);
  Result<ProcessLock> second = ProcessLock::acquire(dir.file("lock"));
  ASSERT_TRUE(second);
  const Status renewed = first->renew();
  ASSERT_FALSE(renewed);
  EXPECT_THAT(renewed.error().message, HasSubstr("already held by process"));
  EXPECT_THAT(renewed.error().message, HasSubstr("stop it first"));
  EXPECT_TRUE(first->is_lost());
}

TEST(DirectoryLock, second_holder_is_refused_with_the_pid_of_the_first) {
  const test::TempDir dir;
  {
    const Result<File> first = lock_directory(dir.path());
    ASSERT_TRUE(first) << first.error().message;
    const Result<File> second = lock_directory(dir.path());
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().message,
              dir.path() + ": in use by process " + std::to_string(::getpid()));
  }
  EXPECT_TRUE(lock_directory(dir.path()));
}

}  // namespace
}  // namespace millrace::os
