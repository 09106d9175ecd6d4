// SPDX-License-Identifier: Apache-2.0
#include "controlplane/health/health_state.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <set>

namespace millrace::control {
namespace {

using std::chrono::milliseconds;

const ProbeOutcome kPass{};
const ProbeOutcome kTimeout{.verdict = ProbeVerdict::timed_out};
const ProbeOutcome kRefused{.verdict = ProbeVerdict::failed, .detail = "Connection refused"};
const ProbeOutcome kLocal{.verdict = ProbeVerdict::local_fault, .detail = "Too many open files"};

ProbeOutcome code(std::uint16_t status) {
  return {.verdict = ProbeVerdict::code_mismatch, .status_code = status};
}

HealthCheck thresholds(std::uint32_t healthy, std::uint32_t unhealthy) {
  HealthCheck check;
  check.healthy_threshold = healthy;
  check.unhealthy_threshold = unhealthy;
  return check;
}

// Feeds outcomes; returns the health after the last.
TargetHealth after(HealthState& state, const HealthCheck& check,
                   const std::vector<ProbeOutcome>& outcomes) {
  for (const ProbeOutcome& outcome : outcomes) (void)state.observe(outcome, check);
  return state.health();
}

TEST(HealthState, new_target_is_initial_and_healthy_on_its_first_pass) {
  HealthState state;
  EXPECT_EQ(state.health().state, TargetState::initial);
  EXPECT_EQ(state.health().reason, HealthReason::initial_health_checking);
  EXPECT_EQ(state.health().description, "Initial health checks in progress");
  EXPECT_TRUE(state.observe(kPass, thresholds(5, 2)));
  EXPECT_EQ(state.health(), (TargetHealth{TargetState::healthy, HealthReason::none, ""}));
  EXPECT_FALSE(state.observe(kPass, thresholds(5, 2)));
}

TEST(HealthState, failures_in_a_row_make_unhealthy_and_a_pass_between_starts_over) {
  HealthState state;
  const HealthCheck check = thresholds(5, 3);
  EXPECT_EQ(after(state, check, {kPass, kRefused, kRefused, kPass, kRefused, kRefused}).state,
            TargetState::healthy);
  EXPECT_EQ(after(state, check, {kRefused}).state, TargetState::unhealthy);
}

TEST(HealthState, passes_in_a_row_make_healthy_and_a_failure_between_starts_over) {
  HealthState state;
  const HealthCheck check = thresholds(3, 2);
  EXPECT_EQ(after(state, check, {kTimeout, kTimeout, kPass, kPass, kTimeout, kPass, kPass}).state,
            TargetState::unhealthy);
  EXPECT_EQ(after(state, check, {kPass}).state, TargetState::healthy);
}

TEST(HealthState, reason_and_description_are_those_of_nlb) {
  const HealthCheck check = thresholds(2, 2);
  HealthState state;
  EXPECT_EQ(after(state, check, {kTimeout, kTimeout}),
            (TargetHealth{TargetState::unhealthy, HealthReason::timeout, "Request timed out"}));
  EXPECT_EQ(after(state, check, {kRefused}),
            (TargetHealth{TargetState::unhealthy, HealthReason::failed_health_checks,
                          "Health checks failed: Connection refused"}));
  EXPECT_EQ(after(state, check, {code(503)}),
            (TargetHealth{TargetState::unhealthy, HealthReason::response_code_mismatch,
                          "Health checks failed with these codes: [503]"}));
  EXPECT_EQ(after(state, check, {code(404), code(503)}).description,
            "Health checks failed with these codes: [404, 503]");
  // A new run of failures names only its own codes.
  EXPECT_EQ(after(state, check, {kPass, kPass, code(500), code(500)}).description,
            "Health checks failed with these codes: [500]");
}

TEST(HealthState, description_lists_a_bounded_number_of_codes) {
  HealthState state;
  for (std::uint16_t status = 400; status < 600; ++status) {
    (void)state.observe(code(status), thresholds(2, 2));
  }
  EXPECT_EQ(state.health().description,
            "Health checks failed with these codes: [400, 401, 402, 403, 404, 405, 406, 407]");
}

TEST(HealthState, local_fault_changes_nothing_and_breaks_no_run) {
  HealthState state;
  const HealthCheck check = thresholds(2, 2);
  EXPECT_EQ(after(state, check, {kLocal, kLocal, kLocal}).state, TargetState::initial);
  EXPECT_EQ(after(state, check, {kPass, kRefused, kLocal, kLocal}).state, TargetState::healthy);
  EXPECT_EQ(after(state, check, {kRefused}).state, TargetState::unhealthy);
  EXPECT_EQ(after(state, check, {kPass, kLocal, kPass}).state, TargetState::healthy);
}

TEST(HealthState, restored_health_goes_on_until_thresholds_say_otherwise) {
  HealthState healthy(TargetHealth{TargetState::healthy, HealthReason::none, ""});
  EXPECT_EQ(after(healthy, thresholds(2, 3), {kRefused, kRefused}).state, TargetState::healthy);
  EXPECT_EQ(after(healthy, thresholds(2, 3), {kRefused}).state, TargetState::unhealthy);
  HealthState unhealthy(
      TargetHealth{TargetState::unhealthy, HealthReason::timeout, "Request timed out"});
  EXPECT_EQ(after(unhealthy, thresholds(2, 3), {kPass}).state, TargetState::unhealthy);
  EXPECT_EQ(after(unhealthy, thresholds(2, 3), {kPass}).state, TargetState::healthy);
}

TEST(HealthState, forgotten_failures_leave_passes_counted) {
  HealthState state;
  const HealthCheck check = thresholds(3, 2);
  (void)after(state, check, {kPass, kRefused});
  state.forget_failures();
  EXPECT_EQ(after(state, check, {kRefused}).state, TargetState::healthy);
  (void)after(state, check, {kRefused, kPass, kPass});
  ASSERT_EQ(state.health().state, TargetState::unhealthy);
  state.forget_failures();
  EXPECT_EQ(after(state, check, {kPass}).state, TargetState::healthy);
}

TEST(HealthState, forgetting_runs_keeps_the_state) {
  HealthState state;
  EXPECT_EQ(after(state, thresholds(2, 2), {kPass, kRefused}).state, TargetState::healthy);
  state.forget_runs();
  EXPECT_EQ(after(state, thresholds(2, 2), {kRefused}).state, TargetState::healthy);
  EXPECT_EQ(after(state, thresholds(2, 2), {kRefused}).state, TargetState::unhealthy);
}

// The same rules told as plainly as possible: looks at the whole history each time.
TargetState model_of(const std::vector<ProbeOutcome>& history, const HealthCheck& check) {
  TargetState state = TargetState::initial;
  std::vector<bool> judged;
  for (const ProbeOutcome& outcome : history) {
    if (outcome.verdict == ProbeVerdict::local_fault) continue;
    judged.push_back(outcome.verdict == ProbeVerdict::passed);
    const auto last_are = [&](std::size_t count, bool passed) {
      if (judged.size() < count) return false;
      return std::all_of(judged.end() - static_cast<std::ptrdiff_t>(count), judged.end(),
                         [=](bool is_pass) { return is_pass == passed; });
    };
    if (state == TargetState::initial && judged.back()) state = TargetState::healthy;
    if (last_are(check.healthy_threshold, true)) state = TargetState::healthy;
    if (last_are(check.unhealthy_threshold, false)) state = TargetState::unhealthy;
  }
  return state;
}

RC_GTEST_PROP(HealthStateProperty, state_is_that_of_the_plain_model, ()) {
  const HealthCheck check = thresholds(*rc::gen::inRange(2U, 11U), *rc::gen::inRange(2U, 11U));
  const auto pass_percent = *rc::gen::element(5, 50, 95);
  std::vector<ProbeOutcome> history;
  HealthState state;
  for (int i = 0; i < 200; ++i) {
    const int roll = *rc::gen::inRange(0, 100);
    const ProbeOutcome failures[] = {kTimeout, kRefused, code(503), kLocal};
    history.push_back(roll < pass_percent ? kPass : failures[roll % 4]);
    const TargetHealth before = state.health();
    const bool is_changed = state.observe(history.back(), check);
    RC_ASSERT(is_changed == (before != state.health()));
    RC_ASSERT(state.health().state == model_of(history, check));
    RC_ASSERT((state.health().state == TargetState::healthy) ==
              (state.health().reason == HealthReason::none));
  }
}

TEST(Judge, failure_that_is_noticed_far_too_late_is_our_own) {
  const ProbeTime due{std::chrono::seconds(100)};
  for (const ProbeOutcome& outcome : {kTimeout, kRefused, code(503)}) {
    EXPECT_EQ(judge(outcome, due, due + kLateMax).verdict, outcome.verdict);
    EXPECT_EQ(judge(outcome, due, due + kLateMax + milliseconds(1)).verdict,
              ProbeVerdict::local_fault);
  }
  EXPECT_EQ(judge(kPass, due, due + std::chrono::hours(1)).verdict, ProbeVerdict::passed);
}

TEST(Matcher, ranges_are_inclusive) {
  HealthCheck check;
  check.matcher = {{200, 202}, {301, 301}};
  const std::set<int> matching = {200, 201, 202, 301};
  for (std::uint16_t status = 100; status < 600; ++status) {
    EXPECT_EQ(matches(check, status), matching.contains(status)) << status;
  }
}

RC_GTEST_PROP(ProbeSchedule, probes_keep_to_their_own_point_of_the_interval, ()) {
  const milliseconds interval(*rc::gen::inRange(100, 300001));
  const auto phase = *rc::gen::arbitrary<std::uint64_t>();
  const ProbeTime now{milliseconds(*rc::gen::inRange(0, 1 << 30))};
  const ProbeTime first = first_probe_time(now, interval, phase);
  RC_ASSERT(first >= now);
  RC_ASSERT(first < now + std::min(interval, kFirstProbeSpread));

  const ProbeTime second = next_probe_time(first, first + interval / 3, interval, phase);
  RC_ASSERT(second - first >= interval / 2);
  RC_ASSERT(2 * (second - first) < 3 * interval);
  const milliseconds took(*rc::gen::inRange<std::int64_t>(0, interval.count() + 1));
  RC_ASSERT(next_probe_time(second, second + took, interval, phase) == second + interval);
  // A probe that started late, because its turn came late, comes back to the same point.
  const ProbeTime late = second + interval / 4;
  RC_ASSERT(next_probe_time(late, late, interval, phase) == second + interval);
}

TEST(ProbeSchedule, many_targets_registered_at_once_are_probed_all_over_the_interval) {
  constexpr int kTargets = 1000;
  constexpr int kSpans = 10;
  const milliseconds interval(30000);
  int probes_in[kSpans] = {};
  for (std::uint64_t target = 0; target < kTargets; ++target) {
    const std::uint64_t phase = target * 0x9e3779b97f4a7c15ULL;
    const ProbeTime first = first_probe_time(ProbeTime{}, interval, phase);
    const ProbeTime second = next_probe_time(first, first, interval, phase);
    const ProbeTime third = next_probe_time(second, second, interval, phase);
    ++probes_in[(third.time_since_epoch() % interval) / (interval / kSpans)];
  }
  for (const int probes : probes_in) {
    EXPECT_GT(probes, kTargets / kSpans / 2);
    EXPECT_LT(probes, kTargets / kSpans * 2);
  }
}

}  // namespace
}  // namespace millrace::control
