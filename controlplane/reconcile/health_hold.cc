// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/health_hold.h"

#include <algorithm>

#include "dataplane/core/nanoseconds.h"

namespace millrace::control {

namespace {

// How long an engine must have run before a failed probe says anything.
constexpr std::uint64_t kEngineWarmUpNs = 2 * kSecondNs;
// Far shorter than the time in which two probes can fail (interval 100 ms), and far longer than the
// millisecond after which the engine's main thread beats again.
constexpr std::uint64_t kSilenceMinNs = 50 * kMillisecondNs;
// A stall that lasts longer than this is no hiccup of the machine that passes before anybody could
// look.
constexpr std::uint64_t kStallAlarmNs = 500 * kMillisecondNs;
// A kernel that lost its carrier has forgotten its neighbours: it asks for each up to three times,
// a second apart, and mostly needs one.
constexpr std::uint64_t kLinkGraceNs = 2 * kSecondNs;
// A link that is away for longer will not be back soon. If other nics reach targets, those targets
// are better than ones that nobody reaches.
constexpr std::uint64_t kLinkHoldNs = 30 * kSecondNs;

NicMask bit(std::size_t nic) { return NicMask{1} << nic; }

}  // namespace

HoldDecision HoldWatch::decide(const Inputs& inputs) {
  if (!inputs.engine.is_forwarding()) {
    restart();
    return {.reason = inputs.engine.problem, .is_for_all = true};
  }
  if (engine_since_ns_ == 0) engine_since_ns_ = inputs.now_ns;
  note_links(inputs);
  // What the engine says of its workers is as old as its last sign of life.
  if (!inputs.engine.is_running()) return for_links(inputs);
  HoldDecision stalled = for_worker(inputs);
  // An engine that was killed and started again at once holds its lock from its first moment, long
  // before it forwards probes. Until it makes its own segment, the old segment's silence shows
  // that.
  if (inputs.silence_ns > kSilenceMinNs) {
    return {.reason = "the engine gives no sign of life", .is_for_all = true};
  }
  if (inputs.now_ns < engine_since_ns_ + kEngineWarmUpNs) {
    return {.reason = "the engine has just started", .is_for_all = true};
  }
  return stalled.is_for_all ? stalled : for_links(inputs);
}

void HoldWatch::note_links(const Inputs& inputs) {
  const std::size_t count = std::min(inputs.engine.nics.size(), links_.size());
  for (std::size_t nic = 0; nic < count; ++nic) {
    Link& link = links_[nic];
    const bool is_up = inputs.engine.nics[nic].trouble == NicTrouble::none;
    if (!is_up) {
      link.trouble_text = inputs.engine.nics[nic].trouble_text;
      if (link.is_up) link.down_since_ns = inputs.now_ns;
      link.down_until_ns = inputs.now_ns;
    }
    link.is_up = is_up;
  }
}

// A worker that stands still for less than a probe's timeout makes no probe fail. The limit is half
// of that timeout: this leaves time to see the stall, and does not hold health whenever the machine
// is busy.
HoldDecision HoldWatch::for_worker(const Inputs& inputs) {
  const std::uint64_t bound_ns =
      std::clamp(inputs.probe_timeout_min_ns / 2, kSilenceMinNs, kSecondNs);
  std::uint64_t longest_ns = 0;
  for (const WorkerSnapshot& worker : inputs.engine.workers) {
    const std::uint64_t age_ns = worker.heartbeat_age_ms * kMillisecondNs;
    if (age_ns < bound_ns || age_ns < longest_ns) continue;
    longest_ns = age_ns;
    stalled_worker_ = worker.index;
    stalled_until_ns_ = inputs.now_ns;
  }
  if (stalled_until_ns_ == 0 || inputs.now_ns > stalled_until_ns_ + bound_ns) return {};
  HoldDecision hold{
      .reason = "worker " + std::to_string(stalled_worker_) + " of the engine stands still",
      .is_for_all = true,
      .held_nics = 0,
      .alarm = {}};
  if (longest_ns >= kStallAlarmNs) {
    hold.alarm = {AlarmKind::stall, hold.reason + " (since " +
                                        std::to_string(longest_ns / kSecondNs) +
                                        " s): no target's health gets worse"};
  }
  return hold;
}

HoldDecision HoldWatch::for_links(const Inputs& inputs) const {
  HoldDecision hold;
  for (std::size_t nic = 0; nic < std::min(inputs.engine.nics.size(), links_.size()); ++nic) {
    if (!is_held(nic, inputs)) continue;
    hold.held_nics |= bit(nic);
    hold.reason = (links_[nic].is_up ? "just over: " : "") + links_[nic].trouble_text;
  }
  hold.is_for_all = hold.held_nics != 0 && (inputs.target_nics & ~hold.held_nics) == 0;
  return hold;
}

bool HoldWatch::is_held(std::size_t nic, const Inputs& inputs) const {
  const Link& link = links_[nic];
  if (link.down_until_ns == 0 || inputs.now_ns > link.down_until_ns + kLinkGraceNs) return false;
  if (link.is_up || inputs.now_ns < link.down_since_ns + kLinkHoldNs) return true;
  for (std::size_t other = 0; other < inputs.engine.nics.size(); ++other) {
    const bool reaches_targets = (inputs.target_nics & bit(other)) != 0;
    if (other != nic && reaches_targets && inputs.engine.nics[other].trouble == NicTrouble::none)
      return false;
  }
  return true;
}

}  // namespace millrace::control
