// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/health_holder.h"

#include <utility>

#include "controlplane/reconcile/target_ways.h"

namespace millrace::control {

void HealthHolder::hold(const EngineSnapshot& engine, std::uint64_t silence_ns,
                        const ControlState& state, std::uint64_t now_ns) {
  const HoldDecision decided = watch_.decide({.engine = engine,
                                              .silence_ns = silence_ns,
                                              .now_ns = now_ns,
                                              .probe_timeout_min_ns = probe_timeout_min_ns_,
                                              .target_nics = target_nics_});
  note_alarm(decided.alarm);
  HealthHold hold{.reason = decided.reason, .targets = {}, .forgets_failures = false};
  if (decided.held_nics != 0) {
    // The link was down for a moment before anybody saw it.
    hold.forgets_failures = true;
    if (!decided.is_for_all) hold.targets = targets_behind(decided.held_nics, state);
    if (!decided.is_for_all && hold.targets.empty()) hold.reason.clear();
  }
  health_.set_hold(std::move(hold));
}

// The text grows older with each look; only its beginning and its end are news.
void HealthHolder::note_alarm(const Alarm& now) {
  const bool is_over = now.text.empty();
  if (is_over != alarm_.text.empty()) {
    host_.log(is_over ? LogLevel::info : LogLevel::error,
              is_over ? "over: " + alarm_.text : now.text);
  }
  alarm_ = now;
}

}  // namespace millrace::control
