// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/engine_news.h"

#include <algorithm>
#include <string>
#include <utility>

namespace millrace::control {

namespace {

Alarm alarm_of(const NicSnapshot& nic, const EngineSnapshot& engine) {
  AlarmKind kind = AlarmKind::link;
  std::string what = "nothing comes in or leaves by it";
  switch (nic.trouble) {
    case NicTrouble::twin_gone:
      kind = AlarmKind::twin;
      what =
          "the node's own addresses and ways to targets on it went with it; make it again with "
          "them (runbook, \"The twin is gone or down\"), and restart the engine";
      break;
    case NicTrouble::twin_down:
      kind = AlarmKind::twin;
      what = "the node itself and its health checks reach nobody by that nic; ip link set dev " +
             nic.twin + " up, and give it again the IPv6 addresses and routes that went with it";
      break;
    case NicTrouble::nic_gone:
      what += "; restart the engine when it is back";
      break;
    case NicTrouble::no_program:
      what = "nothing that comes in by it is forwarded; ";
      what += engine.kind == "xdp" ? "the log of millrace-xdp says what is in the way"
                                   : "restart the engine";
      break;
    case NicTrouble::no_link:
    case NicTrouble::none:
      break;
  }
  return {kind, nic.trouble_text + ": " + what};
}

}  // namespace

bool EngineNews::note_state(const EngineSnapshot& engine) {
  if (state_ == engine.state) return false;
  // Either program may be the first to start. One that cannot be seen has started.
  const bool is_expected = engine.is_running() || (!state_ && !engine.is_unseen());
  const char* what = engine.is_running()      ? "the engine runs"
                     : engine.is_forwarding() ? "the engine forwards, but carries out no change: "
                     : engine.is_unseen()     ? ""
                                              : "nothing is forwarded: ";
  host_.log(is_expected ? LogLevel::info : LogLevel::error,
            what + (engine.is_running() ? "" : engine.problem));
  return std::exchange(state_, engine.state) == EngineState::unseen;
}

void EngineNews::note_nics(const EngineSnapshot& engine) {
  std::vector<Alarm> alarms;
  for (const NicSnapshot& nic : engine.nics) {
    if (nic.trouble == NicTrouble::none || !engine.is_forwarding()) continue;
    alarms.push_back(alarm_of(nic, engine));
  }
  log_missing(LogLevel::info, "over: ", nic_alarms_, alarms);
  log_missing(LogLevel::error, "", alarms, nic_alarms_);
  nic_alarms_ = std::move(alarms);
}

void EngineNews::log_missing(LogLevel level, const char* what, const std::vector<Alarm>& of,
                             const std::vector<Alarm>& in) {
  for (const Alarm& alarm : of) {
    if (std::ranges::find(in, alarm) == in.end()) host_.log(level, what + alarm.text);
  }
}

}  // namespace millrace::control
