// SPDX-License-Identifier: Apache-2.0
//
// The running control plane: makes all parts, gives each what it needs, and turns until a signal.
// Cold; one thread.
//
//   ConfigSource --+                      +--> Store
//   API socket   --+--> Reconciler -------+--> config segment --> engine
//   health, net  --+        ^             +--> metrics
//                           +-- stats segment <-- engine
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/api/server.h"
#include "controlplane/config/file_watch.h"
#include "controlplane/daemon/config_follower.h"
#include "controlplane/daemon/runtime_files.h"
#include "controlplane/health/checker.h"
#include "controlplane/net/next_hops.h"
#include "controlplane/net/outer_errors.h"
#include "controlplane/reconcile/clock.h"
#include "controlplane/reconcile/host.h"
#include "controlplane/reconcile/reconciler.h"
#include "controlplane/telemetry/exporter.h"
#include "dataplane/core/result.h"
#include "dataplane/os/service_manager.h"

namespace millrace::control {

class SystemClock final : public Clock {
 public:
  [[nodiscard]] Moment now() const override;
};

class ControlPlane final : private Host {
 public:
  struct Options {
    std::string config;  // the file
    std::string runtime_dir;
    std::string state_dir;
    std::string metrics;
    std::string version;
  };
  explicit ControlPlane(Options options);

  // Everything up to the first config in force. Fails with what is in the way.
  [[nodiscard]] Status start();
  // Until SIGTERM or SIGINT.
  void run() { io_.run(); }

 private:
  [[nodiscard]] Status open_reconciler();
  [[nodiscard]] Status open_doors();
  void tick();
  void await_signal();

  // What the reconciler asks of the process.
  void wake(Haste haste) override;
  void note_progress() override;
  void log(LogLevel level, const std::string& line) override;
  [[nodiscard]] std::vector<Alarm> alarms() const override;
  [[nodiscard]] std::uint32_t highest_flow_id(const std::string& directory,
                                              std::uint32_t table_count) const override;

  // In the order in which they need each other; destroyed the other way round.
  Options options_;
  SystemClock clock_;
  boost::asio::io_context io_;
  boost::asio::signal_set signals_;
  boost::asio::steady_timer tick_timer_;
  boost::asio::steady_timer gather_timer_;
  std::uint64_t settled_ns_ = 0;  // when the last settle() ended
  os::Watchdog watchdog_;
  std::optional<RuntimeFiles> files_;
  ConfigFileWatch source_;
  std::unique_ptr<HealthChecker> health_;
  std::unique_ptr<NextHops> next_hops_;
  std::unique_ptr<OuterErrors> outer_errors_;
  std::unique_ptr<Reconciler> reconciler_;
  std::unique_ptr<ConfigFollower> follower_;
  std::unique_ptr<ApiServer> api_;
  std::unique_ptr<Exporter> exporter_;
};

}  // namespace millrace::control
