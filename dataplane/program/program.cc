// SPDX-License-Identifier: Apache-2.0
#include "dataplane/program/program.h"

#include <pwd.h>
#include <signal.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <system_error>
#include <vector>

#include "dataplane/program/log.h"

namespace millrace::program {

namespace {

std::atomic<bool> stop_requested{false};
std::atomic<bool> has_hung_up{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set by a signal handler");

void request_stop(int) { stop_requested.store(true, std::memory_order_relaxed); }
void note_hangup(int) { has_hung_up.store(true, std::memory_order_relaxed); }

bool is_stop_asked() {
  if (has_hung_up.exchange(false, std::memory_order_relaxed)) {
    spdlog::info("SIGHUP is ignored: `millrace reload` reads the config, a restart the options");
  }
  return stop_requested.load(std::memory_order_relaxed);
}

}  // namespace

void add_common_options(po::options_description& options) {
  auto add = options.add_options();
  add("log-level", po::value<std::string>()->value_name("LEVEL")->default_value("info"),
      "trace, debug, info, warn, error or off");
  add("config", po::value<std::string>()->value_name("FILE"),
      "read options from FILE first, as NAME=VALUE lines; the command line wins");
  add("control-user", po::value<std::string>()->value_name("USER")->default_value("millrace"),
      "the control plane's user, whose config is believed, as root's and this program's own is");
}

Result<std::uint32_t> control_user(const po::variables_map& values) {
  const po::variable_value& option = values["control-user"];
  const auto& name = option.as<std::string>();
  const passwd* user = ::getpwnam(name.c_str());  // before there are threads
  if (user != nullptr) return user->pw_uid;
  if (option.defaulted()) return 0;
  return Error{"--control-user: there is no user '" + name + "'"};
}

namespace {

// What boost lets through: a word that belongs to no option, without saying which, and a negative
// number as a huge one. No option takes such.
Status check_words(const std::vector<po::option>& parsed, std::size_t positional_max) {
  for (const po::option& option : parsed) {
    if (option.position_key >= static_cast<int>(positional_max)) {
      return Error{"'" + option.value.front() + "' belongs to no option (see --help)"};
    }
    for (const std::string& value : option.value) {
      const bool is_negative = value.size() > 1 && value.front() == '-' &&
                               value.find_first_not_of("0123456789", 1) == std::string::npos;
      if (is_negative) {
        return Error{"--" + option.string_key + ": " + value + " is negative (see --help)"};
      }
    }
  }
  return ok();
}

// A folder opens like a file, and reads as an empty one; a named pipe waits for a writer.
bool is_readable_file(const std::string& path) {
  std::error_code failure;
  return std::filesystem::is_regular_file(path, failure) && std::ifstream(path);
}

// Into `values`, which are not notified yet: a file may add to them.
Status store_words(int argc, char** argv, const po::options_description& options,
                   const po::positional_options_description& positional,
                   po::variables_map& values) {
  po::options_description all;
  all.add(options).add_options()("words", po::value<std::vector<std::string>>());
  po::positional_options_description words = positional;
  words.add("words", -1);
  const po::parsed_options parsed =
      po::command_line_parser(argc, argv).options(all).positional(words).run();
  if (Status checked = check_words(parsed.options, positional.max_total_count()); !checked) {
    return checked;
  }
  po::store(parsed, values);
  return ok();
}

Status store_file(const po::options_description& options, po::variables_map& values) {
  if (values.count("config") == 0) return ok();
  const auto& path = values["config"].as<std::string>();
  if (!is_readable_file(path)) return Error{"--config: cannot read " + path + " as a file"};
  std::ifstream file(path);
  try {
    po::store(po::parse_config_file(file, options), values);
  } catch (const po::error& problem) {
    return Error{"--config " + path + ": " + problem.what() +
                 "; takes this program's options, a NAME=VALUE in each line"};
  }
  return ok();
}

// `store` puts words and files into the values.
template <typename Store>
Result<po::variables_map> parsed_by(Store store) {
  po::variables_map values;
  try {
    if (Status stored = store(values); !stored) return stored.error();
    po::notify(values);
  } catch (const std::exception& problem) {
    return Error{std::string(problem.what()) + " (see --help)"};
  }
  return values;
}

}  // namespace

Result<po::variables_map> parse_words(int argc, char** argv, const po::options_description& options,
                                      const po::positional_options_description& positional) {
  return parsed_by([&](po::variables_map& values) {
    return store_words(argc, argv, options, positional, values);
  });
}

Result<po::variables_map> parse(int argc, char** argv, const po::options_description& options,
                                const po::positional_options_description& positional) {
  return parsed_by([&](po::variables_map& values) {
    const Status stored = store_words(argc, argv, options, positional, values);
    return stored ? store_file(options, values) : stored;
  });
}

Status start_log(const std::string& name, const std::string& word) {
  (void)::signal(SIGPIPE, SIG_IGN);  // cannot fail for this signal
  const auto level = spdlog::level::from_str(word);
  // What from_str makes of unknown names, too.
  if (level == spdlog::level::off && word != "off") {
    return Error{"--log-level: '" + word + "' is none of trace, debug, info, warn, error, off"};
  }
  start_log(name, level);
  return ok();
}

StopAsked stop_on_signals() {
  struct sigaction action {};
  action.sa_handler = request_stop;
  (void)::sigaction(SIGTERM, &action, nullptr);  // cannot fail for these signals
  (void)::sigaction(SIGINT, &action, nullptr);
  action.sa_handler = note_hangup;
  (void)::sigaction(SIGHUP, &action, nullptr);
  return is_stop_asked;
}

int fail(const std::string& name, const Error& error) {
  (void)::signal(SIGPIPE, SIG_IGN);  // the exit status tells it as well
  print_failure(name, error.message);
  return 1;
}

int print(const std::string& name, const std::string& text) {
  errno = 0;
  std::cout << text << std::flush;
  if (std::cout) return 0;
  return fail(name, Error{std::string("cannot write to standard output: ") +
                          (errno == 0 ? "write error" : ::strerrordesc_np(errno))});
}

}  // namespace millrace::program
