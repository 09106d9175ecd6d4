// SPDX-License-Identifier: Apache-2.0
//
// The operator's requests, and how each comes into force: as a whole or not at all. Cold.
#include <algorithm>
#include <optional>
#include <utility>

#include "controlplane/reconcile/apply.h"
#include "controlplane/reconcile/reconciler.h"
#include "controlplane/reconcile/recover.h"
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
  hooks_.note_progress();  // it was loaded
  std::string text = hooks_.config_text(config);
  // The file may have changed since it was read; what it said then counts. Whether another text
  // says the same is found out at a start, because that takes as long as to load both. If the file
  // cannot be read now, what it said last counts: it may come back as it was.
  std::optional<std::string> file_text = hooks_.config_file_text();
  const bool is_from_file = source == options_.config_file;
  return bring_in(config, {.text = std::move(text),
                           .source = std::move(source),
                           .applied_ns = hooks_.now().realtime_ns,
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
  return !stored.text.empty() && !stored.is_from_file &&
         hooks_.is_said_by_config_file(stored.file_text) &&
         !hooks_.is_said_by_config_file(stored.text);
}

Result<ApplyOutcome> Reconciler::bring_in(const Config& config, AppliedConfig applied) {
  hooks_.note_progress();
  const Moment now = hooks_.now();
  if (!is_applied_) take_over_what_is_in_force(config, now);
  if (Status reserved = reserve_ids(ids_needed(state_, config)); !reserved) return reserved.error();
  ControlState before = state_;
  Result<ApplyOutcome> outcome = apply_config(state_, config, now.monotonic_ns);
  if (!outcome) return outcome;
  state_.config = std::move(applied);
  if (Status done = carry_out(std::move(before), now); !done) return done.error();
  report_config_error("");
  outcome->generation = publisher_->generation();
  outcome->warnings = with_engine(lacks_of_targets(state_));
  return outcome;
}

Result<ApplyOutcome> Reconciler::rehearse(const Config& config) {
  hooks_.note_progress();  // it was loaded
  const Moment now = hooks_.now();
  if (Status reserved = reserve_ids(ids_needed(state_, config)); !reserved) return reserved.error();
  ControlState trial = state_;
  Result<ApplyOutcome> outcome = apply_config(trial, config, now.monotonic_ns);
  if (!outcome) return outcome;
  update_epochs(trial, now.monotonic_ns);
  hooks_.note_progress();
  const Status prepared = publisher_->prepare(plan_image(trial, surroundings(now.monotonic_ns)));
  publisher_->abandon();
  hooks_.note_progress();
  if (!prepared) return prepared.error();
  outcome->generation = publisher_->generation();
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
  const core::ConfigView& in_force = publisher_->published();
  const Recovered recovered = recover_in_force(state_, in_force, config);
  if (recovered.is_anything()) hooks_.log(LogLevel::warning, to_string(recovered));
  state_.ids.skip_to(publisher_->id_floor());
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
    highest = hooks_.highest_flow_id(engine.flow_table_dir, engine.flow_table_count);
  }
  return std::max(static_cast<std::uint32_t>(seconds), std::min(highest, UINT32_MAX - 1) + 1);
}

// No id is given out before the store has noted it: an id that was forgotten would be given out
// twice.
Status Reconciler::reserve_ids(std::uint32_t count) {
  if (count <= state_.ids.room()) return ok();
  const std::uint64_t floor = std::uint64_t{state_.ids.next()} + count + kNumberStep;
  if (floor > UINT32_MAX) {
    return Error{"no ids are left for " + std::to_string(count) +
                 " new listeners, target groups and targets"};
  }
  const auto new_floor = static_cast<std::uint32_t>(floor);
  const Status saved = store_.save_id_floor(new_floor);
  if (!saved) {
    note_saved(saved);  // success would say nothing of the rest of the state
    return saved.error().within(std::to_string(count) +
                                " new listeners, target groups and targets get no ids while these "
                                "cannot be stored");
  }
  state_.ids.raise(new_floor);
  return ok();
}

Result<Reconciler::Warnings> Reconciler::drain(const TargetKey& key) {
  TargetRecord* target = find_target(key);
  if (target == nullptr) return Error{"no target " + key.to_string()};
  if (target->is_operator_drained) return Warnings{};
  const Moment now = hooks_.now();
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
  if (Status done = carry_out(std::move(before), hooks_.now()); !done) return done.error();
  const std::string lack = lack_of_flows(*target, state_.groups.at(key.group));
  if (lack.empty()) return with_engine({});
  return with_engine({key.to_string() + " gets no new flows all the same: " + lack});
}

// What was published is in force as soon as the engine has it. If the engine is well, that takes a
// moment. Without an engine nothing is forwarded, and one that starts begins with the newest
// generation.
Reconciler::Warnings Reconciler::with_engine(Warnings warnings) const {
  const EngineSnapshot engine =
      engine_.snapshot(publisher_->generation(), published_at_ns_, hooks_.now().monotonic_ns);
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
