// SPDX-License-Identifier: Apache-2.0
#include "controlplane/health/health_state.h"

#include <algorithm>
#include <utility>

namespace millrace::control {
namespace {

// Distinct status codes that a description lists; more would be noise.
constexpr std::size_t kListedCodesMax = 8;

std::string list_of(const std::vector<std::uint16_t>& codes) {
  std::string text = "[";
  for (const std::uint16_t code : codes) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(code);
  }
  return text + "]";
}

std::chrono::steady_clock::duration phase_of(std::uint64_t phase,
                                             std::chrono::milliseconds interval) {
  const std::chrono::steady_clock::duration whole = interval;
  return std::chrono::steady_clock::duration(
      static_cast<std::int64_t>(phase % static_cast<std::uint64_t>(whole.count())));
}

}  // namespace

bool HealthState::observe(const ProbeOutcome& outcome, const HealthCheck& check) {
  if (outcome.verdict == ProbeVerdict::local_fault) return false;

  if (outcome.verdict == ProbeVerdict::passed) {
    failures_ = 0;
    bad_codes_.clear();
    ++passes_;
    const bool is_first = health_.state == TargetState::initial;
    if (!is_first && passes_ < check.healthy_threshold) return false;
    return become({.state = TargetState::healthy, .reason = HealthReason::none, .description = ""});
  }

  passes_ = 0;
  note_failure(outcome);
  if (failures_ < check.unhealthy_threshold) return false;
  return become(unhealthy_because(outcome));
}

void HealthState::forget_runs() {
  passes_ = 0;
  forget_failures();
}

void HealthState::forget_failures() {
  failures_ = 0;
  bad_codes_.clear();
}

bool HealthState::become(TargetHealth next) {
  if (health_ == next) return false;
  health_ = std::move(next);
  return true;
}

void HealthState::note_failure(const ProbeOutcome& outcome) {
  if (failures_ < UINT32_MAX) ++failures_;
  if (outcome.verdict != ProbeVerdict::code_mismatch) return;
  const auto at = std::lower_bound(bad_codes_.begin(), bad_codes_.end(), outcome.status_code);
  const bool is_known = at != bad_codes_.end() && *at == outcome.status_code;
  if (!is_known && bad_codes_.size() < kListedCodesMax) bad_codes_.insert(at, outcome.status_code);
}

TargetHealth HealthState::unhealthy_because(const ProbeOutcome& outcome) const {
  TargetHealth health{.state = TargetState::unhealthy,
                      .reason = HealthReason::failed_health_checks,
                      .description = "Health checks failed"};
  if (outcome.verdict == ProbeVerdict::timed_out) {
    health.reason = HealthReason::timeout;
    health.description = "Request timed out";
  } else if (outcome.verdict == ProbeVerdict::code_mismatch) {
    health.reason = HealthReason::response_code_mismatch;
    health.description = "Health checks failed with these codes: " + list_of(bad_codes_);
  } else if (!outcome.detail.empty()) {
    health.description += ": " + outcome.detail;
  }
  return health;
}

bool matches(const HealthCheck& check, std::uint16_t status_code) {
  return std::any_of(check.matcher.begin(), check.matcher.end(), [=](const auto& range) {
    return range.first <= status_code && status_code <= range.second;
  });
}

ProbeOutcome judge(ProbeOutcome outcome, ProbeTime due, ProbeTime now) {
  if (outcome.verdict == ProbeVerdict::passed || now <= due + kLateMax) return outcome;
  return {.verdict = ProbeVerdict::local_fault,
          .detail = "the control plane did not run while the probe was under way"};
}

ProbeTime first_probe_time(ProbeTime now, std::chrono::milliseconds interval, std::uint64_t phase) {
  return now + phase_of(phase, std::min(interval, kFirstProbeSpread));
}

ProbeTime next_probe_time(ProbeTime started, ProbeTime ended, std::chrono::milliseconds interval,
                          std::uint64_t phase) {
  const std::chrono::steady_clock::duration whole = interval;
  const ProbeTime earliest = std::max(ended, started + whole / 2);
  // Smallest time >= earliest that is congruent to the phase modulo the interval.
  const auto offset = (earliest.time_since_epoch() - phase_of(phase, interval)) % whole;
  return offset == whole.zero() ? earliest : earliest + (whole - offset);
}

}  // namespace millrace::control
