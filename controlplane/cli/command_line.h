// SPDX-License-Identifier: Apache-2.0
//
// `millrace COMMAND ...`: what was asked for, and the help that teaches it. Cold; pure.
//
// The only place that knows Boost.Program_options; its exceptions end here.
#pragma once

#include <string>
#include <variant>
#include <vector>

namespace millrace::control {

enum class CommandKind {
  status,
  targets,
  listeners,
  apply,
  validate,
  reload,
  engine,
  drain,
  undrain,
  explain,
  flows,
  counters,
  top
};

// Fields beyond the first three belong to the commands that name them in their help.
struct CommandLine {
  CommandKind command = CommandKind::status;
  std::string socket;
  bool json = false;
  std::vector<std::string> words;  // positional, as many as the command takes
  std::string client;
  std::string vip;
  std::string target;
  std::string target_group;
  std::string protocol;
  std::string state;
  std::string config;
  std::uint32_t limit = 20;
  bool all = false;
  bool once = false;
  double interval_seconds = 1;
};

// Help or version to print: not an error.
struct HelpText {
  std::string text;
};

struct UsageError {
  std::string message;  // says what is wrong and how to see the help
};

// `args` without the program's name.
[[nodiscard]] std::variant<CommandLine, HelpText, UsageError> parse_command_line(
    const std::vector<std::string>& args);

}  // namespace millrace::control
