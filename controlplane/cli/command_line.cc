// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/command_line.h"

#include <array>
#include <boost/program_options.hpp>
#include <cstdint>
#include <sstream>
#include <string_view>

#include "controlplane/api/client.h"
#include "controlplane/cli/help.h"
#include "controlplane/model/wording.h"

namespace millrace::control {
namespace {

namespace po = boost::program_options;

constexpr unsigned kHelpColumns = 100;

po::options_description global_options(CommandLine& line) {
  po::options_description options("Everywhere", kHelpColumns);
  options.add_options()("socket", po::value(&line.socket)->default_value(kDefaultSocketPath),
                        "unix socket of the control plane");
  options.add_options()("json", po::bool_switch(&line.json),
                        "print the result, or what is wrong, as one line of JSON, for scripts");
  options.add_options()("help,h", "explain the program, or the command");
  options.add_options()("version", "print the version");
  return options;
}

po::options_description command_options(CommandKind command, CommandLine& line) {
  po::options_description options("Options", kHelpColumns);
  auto add = options.add_options();
  if (command == CommandKind::flows) {
    add("client", po::value(&line.client), "ADDRESS[:PORT] of the client");
    add("vip", po::value(&line.vip), "ADDRESS[:PORT] that the client talks to");
    add("target", po::value(&line.target), "ADDRESS[:PORT] of the target");
    add("target-group", po::value(&line.target_group), "name of the target group");
    add("protocol", po::value(&line.protocol), "TCP or UDP");
    add("state", po::value(&line.state),
        "syn, established, closing, closed, udp, udp_new or expired");
    add("limit", po::value(&line.limit)->default_value(20), "show at most so many flows");
  } else if (command == CommandKind::engine) {
    add("config", po::value(&line.config)->default_value("/etc/millrace/millrace.yaml"),
        "file that counts while no control plane runs");
  } else if (command == CommandKind::counters) {
    add("all", po::bool_switch(&line.all), "also drop reasons that never happened");
  } else if (command == CommandKind::top) {
    add("once", po::bool_switch(&line.once), "print one screen and end, for scripts");
    add("interval", po::value(&line.interval_seconds)->default_value(1),
        "seconds between two looks, 0.1-60");
  }
  return options;
}

// As a person would copy them.
std::string quoted(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return quote(text);
}

UsageError usage_error(const std::string& message, const CommandHelp* command) {
  const std::string name = command == nullptr ? "" : std::string(command->name) + " ";
  return {message + "\nSee `millrace " + name + "--help`."};
}

// The first word that is no option nor an option's value.
std::string command_word(const std::vector<std::string>& args) {
  for (std::size_t i = 0; i < args.size(); ++i) {
    if (args[i] == "--socket") {
      ++i;
    } else if (!args[i].empty() && args[i].front() != '-') {
      return args[i];
    }
  }
  return "";
}

bool contains(const std::vector<std::string>& args, std::string_view word) {
  for (const std::string& arg : args) {
    if (arg == word) return true;
  }
  return false;
}

std::string options_text(const po::options_description& options) {
  std::ostringstream text;
  text << options;
  return text.str();
}

std::variant<CommandLine, HelpText, UsageError> parse_for(const CommandHelp& help,
                                                          const std::vector<std::string>& args) {
  CommandLine line;
  line.command = help.kind;
  std::vector<std::string> words;
  const po::options_description global = global_options(line);
  const po::options_description own = command_options(help.kind, line);
  if (contains(args, "--help") || contains(args, "-h")) {
    const std::string own_text = own.options().empty() ? "" : "\n" + options_text(own);
    return HelpText{command_help(help) + own_text + "\n" + options_text(global)};
  }
  po::options_description positional_words;
  positional_words.add_options()("words", po::value(&words));
  po::positional_options_description positional;
  positional.add("words", -1);
  po::options_description all;
  all.add(global).add(own).add(positional_words);
  try {
    po::variables_map values;
    // No abbreviations: a script must not break when an option is added.
    const int style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
    po::store(po::command_line_parser(args).options(all).positional(positional).style(style).run(),
              values);
    po::notify(values);
  } catch (const po::error& e) {
    return usage_error(std::string("millrace ") + std::string(help.name) + ": " + e.what(), &help);
  }
  // The first is the command itself, unless an option took it for its value.
  if (!words.empty()) line.words.assign(words.begin() + 1, words.end());
  const bool is_short = words.empty() || line.words.size() < help.words_min;
  if (is_short || line.words.size() > help.words_max) {
    return usage_error(
        "millrace " + std::string(help.name) + ": " +
            (is_short ? "an argument is missing" : quoted(line.words) + " is more than it takes") +
            "\nUsage: millrace " + std::string(help.usage),
        &help);
  }
  if (!(line.interval_seconds >= 0.1 && line.interval_seconds <= 60)) {  // NaN too
    return usage_error("millrace top: --interval must be 0.1-60 seconds", &help);
  }
  if (help.kind == CommandKind::engine && line.words[0] != to_string(EngineKind::dpdk) &&
      line.words[0] != to_string(EngineKind::xdp)) {
    return usage_error("millrace engine: NAME " + quote(line.words[0]) + " must be dpdk or xdp",
                       &help);
  }
  if (line.limit < 1 || line.limit > 1'000'000) {
    return usage_error("millrace flows: --limit must be 1-1000000", &help);
  }
  return line;
}

}  // namespace

std::variant<CommandLine, HelpText, UsageError> parse_command_line(
    const std::vector<std::string>& args) {
  CommandLine ignored;
  if (contains(args, "--version")) return HelpText{version_text()};
  std::string word = command_word(args);
  if (word == "help") {
    const bool has_topic = args.size() == 2 && args[0] == "help";
    if (!has_topic) return HelpText{program_help() + "\n" + options_text(global_options(ignored))};
    return parse_command_line({args[1], "--help"});
  }
  if (word.empty()) {
    if (!contains(args, "--help") && !contains(args, "-h")) {
      return usage_error(
          "millrace: no command given" + (args.empty() ? "" : ", but " + quoted(args)), nullptr);
    }
    return HelpText{program_help() + "\n" + options_text(global_options(ignored))};
  }
  std::vector<std::string_view> names;
  for (const CommandHelp& help : command_helps()) {
    if (help.name == word) return parse_for(help, args);
    names.push_back(help.name);
  }
  return usage_error("millrace: there is no command " + quote(word) + did_you_mean(word, names),
                     nullptr);
}

}  // namespace millrace::control
