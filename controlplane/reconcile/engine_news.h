// SPDX-License-Identifier: Apache-2.0
//
// What becomes of the engine and its nics, told once: in the log when it changes, and as alarms
// while it lasts. Cold.
#pragma once

#include <optional>
#include <vector>

#include "controlplane/reconcile/host.h"
#include "controlplane/reconcile/snapshot.h"

namespace millrace::control {

class EngineNews {
 public:
  explicit EngineNews(Host& host) : host_(host) {}

  // True when the engine can be seen again: what stood in for its word does so no longer.
  [[nodiscard]] bool note_state(const EngineSnapshot& engine);
  // Of every nic: clients and targets may be behind any.
  void note_nics(const EngineSnapshot& engine);

  [[nodiscard]] bool is_running() const { return state_ == EngineState::running; }
  [[nodiscard]] const std::vector<Alarm>& nic_alarms() const { return nic_alarms_; }

 private:
  void log_missing(LogLevel level, const char* what, const std::vector<Alarm>& of,
                   const std::vector<Alarm>& in);

  Host& host_;
  std::optional<EngineState> state_;  // as told last
  std::vector<Alarm> nic_alarms_;
};

}  // namespace millrace::control
