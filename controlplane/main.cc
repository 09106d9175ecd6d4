// SPDX-License-Identifier: Apache-2.0
//
// millrace-controlplane: reads the command line and runs daemon/control_plane.h. Cold. The only
// place that prints a start-up failure and sets the exit status.
#include <sys/resource.h>

#include <boost/program_options.hpp>
#include <exception>
#include <sstream>
#include <string>
#include <utility>

#include "controlplane/daemon/control_plane.h"
#include "dataplane/program/program.h"

namespace {

using namespace millrace::control;
namespace po = boost::program_options;
using millrace::Error;
using millrace::Status;

constexpr const char* kName = "millrace-controlplane";
constexpr const char* kHelpHead = R"(Usage: millrace-controlplane --config FILE [option...]

Decides what the engine does: reads the config, probes targets, follows the kernel's routes, and
publishes the result in RUNTIME_DIR/config. Answers `millrace` on RUNTIME_DIR/controlplane.sock and
Prometheus on --metrics. The engine goes on by itself while this program is stopped or restarted.
)";

constexpr const char* kHelpTail = R"(
SIGHUP reads the config file again; a wrong one changes nothing. SIGTERM and SIGINT end the program.
A start reads the config file. The config that was applied last goes on instead when the file is
wrong, or when `millrace apply` brought it in and the file has not changed since.
)";

struct Options {
  ControlPlane::Options parts;
  std::string log_level;
};

// Each probe under way is an open file, and the limit that a process gets is for programs that use
// select(), which this one does not.
void raise_open_files_limit() {
  rlimit limit{};
  (void)::getrlimit(RLIMIT_NOFILE, &limit);  // cannot fail for a valid resource
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);  // if it does, fewer probes are under way at once
}

po::options_description describe(Options& options) {
  po::options_description all("Options");
  auto add = all.add_options();
  add("config", po::value(&options.parts.config)->value_name("FILE"), "the configuration (YAML)");
  add("runtime-dir",
      po::value(&options.parts.runtime_dir)->value_name("DIR")->default_value("/run/millrace"),
      "segments, sockets and locks, shared with the engine");
  add("state-dir",
      po::value(&options.parts.state_dir)->value_name("DIR")->default_value("/var/lib/millrace"),
      "what outlives a restart: state.db");
  add("metrics",
      po::value(&options.parts.metrics)
          ->value_name("ADDRESS:PORT")
          ->default_value("127.0.0.1:9465"),
      "where Prometheus finds /metrics");
  add("log-level", po::value(&options.log_level)->value_name("LEVEL")->default_value("info"),
      "trace, debug, info, warn, error or off");
  add("help", "this text");
  add("version", "version of the program");
  return all;
}

int fail(const std::string& message) { return millrace::program::fail(kName, Error{message}); }

int run(Options options) {
  Status logs = millrace::program::start_log(kName, options.log_level);
  if (!logs) return fail(logs.error().message);
  ControlPlane control_plane(std::move(options.parts));
  if (Status started = control_plane.start(); !started) return fail(started.error().message);
  control_plane.run();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  keep_table_memory();
  raise_open_files_limit();
  Options options;
  options.parts.version = MILLRACE_VERSION;
  const po::options_description description = describe(options);
  const auto values = millrace::program::parse_words(argc, argv, description, {});
  if (!values) return fail(values.error().message);
  if (values->count("help") != 0) {
    std::ostringstream text;
    text << kHelpHead << '\n' << description << kHelpTail;
    return millrace::program::print(kName, text.str());
  }
  if (values->count("version") != 0) {
    return millrace::program::print(kName, "millrace-controlplane " MILLRACE_VERSION "\n");
  }
  if (options.parts.config.empty()) return fail("--config FILE is missing; see --help");
  try {  // Asio throws; nothing of ours does
    return run(std::move(options));
  } catch (const std::exception& error) {
    return fail(error.what());
  }
}
