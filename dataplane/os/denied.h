// SPDX-License-Identifier: Apache-2.0
//
// Why a file, directory or socket may not be used: who asks, and whose it is. Cold.
#pragma once

#include <string>

namespace millrace::os {

struct Denial {
  std::string text;   // "user alice may not: /run/millrace belongs to root:millrace, mode 0770"
  std::string user;   // "alice"
  std::string group;  // whose members may; "" when to be one would change nothing
};

// After EACCES for `path`: about it, or about the first directory on the way there that does not
// let this process in. Asks for the names of users and groups, which takes a look into /etc/passwd
// at least.
[[nodiscard]] Denial denial_of(const std::string& path);

}  // namespace millrace::os
