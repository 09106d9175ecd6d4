// SPDX-License-Identifier: Apache-2.0
//
// millrace-controlplane: reads the command line, wires the parts together, runs until a signal.
// Cold. The only place that prints a start-up failure and sets the exit status.
//
//   config file --+                      +--> store (state.db)
//   API socket  --+--> Reconciler -------+--> config segment --> engine
//   health, net --+        ^             +--> metrics
//                          +-- stats segment <-- engine
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/program_options.hpp>
#include <cerrno>
#include <csignal>
#include <limits>
#include <memory>
#include <sstream>
#include <string>
#include <variant>
#include <vector>

#include "controlplane/api/flow_reader.h"
#include "controlplane/api/server.h"
#include "controlplane/config/file_watch.h"
#include "controlplane/config/load.h"
#include "controlplane/health/checker.h"
#include "controlplane/net/next_hops.h"
#include "controlplane/reconcile/reconciler.h"
#include "controlplane/store/state_store.h"
#include "controlplane/telemetry/exporter.h"
#include "dataplane/os/clock.h"
#include "dataplane/os/process_lock.h"
#include "dataplane/os/service_manager.h"
#include "dataplane/program/program.h"

namespace {

using namespace millrace::control;
namespace asio = boost::asio;
namespace po = boost::program_options;
using millrace::clock_ns;
using millrace::Error;
using millrace::ok;
using millrace::Result;
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

// The engine reports the age of the last of these; the control plane looks at the engine as often.
constexpr std::chrono::milliseconds kTick{100};
// Changes that come within this time are published together.
constexpr std::chrono::milliseconds kGather{2};

struct Options {
  std::string config;
  std::string runtime_dir;
  std::string state_dir;
  std::string metrics;
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

Status make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0770) == 0 || errno == EEXIST) return ok();
  return millrace::os::path_error("cannot make the directory " + path, path);
}

class SystemClock final : public Clock {
 public:
  [[nodiscard]] Moment now() const override {
    return {clock_ns(CLOCK_MONOTONIC), clock_ns(CLOCK_REALTIME)};
  }
};

// All parts, in the order in which they need each other; destroyed the other way round.
class ControlPlane final : private Host {
 public:
  explicit ControlPlane(Options options)
      : options_(std::move(options)), file_watch_(options_.config) {}

  [[nodiscard]] Status start();
  void run() { io_.run(); }

 private:
  [[nodiscard]] Status open_reconciler();
  [[nodiscard]] Status load_first_config();
  [[nodiscard]] Status resume_stored_config();
  [[nodiscard]] LoadResult load_file() const;
  std::variant<ApplyOutcome, std::vector<ConfigError>> reload();
  void tick();
  void renew_lost_files();
  [[nodiscard]] Result<bool> renew_lock_and_socket();
  void await_signal();

  void wake() override;
  void note_progress() override { watchdog_.turn(clock_ns(CLOCK_MONOTONIC)); }
  void log(LogLevel level, const std::string& line) override;
  [[nodiscard]] std::vector<Alarm> alarms() const override;
  [[nodiscard]] std::uint32_t highest_flow_id(const std::string& directory,
                                              std::uint32_t table_count) const override;

  Options options_;
  SystemClock clock_;
  asio::io_context io_;
  asio::signal_set signals_{io_, SIGTERM, SIGINT, SIGHUP};
  asio::steady_timer tick_timer_{io_};
  asio::steady_timer gather_timer_{io_};
  std::unique_ptr<millrace::os::ProcessLock> lock_;
  millrace::os::File state_lock_;  // two would give out the same ids
  ConfigFileWatch file_watch_;
  std::unique_ptr<HealthChecker> health_;
  std::unique_ptr<NextHops> next_hops_;
  std::unique_ptr<Reconciler> reconciler_;
  std::unique_ptr<ApiServer> api_;
  std::unique_ptr<Exporter> exporter_;
  std::string file_problem_;  // what was said last
  millrace::os::Watchdog watchdog_;
};

