// SPDX-License-Identifier: Apache-2.0
//
// The operator's requests, and how each comes into force: as a whole or not at all. Cold.
#include <algorithm>
#include <optional>
#include <utility>

#include "controlplane/config/dump.h"
#include "controlplane/reconcile/apply.h"
#include "controlplane/reconcile/image_plan.h"
#include "controlplane/reconcile/reconciler.h"
#include "controlplane/reconcile/recover.h"
#include "controlplane/reconcile/restore.h"
#include "dataplane/core/nanoseconds.h"

namespace millrace::control {

namespace {

std::vector<std::string> lacks_of_targets(const ControlState& state) {
  std::vector<std::string> sentences;
  for (const auto& [name, group] : state.groups) {
    std::string lack = lack_of_targets(group);
    if (!lack.empty()) sentences.push_back(std::move(lack));
  }
  return sentences;
}

constexpr const char* kLeftConfig = "it left the config, which alone brings it back";

// Why a target that no operator drains gets no new flow, even if it is healthy; "" if it gets some.
std::string lack_of_flows(const TargetRecord& target, const GroupState& group) {
  if (!target.is_configured) return kLeftConfig;
  if (target.weight == 0) return "its weight is 0";
  return group.is_in_use ? "" : "no listener forwards to its group";
}

}  // namespace

Result<ApplyOutcome> Reconciler::apply(Config config, std::string source) {
  parts_.host.note_progress();  // it was loaded
  std::string text = dump_config(config);
  // The file may have changed since it was read: what it said then is what counts. Whether another
  // text says the same is for a start to find out: that takes as long as to load both. Of a file
  // that cannot be read now, what it said last counts: it may come back as it was.
  std::optional<std::string> file_text = parts_.source.text();
  const bool is_from_file = source == parts_.source.name();
  return bring_in(config, {.text = std::move(text),
                           .source = std::move(source),
                           .applied_ns = parts_.clock.now().realtime_ns,
                           .is_from_file = is_from_file,
                           .file_text = std::move(file_text).value_or(state_.config.file_text)});
}

Status Reconciler::resume(const Config& config) {
  const auto outcome = bring_in(config, state_.config);
  if (!outcome) return outcome.error();
  return ok();
}

bool Reconciler::is_stored_config_newer_than_file() const {
  const AppliedConfig& stored = state_.config;
  return !stored.text.empty() && !stored.is_from_file && parts_.source.says(stored.file_text) &&
         !parts_.source.says(stored.text);
}

Result<ApplyOutcome> Reconciler::bring_in(const Config& config, AppliedConfig applied) {
  parts_.host.note_progress();
  const Moment now = parts_.clock.now();
  if (!is_applied_) take_over_what_is_in_force(config, now);
  if (Status reserved = keeper_.reserve_ids(state_.ids, ids_needed(state_, config)); !reserved)
    return reserved.error();
  ControlState before = state_;
  Result<ApplyOutcome> outcome = apply_config(state_, config, now.monotonic_ns);
  if (!outcome) return outcome;
  state_.config = std::move(applied);
  if (Status done = carry_out(std::move(before), now); !done) return done.error();
  report_config_error("");
  outcome->generation = publication_->generation();
  outcome->warnings = with_engine(lacks_of_targets(state_));
  return outcome;
}

Result<ApplyOutcome> Reconciler::rehearse(const Config& config) {
  parts_.host.note_progress();  // it was loaded
  const Moment now = parts_.clock.now();
  if (Status reserved = keeper_.reserve_ids(state_.ids, ids_needed(state_, config)); !reserved)
    return reserved.error();
  ControlState trial = state_;
  Result<ApplyOutcome> outcome = apply_config(trial, config, now.monotonic_ns);
  if (!outcome) return outcome;
  update_epochs(trial, now.monotonic_ns);
  parts_.host.note_progress();
  const Status prepared = publication_->prepare(plan_image(trial, surroundings(now.monotonic_ns)));
  publication_->abandon();
  parts_.host.note_progress();
  if (!prepared) return prepared.error();
  outcome->generation = publication_->generation();
  outcome->warnings = lacks_of_targets(trial);
  return outcome;
}

// An operator's request comes into force and is stored as a whole, or leaves no trace. At a start
// the request is the config that ran before, and most of it is better than nothing.
Status Reconciler::carry_out(ControlState before, const Moment& now) {
  const bool is_start = !std::exchange(is_applied_, true);
  const Status done = settle_all(now, is_start ? OnFailure::retry : OnFailure::refuse);
  if (done || is_start) return ok();
  state_ = std::move(before);
  note_change();  // what waited for the next turn still does
  return done;
}

// Called before the first config is applied, and so before anything is published.
void Reconciler::take_over_what_is_in_force(const Config& config, const Moment& now) {
  const core::ConfigView& in_force = publication_->in_force();
  const Recovered recovered = recover_in_force(state_, in_force, config);
  if (recovered.is_anything()) parts_.host.log(LogLevel::warning, to_string(recovered));
  state_.ids.skip_to(publication_->segment().id_floor());
  if (in_force.image == nullptr) state_.ids.skip_to(unseen_id_floor(now));
  restore_epochs(state_, in_force, now.monotonic_ns);
  restore_ways(state_, in_force);
}

// Nothing is in force that could show whether the store is right; it may be new, or as old as a
// backup. So ids start above all that flows name, and above the seconds of the clock. If fewer than
// one id a second was given out since 1970, no id is given out twice, whatever was lost.
std::uint32_t Reconciler::unseen_id_floor(const Moment& now) const {
  // A clock that is far ahead must not use up the numbers: half of those that are left stays.
  constexpr std::uint64_t kSecondsMax = 3'000'000'000;
  const std::uint64_t seconds = std::min(now.realtime_ns / kSecondNs, kSecondsMax);
  const EngineSnapshot engine = engine_.snapshot(0, 0, now.monotonic_ns);
  std::uint32_t highest = 0;
  if (engine.flow_table_count != 0) {
    highest = parts_.host.highest_flow_id(engine.flow_table_dir, engine.flow_table_count);
  }
  return std::max(static_cast<std::uint32_t>(seconds), std::min(highest, UINT32_MAX - 1) + 1);
}

Result<Reconciler::Warnings> Reconciler::drain(const TargetKey& key) {
  TargetRecord* target = find_target(key);
  if (target == nullptr) return Error{"no target " + key.to_string()};
  if (target->is_operator_drained) return Warnings{};
  const Moment now = parts_.clock.now();
  const GroupState& group = state_.groups.at(key.group);
  ControlState before = state_;
  const bool was_failing_open = fails_open(group);
  target->is_operator_drained = true;
  begin_drain(*target, group.settings, now.monotonic_ns);
  const bool is_failing_open = fails_open(group);
  if (Status done = carry_out(std::move(before), now); !done) return done.error();
  if (std::string lack = lack_of_targets(state_.groups.at(key.group)); !lack.empty()) {
    return with_engine({std::move(lack)});
  }
  if (!is_failing_open || was_failing_open) return with_engine({});
  return with_engine({"no healthy target is left in group " + key.group +
                      ": it fails open, so that unhealthy ones get new flows"});
}

Result<Reconciler::Warnings> Reconciler::undrain(const TargetKey& key) {
  TargetRecord* target = find_target(key);
  if (target == nullptr) return Error{"no target " + key.to_string()};
  if (!target->is_operator_drained) {
    return Error{std::string("is not drained by the operator") +
                 (target->is_configured ? "" : std::string("; ") + kLeftConfig)};
  }
  ControlState before = state_;
  target->is_operator_drained = false;
  end_drain(*target);
  if (Status done = carry_out(std::move(before), parts_.clock.now()); !done) return done.error();
  const std::string lack = lack_of_flows(*target, state_.groups.at(key.group));
  if (lack.empty()) return with_engine({});
  return with_engine({key.to_string() + " gets no new flows all the same: " + lack});
}

// What was published is in force as soon as the engine has it. If the engine is well, that takes a
// moment. Without an engine nothing is forwarded, and one that starts begins with the newest
// generation.
Reconciler::Warnings Reconciler::with_engine(Warnings warnings) const {
  const EngineSnapshot engine = engine_snapshot(now_ns());
  if (engine.state == EngineState::stopped || engine.problem.empty()) return warnings;
  const std::string before = "the engine goes on by generation " +
                             std::to_string(engine.adopted_generation) +
                             ", without this change, until somebody attends to it: ";
  warnings.push_back(engine.is_unseen()    ? engine.problem
                     : engine.is_running() ? "this change may not be in force: " + engine.problem
                                           : before + engine.problem);
  return warnings;
}

}  // namespace millrace::control
