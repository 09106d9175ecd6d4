// SPDX-License-Identifier: Apache-2.0
//
// Holds the targets' health while probes say nothing about them (health_hold.h decides when): tells
// the health checks, the log and the operator. Cold.
#pragma once

#include <cstdint>

#include "controlplane/health/health_watch.h"
#include "controlplane/reconcile/control_state.h"
#include "controlplane/reconcile/health_hold.h"
#include "controlplane/reconcile/host.h"

namespace millrace::control {

class HealthHolder {
 public:
  HealthHolder(Host& host, HealthWatch& health) : host_(host), health_(health) {}

  // Another engine runs.
  void restart() { watch_.restart(); }
  // By which nics targets are reached.
  void set_target_nics(NicMask nics) { target_nics_ = nics; }
  // Of all targets that are probed.
  void set_probe_timeout_min_ns(std::uint64_t timeout_ns) { probe_timeout_min_ns_ = timeout_ns; }

  // Decides anew. `silence_ns` is that of the engine's main thread.
  void hold(const EngineSnapshot& engine, std::uint64_t silence_ns, const ControlState& state,
            std::uint64_t now_ns);

  // What needs the operator's attention; without text while nothing does.
  [[nodiscard]] const Alarm& alarm() const { return alarm_; }

 private:
  void note_alarm(const Alarm& now);

  Host& host_;
  HealthWatch& health_;
  HoldWatch watch_;
  NicMask target_nics_ = 0;
  std::uint64_t probe_timeout_min_ns_ = 0;
  Alarm alarm_;
};

}  // namespace millrace::control