Status ControlPlane::start() {
  for (const std::string& directory : {options_.runtime_dir, options_.state_dir}) {
    if (Status made = make_directory(directory); !made) return made;
  }
  auto lock = millrace::os::ProcessLock::acquire(options_.runtime_dir + "/controlplane.lock");
  if (!lock) return lock.error();
  lock_ = std::make_unique<millrace::os::ProcessLock>(std::move(*lock));
  auto state_lock = millrace::os::lock_directory(options_.state_dir);
  if (!state_lock) return state_lock.error();
  state_lock_ = std::move(*state_lock);

  if (Status opened = open_reconciler(); !opened) return opened;
  if (Status loaded = load_first_config(); !loaded) return loaded;

  auto api = ApiServer::listen(io_, options_.runtime_dir + "/controlplane.sock",
                               {*reconciler_, [this] { return reload(); }});
  if (!api) return api.error();
  api_ = std::move(*api);
  auto exporter =
      Exporter::listen(options_.metrics, io_, [this] { return reconciler_->snapshot(); });
  if (!exporter) return exporter.error();
  exporter_ = std::move(*exporter);
  if (const std::string absent = exporter_->problem(); !absent.empty()) {
    spdlog::warn("{}; they are there as soon as it has it", absent);
  }

  await_signal();
  tick();
  spdlog::info("ready: generation {}, runtime directory {}, metrics on {}",
               reconciler_->published().generation, options_.runtime_dir, options_.metrics);
  millrace::os::tell_ready();
  return ok();
}

Status ControlPlane::open_reconciler() {
  Result<StateStore> store = StateStore::open(options_.state_dir + "/state.db");
  if (!store) return store.error();
  health_ = std::make_unique<HealthChecker>(
      io_, [this](const TargetKey& key, const TargetHealth& health) {
        reconciler_->on_health(key, health);
      });
  auto next_hops = NextHops::open(io_, [this] { reconciler_->on_next_hops(); });
  if (!next_hops) return next_hops.error();
  next_hops_ = std::move(*next_hops);
  auto reconciler = Reconciler::open({.runtime_dir = options_.runtime_dir,
                                      .config_file = options_.config,
                                      .version = MILLRACE_VERSION,
                                      .start_ns = clock_ns(CLOCK_BOOTTIME)},
                                     std::move(*store),
                                     {.clock = clock_,
                                      .host = *this,
                                      .health = *health_,
                                      .routes = *next_hops_,
                                      .source = file_watch_});
  if (!reconciler) return reconciler.error();
  reconciler_ = std::move(*reconciler);
  return ok();
}

std::string joined(const std::vector<ConfigError>& errors) {
  std::string text;
  for (const ConfigError& error : errors) text += (text.empty() ? "" : "\n") + to_string(error);
  return text;
}

std::uint32_t ControlPlane::highest_flow_id(const std::string& directory,
                                            std::uint32_t table_count) const {
  std::uint32_t highest = 0;
  const FlowScan scan =
      scan_flows({.directory = directory,
                  .table_count = table_count,
                  .from = {},
                  .found_max = 1,  // none is kept
                  .records_max = std::numeric_limits<std::uint64_t>::max(),
                  .matches = [&](const mr_flow_record& record) {
                    highest = std::max({highest, record.listener_id, record.target_id});
                    return false;
                  }});
  for (const std::string& problem : scan.problems) {
    spdlog::warn("flows cannot be asked for the ids in use: {}", problem);
  }
  return highest;
}

spdlog::level::level_enum level_of(LogLevel level) {
  switch (level) {
    case LogLevel::error:
      return spdlog::level::err;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::info:
      break;
  }
  return spdlog::level::info;
}

void ControlPlane::log(LogLevel level, const std::string& line) {
  spdlog::log(level_of(level), "{}", line);
}

std::vector<Alarm> ControlPlane::alarms() const {
  std::vector<Alarm> alarms;
  const AlarmKind kind = health_->is_held() ? AlarmKind::hold : AlarmKind::probes;
  for (Alarm alarm :
       {Alarm{kind, health_->problem()}, Alarm{AlarmKind::late, health_->lateness_problem()},
        Alarm{AlarmKind::routes, next_hops_->problem()},
        Alarm{AlarmKind::metrics, exporter_ ? exporter_->problem() : ""},
        Alarm{AlarmKind::file, file_watch_.alarm()}}) {
    if (!alarm.text.empty()) alarms.push_back(std::move(alarm));
  }
  return alarms;
}

// The last word of the operator: the file, or else what was applied past it. A wrong file must not
// take down what runs.
Status ControlPlane::load_first_config() {
  if (reconciler_->is_stored_config_newer_than_file()) {
    const AppliedConfig& stored = reconciler_->stored_config();
    spdlog::warn("the config in force is that of {}; {} has not changed since and is not used",
                 stored.source, options_.config);
    const Status resumed = resume_stored_config();
    if (resumed) return ok();
    spdlog::error("the config of {} cannot go on: {}", stored.source, resumed.error().message);
  }
  LoadResult loaded = load_file();
  if (Config* config = std::get_if<Config>(&loaded)) {
    auto applied = reconciler_->apply(std::move(*config), options_.config);
    if (applied) return ok();
    loaded = std::vector<ConfigError>{{options_.config, applied.error().message}};
  }
  const std::string errors = joined(std::get<std::vector<ConfigError>>(loaded));
  if (reconciler_->stored_config().text.empty()) return Error{errors};
  spdlog::error("{} is not used; the config applied last goes on:\n{}", options_.config, errors);
  if (Status resumed = resume_stored_config(); !resumed) return resumed;
  reconciler_->report_file_error(errors);
  return ok();
}

