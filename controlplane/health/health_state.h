// SPDX-License-Identifier: Apache-2.0
//
// Health of one target as a state machine over the outcomes of its probes. Cold and pure: no clock,
// no sockets; the same outcomes give the same states (tests/unit/health checks it against a model).
//
//   initial   --1 pass-------------------------------> healthy
//   initial   --unhealthy_threshold failures in a row-> unhealthy
//   healthy   --unhealthy_threshold failures in a row-> unhealthy
//   unhealthy --healthy_threshold passes in a row-----> healthy
//
// A local fault (out of descriptors, control plane was stopped, ...) says nothing about the target:
// it changes neither the state nor the run of passes or failures.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "controlplane/model/model.h"

namespace millrace::control {

enum class ProbeVerdict : std::uint8_t {
  passed,
  timed_out,      // nothing conclusive within the timeout
  failed,         // refused, reset, unreachable, or an answer that is not HTTP
  code_mismatch,  // HTTP status outside the matcher
  local_fault,    // this node's fault; no statement about the target
};

struct ProbeOutcome {
  ProbeVerdict verdict = ProbeVerdict::passed;
  std::uint16_t status_code = 0;  // of code_mismatch
  std::string detail{};           // cause of failed and local_fault, for people
};

// What the checker knows of a target, in NLB's words.
struct TargetHealth {
  TargetState state = TargetState::initial;  // initial, healthy or unhealthy
  HealthReason reason = HealthReason::initial_health_checking;
  std::string description = "Initial health checks in progress";

  friend bool operator==(const TargetHealth&, const TargetHealth&) = default;
};

class HealthState {
 public:
  HealthState() = default;
  // Goes on where an earlier run of the control plane stopped, with no probe counted yet.
  explicit HealthState(TargetHealth restored) : health_(std::move(restored)) {}

  [[nodiscard]] const TargetHealth& health() const { return health_; }

  // Takes one outcome into account. Returns true when health() changed in any part.
  [[nodiscard]] bool observe(const ProbeOutcome& outcome, const HealthCheck& check);

  // For changed settings: the state stays, the runs of passes and failures start anew.
  void forget_runs();
  // Those that failed may have failed for a reason of this node's.
  void forget_failures();

 private:
  [[nodiscard]] bool become(TargetHealth next);
  void note_failure(const ProbeOutcome& outcome);
  [[nodiscard]] TargetHealth unhealthy_because(const ProbeOutcome& outcome) const;

  TargetHealth health_;
  std::uint32_t passes_ = 0;              // in a row
  std::uint32_t failures_ = 0;            // in a row
  std::vector<std::uint16_t> bad_codes_;  // distinct ones of the current run, ascending
};

// All times are on one monotonic clock.
using ProbeTime = std::chrono::steady_clock::time_point;

[[nodiscard]] bool matches(const HealthCheck& check, std::uint16_t status_code);

// What an outcome is worth that was known at `now` when the probe's timeout was due at `due`. A
// failure that is noticed later than kLateMax after that is this process's own: it was stopped or
// starved meanwhile (SIGSTOP, overload), and what it missed is no fault of the target.
inline constexpr std::chrono::milliseconds kLateMax{1000};
[[nodiscard]] ProbeOutcome judge(ProbeOutcome outcome, ProbeTime due, ProbeTime now);

// When to probe. `phase` is any number that belongs to the target: targets with different phases
// are probed at different points of their interval, however many were registered at once. Times are
// on one monotonic clock.
using ProbeTime = std::chrono::steady_clock::time_point;

// The first probe: soon (within min(interval, kFirstProbeSpread)), but not all at once.
inline constexpr std::chrono::milliseconds kFirstProbeSpread{1000};
[[nodiscard]] ProbeTime first_probe_time(ProbeTime now, std::chrono::milliseconds interval,
                                         std::uint64_t phase);

// The probe after one that started at `started` and ended at `ended`: the target's own point of the
// interval. One interval after the previous one; after the first probe, 1/2 to 3/2 intervals.
[[nodiscard]] ProbeTime next_probe_time(ProbeTime started, ProbeTime ended,
                                        std::chrono::milliseconds interval, std::uint64_t phase);

}  // namespace millrace::control
