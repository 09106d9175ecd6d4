// SPDX-License-Identifier: Apache-2.0
//
// The `millrace` command: words in, text and exit code out. Cold.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

namespace millrace::control {

inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;  // refused by the control plane, or it cannot be reached
inline constexpr int kExitUsage = 2;   // the command line is wrong
inline constexpr int kExitOther = 3;   // `engine`: this node is to run the other one

// `args` without the program's name. Output that does not arrive, on a full disk for instance, is a
// failure of any command. `top` without --once returns only when something fails;
// `is_terminal` says whether it may clear the screen.
[[nodiscard]] int run_cli(const std::vector<std::string>& args, std::ostream& out,
                          std::ostream& err, bool is_terminal);

}  // namespace millrace::control