Status ControlPlane::resume_stored_config() {
  LoadResult stored = load_config(reconciler_->stored_config().text, "the config applied last");
  if (const auto* errors = std::get_if<std::vector<ConfigError>>(&stored)) {
    return Error{joined(*errors)};
  }
  return reconciler_->resume(std::get<Config>(stored));
}

LoadResult ControlPlane::load_file() const {
  return load_config_file(options_.config, [this](const IpAddress& address) {
    return reconciler_->own_interface(address);
  });
}

std::variant<ApplyOutcome, std::vector<ConfigError>> ControlPlane::reload() {
  LoadResult loaded = load_file();
  std::vector<ConfigError> errors;
  if (Config* config = std::get_if<Config>(&loaded)) {
    auto applied = reconciler_->apply(std::move(*config), options_.config);
    if (applied) {
      spdlog::info("read {}: generation {}", options_.config, applied->generation);
      for (const std::string& warning : applied->warnings) spdlog::warn("{}", warning);
      return *applied;
    }
    errors = {{options_.config, applied.error().message}};
  } else {
    errors = std::get<std::vector<ConfigError>>(std::move(loaded));
  }
  reconciler_->report_file_error(joined(errors));
  spdlog::error("{} is not used; what runs goes on:\n{}", options_.config, joined(errors));
  return errors;
}

// Whoever empties the runtime directory takes the operator's way in, and the lock that keeps a
// second control plane out. The config segment is the reconciler's to make again.
void ControlPlane::renew_lost_files() {
  const Result<bool> made = renew_lock_and_socket();
  if (!made && made.error().message != file_problem_) {
    spdlog::error("somebody has removed files of this program: {}", made.error().message);
  }
  if (made && *made) spdlog::warn("somebody has removed files of this program: made again");
  file_problem_ = made ? "" : made.error().message;
}

Result<bool> ControlPlane::renew_lock_and_socket() {
  const bool is_lock_lost = lock_->is_lost();
  if (is_lock_lost) {
    if (Status made = make_directory(options_.runtime_dir); !made) return made.error();
    if (Status renewed = lock_->renew(); !renewed) return renewed.error();
  }
  const Result<bool> socket = api_->renew_if_lost();
  if (!socket) return socket.error();
  return is_lock_lost || *socket;
}

void ControlPlane::tick() {
  renew_lost_files();
  spdlog::default_logger_raw()->flush();  // tells of lines that were lost
  reconciler_->tick();
  watchdog_.turn(clock_ns(CLOCK_MONOTONIC));
  file_watch_.look(reconciler_->stored_config().text, clock_ns(CLOCK_MONOTONIC));
  tick_timer_.expires_after(kTick);
  tick_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) tick();
  });
}

void ControlPlane::wake() {
  gather_timer_.expires_after(kGather);
  gather_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) reconciler_->settle();
  });
}

void ControlPlane::await_signal() {
  signals_.async_wait([this](const boost::system::error_code& error, int signal) {
    if (error) return;
    if (signal != SIGHUP) {
      spdlog::info("stopping");
      io_.stop();
      return;
    }
    (void)reload();  // has said it
    await_signal();
  });
}

po::options_description describe(Options& options) {
  po::options_description all("Options");
  auto add = all.add_options();
  add("config", po::value(&options.config)->value_name("FILE"), "the configuration (YAML)");
  add("runtime-dir",
      po::value(&options.runtime_dir)->value_name("DIR")->default_value("/run/millrace"),
      "segments, sockets and locks, shared with the engine");
  add("state-dir",
      po::value(&options.state_dir)->value_name("DIR")->default_value("/var/lib/millrace"),
      "what outlives a restart: state.db");
  add("metrics",
      po::value(&options.metrics)->value_name("ADDRESS:PORT")->default_value("127.0.0.1:9465"),
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
  ControlPlane control_plane(std::move(options));
  if (Status started = control_plane.start(); !started) return fail(started.error().message);
  control_plane.run();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  keep_table_memory();
  raise_open_files_limit();
  Options options;
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
  if (options.config.empty()) return fail("--config FILE is missing; see --help");
  try {  // Asio throws; nothing of ours does
    return run(std::move(options));
  } catch (const std::exception& error) {
    return fail(error.what());
  }
}
