// SPDX-License-Identifier: Apache-2.0
//
// What the reconciler makes of the engine: its counters, which targets still have flows, and
// whether a failed probe says anything about a target. Cold.
#include <algorithm>
#include <set>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "controlplane/reconcile/reconciler.h"

namespace millrace::control {

void Reconciler::poll_engine() {
  look_at_engine();
  observe_counters();
  hold_health(hooks_.now().monotonic_ns);
}

void Reconciler::look_at_engine() {
  const EngineWatch::Poll poll = engine_.poll(hooks_.now().monotonic_ns, hooks_.link_state);
  if (poll.is_new_engine) {
    listener_sums_.restart(poll.has_started);
    target_sums_.restart(poll.has_started);
    const std::string process = "process " + std::to_string(engine_.info().engine_pid);
    hooks_.log(LogLevel::info, engine_.is_alive() ? "the engine is " + process
                                                  : "the engine that ran last was " + process);
    hold_watch_.restart();
  }
  if (poll.twins_changed) {
    std::set<std::uint32_t> twins;
    for (const mr_nic& nic : engine_.info().nics) {
      if (nic.twin_index != 0) twins.insert(nic.twin_index);
    }
    hooks_.set_twins(std::move(twins));
    note_change();
  }
}

void Reconciler::observe_counters() {
  const shm::StatsReader* stats = engine_.stats();
  if (stats == nullptr) return;
  const std::uint64_t acknowledged = stats->acknowledged_by_all();
  for (const auto& [key, listener] : state_.listeners) {
    if (const auto raw = stats->listener(listener.slot)) {
      listener_sums_.observe(listener.id, *raw, acknowledged);
    }
  }
  for (const auto& [name, group] : state_.groups) {
    for (const auto& [key, target] : group.targets) {
      if (const auto raw = stats->target(target.slot)) {
        target_sums_.observe(target.id, *raw, acknowledged);
      }
    }
  }
}

// A new owner of a slot starts from where the slot's counters stand. That means in the engine that
// runs now, not in the one of the last look.
void Reconciler::begin_counters() {
  look_at_engine();
  const shm::StatsReader* stats = engine_.stats();
  // A control plane that starts anew finds its owners in force already.
  const core::ConfigView& in_force = publisher_->published();
  const auto first_with = [&](const auto& rows, std::uint32_t slot, std::uint32_t id) {
    const bool is_in_force = slot < rows.size() && rows[slot].id == id;
    return publisher_->generation() + (is_in_force ? 0 : 1);
  };
  const bool is_none = stats == nullptr && !engine_.is_alive();  // one that starts counts from 0
  const auto listener_at = [&](std::uint32_t slot) {
    return stats == nullptr ? std::nullopt : stats->listener(slot);
  };
  const auto target_at = [&](std::uint32_t slot) {
    return stats == nullptr ? std::nullopt : stats->target(slot);
  };
  std::unordered_set<std::uint32_t> listener_ids;
  std::unordered_set<std::uint32_t> target_ids;
  for (const auto& [key, listener] : state_.listeners) {
    listener_ids.insert(listener.id);
    listener_sums_.begin(listener.id, is_none ? mr_listener_stats{} : listener_at(listener.slot),
                         first_with(in_force.listeners, listener.slot, listener.id));
  }
  for (const auto& [name, group] : state_.groups) {
    for (const auto& [key, target] : group.targets) {
      target_ids.insert(target.id);
      target_sums_.begin(target.id, is_none ? mr_target_stats{} : target_at(target.slot),
                         first_with(in_force.targets, target.slot, target.id));
    }
  }
  listener_sums_.retain(listener_ids);
  target_sums_.retain(target_ids);
}

void Reconciler::hold_health(std::uint64_t now_ns) {
  const EngineSnapshot engine =
      engine_.snapshot(publisher_->generation(), published_at_ns_, now_ns);
  note_engine_state(engine);
  const HoldDecision decided = hold_watch_.decide({.engine = engine,
                                                   .silence_ns = engine_.silence_ns(now_ns),
                                                   .now_ns = now_ns,
                                                   .probe_timeout_min_ns = probe_timeout_min_ns_,
                                                   .target_nics = target_nics_});
  if (decided.alarm.text.empty() != hold_alarm_.text.empty()) {
    const bool is_over = decided.alarm.text.empty();
    hooks_.log(is_over ? LogLevel::info : LogLevel::error,
               is_over ? "over: " + hold_alarm_.text : decided.alarm.text);
  }
  hold_alarm_ = decided.alarm;
  note_nic_troubles(engine);
  HealthHold hold{.reason = decided.reason, .targets = {}, .forgets_failures = false};
  if (decided.held_nics != 0) {
    // The link was down for a moment before anybody saw it, so probes may have failed.
    hold.forgets_failures = true;
    if (!decided.is_for_all) hold.targets = targets_behind(decided.held_nics);
    if (!decided.is_for_all && hold.targets.empty()) hold.reason.clear();
  }
  hooks_.set_health_hold(std::move(hold));
}

void Reconciler::note_engine_state(const EngineSnapshot& engine) {
  if (engine_state_ == engine.state) return;
  // Either program may be the first to start, so a missing engine is expected at first. One that
  // cannot be seen has started.
  const bool is_expected = engine.is_running() || (!engine_state_ && !engine.is_unseen());
  const char* what = engine.is_running()      ? "the engine runs"
                     : engine.is_forwarding() ? "the engine forwards, but carries out no change: "
                     : engine.is_unseen()     ? ""
                                              : "nothing is forwarded: ";
  hooks_.log(is_expected ? LogLevel::info : LogLevel::error,
             what + (engine.is_running() ? "" : engine.problem));
  if (engine_state_ == EngineState::unseen) note_change();  // nothing stands in for it any more
  engine_state_ = engine.state;
}

// Judges by what the engine was given. While nobody attends to the engine, that may be out of date.
// Then no target becomes unreachable, and none that was unreachable counts as reachable.
void Reconciler::note_ways(std::uint64_t now_ns) {
  if (!has_contents_) return;
  const bool is_running = engine_state_ == EngineState::running;
  for (auto& [name, group] : state_.groups) {
    for (auto& [key, target] : group.targets) {
      const mr_next_hop& hop = contents_.targets[target.slot].next_hop;
      const bool has_way = (hop.flags & MR_NEXT_HOP_RESOLVED) != 0;
      if (!has_way && !is_running) {
        target.no_way_since_ns = 0;
        continue;
      }
      if (note_way(target, has_way, now_ns)) stale_groups_.add(name);
    }
  }
}

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

// Looks at every nic, because clients and targets may be behind any.
void Reconciler::note_nic_troubles(const EngineSnapshot& engine) {
  std::vector<Alarm> alarms;
  for (const NicSnapshot& nic : engine.nics) {
    if (nic.trouble == NicTrouble::none || !engine.is_forwarding()) continue;
    alarms.push_back(alarm_of(nic, engine));
  }
  const auto log_missing = [this](LogLevel level, const char* what, const auto& of,
                                  const auto& in) {
    for (const Alarm& alarm : of) {
      if (std::ranges::find(in, alarm) == in.end()) hooks_.log(level, what + alarm.text);
    }
  };
  log_missing(LogLevel::info, "over: ", nic_alarms_, alarms);
  log_missing(LogLevel::error, "", alarms, nic_alarms_);
  nic_alarms_ = std::move(alarms);
}

// Targets whose nic was never known may be behind any nic.
std::set<TargetKey> Reconciler::targets_behind(NicMask nics) const {
  std::set<TargetKey> keys;
  for (const auto& [name, group] : state_.groups) {
    for (const auto& [key, target] : group.targets) {
      const bool is_behind = !target.nic || (nics >> *target.nic & 1) != 0;
      if (is_behind) keys.insert(key);
    }
  }
  return keys;
}

// Notes the nic by which each target is reached, or was reached while the kernel still knew.
void Reconciler::note_nics() {
  target_nics_ = 0;
  for (auto& [name, group] : state_.groups) {
    for (auto& [key, target] : group.targets) {
      const mr_next_hop& hop = contents_.targets[target.slot].next_hop;
      if ((hop.flags & MR_NEXT_HOP_RESOLVED) != 0) target.nic = hop.nic;
      if (target.nic) target_nics_ |= NicMask{1} << *target.nic;
    }
  }
}

std::optional<std::uint64_t> Reconciler::active_flows(std::uint32_t target_slot) const {
  // A starting engine counts its flows before it adopts its first config.
  const shm::StatsReader* stats = engine_.stats();
  if (stats == nullptr || !engine_.is_alive() || stats->acknowledged_by_all() == 0) {
    return std::nullopt;
  }
  const std::optional<mr_target_stats> target = stats->target(target_slot);
  if (!target) return std::nullopt;
  return target->active_flows;
}

// True when the set of probed targets changes by it.
bool Reconciler::note_all_flows(std::uint64_t now_ns) {
  flows_checked_ns_ = now_ns;
  bool is_changed = false;
  for (auto& [name, group] : state_.groups) {
    for (auto& [key, target] : group.targets) {
      const auto flows = gets_flows(target, group) ? std::nullopt : active_flows(target.slot);
      is_changed = note_flows(target, group, flows) || is_changed;
    }
  }
  return is_changed;
}

}  // namespace millrace::control
