// SPDX-License-Identifier: Apache-2.0
//
// A disk without room, for tests of what must be stored. Cold.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

namespace millrace::test {

// While it lives, every write to a file fails as on a full disk.
class FullDisk {
 public:
  FullDisk() {
    EXPECT_EQ(::getrlimit(RLIMIT_FSIZE, &before_), 0);
    ignored_ = ::signal(SIGXFSZ, SIG_IGN);
    const struct rlimit none { .rlim_cur = 0, .rlim_max = before_.rlim_max };
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &none), 0);
  }
  ~FullDisk() {
    EXPECT_EQ(::setrlimit(RLIMIT_FSIZE, &before_), 0);
    (void)::signal(SIGXFSZ, ignored_);
  }

 private:
  struct rlimit before_ {};
  void (*ignored_)(int) = nullptr;
};

}  // namespace millrace::test
