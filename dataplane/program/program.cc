// SPDX-License-Identifier: Apache-2.0
#include "dataplane/program/program.h"

#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <exception>
#include <fstream>

namespace millrace::program {

namespace {

std::atomic<bool> stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set by a signal handler");

void request_stop(int) { stop_requested.store(true, std::memory_order_relaxed); }

}  // namespace

void add_common_options(po::options_description& options) {
  auto add = options.add_options();
  add("log-level", po::value<std::string>()->value_name("LEVEL")->default_value("info"),
      "debug, info, warn or error");
  add("config", po::value<std::string>()->value_name("FILE"),
      "read options from FILE first, as NAME=VALUE lines; the command line wins");
}

Result<po::variables_map> parse(int argc, char** argv, const po::options_description& options,
                                const po::positional_options_description& positional) {
  po::variables_map values;
  try {
    po::store(po::command_line_parser(argc, argv).options(options).positional(positional).run(),
              values);
    if (values.count("config") != 0) {
      const auto& path = values["config"].as<std::string>();
      std::ifstream file(path);
      if (!file) return Error{"--config: cannot read " + path};
      po::store(po::parse_config_file(file, options), values);
    }
    po::notify(values);
  } catch (const std::exception& problem) {
    return Error{std::string(problem.what()) + " (see --help)"};
  }
  return values;
}

Status start_log(const std::string& name, const po::variables_map& values) {
  spdlog::set_default_logger(spdlog::stderr_logger_mt(name));
  const auto level = spdlog::level::from_str(values["log-level"].as<std::string>());
  // What from_str makes of unknown names, too.
  if (level == spdlog::level::off) {
    return Error{"--log-level: is none of debug, info, warn and error"};
  }
  spdlog::set_level(level);
  return ok();
}

const std::atomic<bool>& stop_on_signals() {
  struct sigaction action {};
  action.sa_handler = request_stop;
  (void)::sigaction(SIGTERM, &action, nullptr);  // cannot fail for these signals
  (void)::sigaction(SIGINT, &action, nullptr);
  (void)::signal(SIGPIPE, SIG_IGN);
  return stop_requested;
}

int fail(const std::string& name, const Error& error) {
  std::fprintf(stderr, "%s: %s\n", name.c_str(), error.message.c_str());
  return 1;
}

}  // namespace millrace::program
