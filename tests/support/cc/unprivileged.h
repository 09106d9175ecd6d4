// SPDX-License-Identifier: Apache-2.0
//
// What a program may do that is not root's, tried from a test that is.
#pragma once

#include <grp.h>
#include <unistd.h>

#include <cstdlib>

namespace millrace::test {

// Numbers that belong to nobody on a machine.
constexpr uid_t kServiceUser = 54'321;
constexpr gid_t kServiceGroup = 54'322;

[[nodiscard]] inline bool is_root() { return ::geteuid() == 0; }

// Makes the process that user, without any privilege, until it goes out of scope. One thread only.
class AsServiceUser {
 public:
  AsServiceUser() {
    if (::setgroups(0, nullptr) != 0 || ::setegid(kServiceGroup) != 0 ||
        ::seteuid(kServiceUser) != 0) {
      std::abort();
    }
  }
  AsServiceUser(const AsServiceUser&) = delete;
  AsServiceUser& operator=(const AsServiceUser&) = delete;
  ~AsServiceUser() {
    if (::seteuid(0) != 0 || ::setegid(0) != 0) std::abort();
  }
};

}  // namespace millrace::test
