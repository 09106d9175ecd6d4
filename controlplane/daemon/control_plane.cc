// SPDX-License-Identifier: Apache-2.0
#include "controlplane/daemon/control_plane.h"

#include <spdlog/spdlog.h>
#include <time.h>

#include <chrono>
#include <csignal>
#include <utility>

#include "controlplane/store/state_store.h"
#include "dataplane/os/clock.h"

namespace millrace::control {

namespace {

// The engine reports the age of the last of these; the control plane looks at the engine as often.
constexpr std::chrono::milliseconds kTick{100};

}  // namespace

Moment SystemClock::now() const { return {clock_ns(CLOCK_MONOTONIC), clock_ns(CLOCK_REALTIME)}; }

ControlPlane::ControlPlane(Options options)
    : options_(std::move(options)),
      signals_(io_, SIGTERM, SIGINT, SIGHUP),
      tick_timer_(io_),
      gather_timer_(io_),
      source_(options_.config) {}

Status ControlPlane::start() {
  auto files = RuntimeFiles::open(options_.runtime_dir, options_.state_dir);
  if (!files) return files.error();
  files_.emplace(std::move(*files));
  if (Status opened = open_reconciler(); !opened) return opened;
  Host& self = *this;
  follower_ = std::make_unique<ConfigFollower>(source_, *reconciler_, self);
  if (Status started = follower_->start(); !started) return started;
  if (Status opened = open_doors(); !opened) return opened;

  await_signal();
  tick();
  spdlog::info("ready: generation {}, runtime directory {}, metrics on {}",
               reconciler_->published().generation, options_.runtime_dir, options_.metrics);
  os::tell_ready();
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
  auto outer_errors = OuterErrors::open(
      io_, [this](const OuterError& error) { reconciler_->on_outer_error(error); });
  if (outer_errors) {
    outer_errors_ = std::move(*outer_errors);
  } else {
    spdlog::warn(
        "routers that take less than the routes to ipip and gue targets say are not "
        "heard: {} (that needs CAP_NET_RAW, which the unit gives)",
        outer_errors.error().message);
  }
  auto reconciler = Reconciler::open({.runtime_dir = options_.runtime_dir,
                                      .version = options_.version,
                                      .start_ns = clock_ns(CLOCK_BOOTTIME)},
                                     std::make_unique<StateStore>(std::move(*store)),
                                     {.clock = clock_,
                                      .host = *this,
                                      .health = *health_,
                                      .routes = *next_hops_,
                                      .source = source_});
  if (!reconciler) return reconciler.error();
  reconciler_ = std::move(*reconciler);
  return ok();
}

// By which operators and scrapers come in.
Status ControlPlane::open_doors() {
  auto api = ApiServer::listen(io_, options_.runtime_dir + "/controlplane.sock",
                               {*reconciler_, [this] { return follower_->reload(); }});
  if (!api) return api.error();
  api_ = std::move(*api);
  auto exporter =
      Exporter::listen(options_.metrics, io_, [this] { return reconciler_->snapshot(); });
  if (!exporter) return exporter.error();
  exporter_ = std::move(*exporter);
  if (const std::string absent = exporter_->problem(); !absent.empty()) {
    spdlog::warn("{}; they are there as soon as it has it", absent);
  }
  return ok();
}

void ControlPlane::tick() {
  files_->renew_lost([this] { return api_->renew_if_lost(); }, *this);
  spdlog::default_logger_raw()->flush();  // tells of lines that were lost
  reconciler_->tick();
  note_progress();
  source_.look(reconciler_->stored_config().text, clock_ns(CLOCK_MONOTONIC));
  tick_timer_.expires_after(kTick);
  tick_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) tick();
  });
}

void ControlPlane::wake(Haste haste) {
  const std::uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
  const std::uint64_t due_ns = settle_due_ns(haste, now_ns, settled_ns_);
  gather_timer_.expires_after(std::chrono::nanoseconds(due_ns - now_ns));
  gather_timer_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    reconciler_->settle();
    settled_ns_ = clock_ns(CLOCK_MONOTONIC);
  });
}

void ControlPlane::note_progress() { watchdog_.turn(clock_ns(CLOCK_MONOTONIC)); }

void ControlPlane::await_signal() {
  signals_.async_wait([this](const boost::system::error_code& error, int signal) {
    if (error) return;
    if (signal != SIGHUP) {
      spdlog::info("stopping");
      io_.stop();
      return;
    }
    (void)follower_->reload();  // has said it
    await_signal();
  });
}

}  // namespace millrace::control
