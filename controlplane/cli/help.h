// SPDX-License-Identifier: Apache-2.0
//
// The words of the help. Cold.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "controlplane/cli/command_line.h"

namespace millrace::control {

struct CommandHelp {
  CommandKind kind;
  std::string_view name;
  std::string_view usage;    // after "millrace "
  std::string_view summary;  // one line
  std::string_view text;     // what it shows or does, with examples
  std::size_t words_min = 0;
  std::size_t words_max = 0;
};

[[nodiscard]] std::span<const CommandHelp> command_helps();
[[nodiscard]] std::string program_help();
[[nodiscard]] std::string command_help(const CommandHelp& command);
[[nodiscard]] std::string version_text();

}  // namespace millrace::control
