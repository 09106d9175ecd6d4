// SPDX-License-Identifier: Apache-2.0
//
// What people type, right and wrong.
#include "controlplane/cli/command_line.h"

#include <gtest/gtest.h>

#include "controlplane/api/client.h"
#include "controlplane/cli/cli.h"
#include "controlplane/cli/help.h"

namespace millrace::control {
namespace {

using Words = std::vector<std::string>;

CommandLine good(const Words& args) {
  const auto parsed = parse_command_line(args);
  if (const auto* error = std::get_if<UsageError>(&parsed)) ADD_FAILURE() << error->message;
  const auto* line = std::get_if<CommandLine>(&parsed);
  return line == nullptr ? CommandLine{} : *line;
}

std::string wrong(const Words& args) {
  const auto parsed = parse_command_line(args);
  const auto* error = std::get_if<UsageError>(&parsed);
  if (error == nullptr) ADD_FAILURE() << "accepted";
  return error == nullptr ? "" : error->message;
}

std::string help(const Words& args) {
  const auto parsed = parse_command_line(args);
  const auto* text = std::get_if<HelpText>(&parsed);
  if (text == nullptr) ADD_FAILURE() << "no help";
  return text == nullptr ? "" : text->text;
}

TEST(CommandLineTest, options_may_stand_before_and_after_the_command) {
  for (const Words& args : {Words{"--socket", "/tmp/s", "--json", "targets", "web"},
                            Words{"targets", "web", "--json", "--socket=/tmp/s"},
                            Words{"--json", "targets", "--socket", "/tmp/s", "web"}}) {
    const CommandLine line = good(args);
    EXPECT_EQ(line.command, CommandKind::targets);
    EXPECT_EQ(line.socket, "/tmp/s");
    EXPECT_TRUE(line.json);
    EXPECT_EQ(line.words, Words{"web"});
  }
}

TEST(CommandLineTest, defaults_are_those_of_the_help) {
  const CommandLine line = good({"flows"});
  EXPECT_EQ(line.socket, kDefaultSocketPath);
  EXPECT_FALSE(line.json);
  EXPECT_EQ(line.limit, 20u);
  EXPECT_EQ(good({"top"}).interval_seconds, 1);
}

TEST(CommandLineTest, own_options_of_commands_are_read) {
  const CommandLine flows =
      good({"flows", "--client", "192.0.2.1", "--vip", "[::1]:80", "--state", "syn", "--limit", "7",
            "--target", "10.0.0.1", "--target-group", "web", "--protocol", "udp"});
  EXPECT_EQ(flows.client, "192.0.2.1");
  EXPECT_EQ(flows.vip, "[::1]:80");
  EXPECT_EQ(flows.state, "syn");
  EXPECT_EQ(flows.limit, 7u);
  EXPECT_EQ(flows.target, "10.0.0.1");
  EXPECT_EQ(flows.target_group, "web");
  EXPECT_EQ(flows.protocol, "udp");
  const CommandLine top = good({"top", "--once", "--interval", "0.5"});
  EXPECT_TRUE(top.once);
  EXPECT_EQ(top.interval_seconds, 0.5);
}

TEST(CommandLineTest, standard_input_is_a_word) {
  EXPECT_EQ(good({"apply", "-"}).words, Words{"-"});
}

TEST(CommandLineTest, wrong_lines_say_what_is_wrong_and_where_help_is) {
  struct Case {
    Words args;
    const char* part;
  };
  for (const Case& c : {Case{{}, "no command given"},
                        Case{{"--json"}, "no command given"},
                        Case{{"statsu"}, "did you mean `status`?"},
                        Case{{"status", "extra"}, "Usage: millrace status"},
                        Case{{"apply"}, "Usage: millrace apply FILE"},
                        Case{{"apply", "a", "b"}, "\"a b\" is more than it takes"},
                        Case{{"drain", "web"}, "an argument is missing"},
                        Case{{"--foo"}, "\"--foo\""},
                        Case{{"engine", "foo"}, "\"foo\""},
                        Case{{"apply", "a", "b"}, "Usage: millrace apply FILE"},
                        Case{{"drain", "web"}, "Usage: millrace drain GROUP TARGET[:PORT]"},
                        Case{{"explain", "a", "b"}, "CLIENT:PORT VIP:PORT PROTOCOL"},
                        Case{{"status", "--limit", "5"}, "--limit"},
                        Case{{"flows", "--limit", "0"}, "1-1000000"},
                        Case{{"flows", "--limit", "-5"}, "1-1000000"},
                        Case{{"flows", "--limit", "many"}, "many"},
                        Case{{"flows", "--lim", "5"}, "--lim"},
                        Case{{"flows", "--client"}, "--client"},
                        Case{{"--client", "flows"}, "Usage: millrace flows"},
                        Case{{"top", "--interval", "0"}, "0.1-60"},
                        Case{{"top", "--interval", "nan"}, "0.1-60"},
                        Case{{"status", "--socket"}, "--socket"}}) {
    const std::string message = wrong(c.args);
    EXPECT_NE(message.find(c.part), std::string::npos) << message;
    EXPECT_NE(message.find("--help`"), std::string::npos) << message;
  }
}

TEST(CommandLineTest, help_of_each_command_shows_usage_and_an_example) {
  for (const CommandHelp& command : command_helps()) {
    const std::string name(command.name);
    for (const Words& args : {Words{name, "--help"}, Words{"help", name}, Words{name, "-h"}}) {
      const std::string text = help(args);
      EXPECT_NE(text.find("Usage: millrace " + std::string(command.usage)), std::string::npos);
      EXPECT_NE(text.find("\n  millrace " + name), std::string::npos) << name << ": no example";
      EXPECT_NE(text.find("--json"), std::string::npos);
    }
    EXPECT_NE(help({"--help"}).find("  " + std::string(command.usage)), std::string::npos);
  }
  EXPECT_EQ(help({"help"}), help({"--help"}));
}

TEST(CommandLineTest, help_names_every_exit_code) {
  const std::string text = help({"--help"});
  for (const int code : {kExitDone, kExitFailed, kExitUsage, kExitOther}) {
    EXPECT_NE(text.find("\n  " + std::to_string(code) + "  "), std::string::npos) << code;
  }
}

TEST(CommandLineTest, version_is_told) { EXPECT_EQ(help({"--version"}).rfind("millrace ", 0), 0u); }

}  // namespace
}  // namespace millrace::control
