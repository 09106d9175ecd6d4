// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/reconciler.h"

#include <algorithm>
#include <set>
#include <utility>

#include "controlplane/reconcile/apply.h"
#include "controlplane/reconcile/snapshot_builder.h"
#include "dataplane/core/nanoseconds.h"

namespace millrace::control {

namespace {

// How often to ask whether targets that get no flows any more still have some. A counter is read
// per worker and target, which is too much for every tick. The time is still far less than a health
// check takes.
constexpr std::uint64_t kFlowsCheckNs = kSecondNs;

// How long to wait before trying again to publish, to save or to make a lost segment. Each try
// works out everything anew, and asks for memory or a disk that was short a moment ago. Whatever
// else wants a try meanwhile (a tick, a changed health) waits as well. Only an operator's request
// does not wait.
constexpr std::uint64_t kRetryNs = kSecondNs;

}  // namespace

Reconciler::Reconciler(Options options, StateStore store, ReconcilerHooks hooks, ControlState state,
                       std::unique_ptr<Publisher> publisher)
    : options_(std::move(options)),
      store_(std::move(store)),
      hooks_(std::move(hooks)),
      state_(std::move(state)),
      publisher_(std::move(publisher)),
      engine_(options_.runtime_dir),
      opened_at_ns_(hooks_.now().monotonic_ns),
      generation_floor_(store_.state().generation_floor) {}

Result<std::unique_ptr<Publisher>> Reconciler::open_publisher(const Options& options,
                                                              std::uint64_t generation_floor) {
  EngineWatch engine(options.runtime_dir);
  (void)engine.poll(0, [](const auto&) { return LinkState{}; });  // for its generations alone
  std::uint64_t floor = std::max(generation_floor, engine.info().adopted_generation);
  if (const shm::StatsReader* stats = engine.stats()) {
    for (std::uint32_t i = 0; i < stats->worker_count(); ++i) {
      floor = std::max(floor, stats->acknowledged_generation(i));
    }
  }
  return Publisher::open({.path = options.runtime_dir + "/config",
                          .segment_bytes = options.segment_bytes,
                          .generation_floor = floor,
                          .step_hook = {}});
}

Result<std::unique_ptr<Reconciler>> Reconciler::open(Options options, StateStore store,
                                                     ReconcilerHooks hooks) {
  const Moment now = hooks.now();
  Result<ControlState> state = from_store(store.state(), now);
  if (!state) return state.error();
  Result<std::unique_ptr<Publisher>> publisher =
      open_publisher(options, store.state().generation_floor);
  if (!publisher) return publisher.error();

  std::unique_ptr<Reconciler> reconciler(new Reconciler(std::move(options), std::move(store),
                                                        std::move(hooks), std::move(*state),
                                                        std::move(*publisher)));
  if (const std::string& why = reconciler->publisher_->rejoin_error(); !why.empty()) {
    reconciler->hooks_.log(LogLevel::warning, "made a new config segment: " + why);
  }
  reconciler->poll_engine();
  return reconciler;
}

TargetRecord* Reconciler::find_target(const TargetKey& key) {
  const auto group = state_.groups.find(key.group);
  if (group == state_.groups.end()) return nullptr;
  const auto target = group->second.targets.find(key);
  return target == group->second.targets.end() ? nullptr : &target->second;
}

void Reconciler::on_health(const TargetKey& key, const TargetHealth& health) {
  TargetRecord* target = find_target(key);
  if (target == nullptr || target->health == health) return;
  if (target->health.state != health.state) {
    const bool is_bad = health.state == TargetState::unhealthy;
    hooks_.log(is_bad ? LogLevel::warning : LogLevel::info,
               key.to_string() + " is " + to_string(health.state) +
                   (health.description.empty() ? "" : ": " + health.description));
  }
  target->health = health;
  stale_groups_.add(key.group);
  wake();
}

void Reconciler::note_change() {
  is_dirty_ = true;
  wake();
}

void Reconciler::wake() {
  if (is_woken_) return;
  is_woken_ = true;
  hooks_.wake();
}

void Reconciler::tick() {
  const std::uint64_t now_ns = hooks_.now().monotonic_ns;
  if (publisher_->is_lost() && !waits_to_publish(now_ns)) replace_lost_segment();
  publisher_->beat(now_ns);
  poll_engine();
  publisher_->reclaim(engine_.oldest_read(publisher_->generation()));
  const bool is_retired = retire_targets(
      state_, [this](std::uint32_t slot) { return active_flows(slot); }, now_ns);
  const bool is_grace_over = now_ns >= opened_at_ns_ + kGraceNs;
  const bool is_grace_ending = is_grace_over && !is_grace_over_;
  is_grace_over_ = is_grace_over;
  const bool is_retry_due = !store_alarm_.empty() && !waits_to_save(now_ns);
  const bool is_probing_stale =
      now_ns >= flows_checked_ns_ + kFlowsCheckNs && note_all_flows(now_ns);
  if (is_retired || is_grace_ending || is_retry_due || is_probing_stale ||
      now_ns >= drain_due_ns_) {
    is_dirty_ = true;
  }
  note_ways(now_ns);
  if (is_file_wrong_ && hooks_.is_said_by_config_file(state_.config.text)) {
    report_config_error("");
  }
  for (const auto& [name, group] : state_.groups) {
    if (now_ns >= group.epochs.next_expiry_ns()) stale_groups_.add(name);
  }
  settle();
}

void Reconciler::settle() {
  is_woken_ = false;
  if (!is_applied_) return;
  const Moment now = hooks_.now();
  if (waits_to_publish(now.monotonic_ns)) return;  // what changed meanwhile stays noted
  if (is_dirty_ || !has_contents_) {
    (void)settle_all(now, OnFailure::retry);  // it has its alarms
  } else if (!stale_groups_.is_empty()) {
    settle_groups(stale_groups_.take(kGroupsPerImage), now);
  }
  if (!stale_groups_.is_empty()) wake();
}

Status Reconciler::settle_all(const Moment& now, OnFailure on_failure) {
  is_dirty_ = false;
  stale_groups_.clear();
  drain_due_ns_ = kNever;
  for (auto& [name, group] : state_.groups) {
    for (auto& [key, target] : group.targets) {
      if (!advance_drain(target, now.monotonic_ns)) continue;
      hooks_.log(LogLevel::info, key.to_string() + " is drained");
    }
    drain_due_ns_ = std::min(drain_due_ns_, next_drain_end_ns(group));
  }
  (void)note_all_flows(now.monotonic_ns);
  update_epochs(state_, now.monotonic_ns);
  hooks_.note_progress();
  choose_listener_ports();
  watch_ways();
  return put_in_force(plan_image(state_, surroundings(now.monotonic_ns)), now, on_failure);
}

// All that can fail comes first, then the store. Only then does an engine see anything, because ids
// and slots must not be forgotten once an engine has seen them.
Status Reconciler::put_in_force(ImageContents contents, const Moment& now, OnFailure on_failure) {
  const bool is_new = !has_contents_ || !are_equal(contents, contents_);
  publisher_->reclaim(engine_.oldest_read(publisher_->generation()));
  Status prepared = is_new ? publisher_->prepare(contents) : ok();
  if (!prepared && on_failure == OnFailure::refuse) return prepared;
  hooks_.note_progress();
  Status saved = save(now);
  hooks_.note_progress();
  if (!saved && on_failure == OnFailure::refuse) {
    publisher_->abandon();
    return saved;
  }
  begin_counters();
  tell_health();
  if (!prepared) has_contents_ = false;  // groups may have slots that the last ones lack
  if (prepared && is_new) {
    contents_ = std::move(contents);
    note_nics();
    prepared = commit(now);
  }
  if (!prepared) is_dirty_ = true;  // one group's image would not bring it into force
  note_published(prepared, now);
  return prepared ? saved : prepared;
}

// For changes that leave every other group, the sets of targets and all settings as they were.
void Reconciler::settle_groups(const std::vector<std::string>& names, const Moment& now) {
  const FindWay way_to = way_to_targets(now.monotonic_ns);
  std::vector<StoredTarget> rows;
  bool is_changed = false;
  for (const std::string& name : names) {
    const auto found = state_.groups.find(name);
    if (found == state_.groups.end()) continue;
    GroupState& group = found->second;
    update_epochs(group, state_.node, now.monotonic_ns);
    is_changed = replan_group(contents_, group, way_to) || is_changed;
    for (const auto& [key, target] : group.targets) rows.push_back(to_store(target, now));
  }
  save_targets(rows, now);
  if (!is_changed) return;
  publisher_->reclaim(engine_.oldest_read(publisher_->generation()));
  Status published = publisher_->prepare(contents_);
  if (published) published = commit(now);
  has_contents_ = static_cast<bool>(published);  // else everything is planned anew
  note_published(published, now);
}

// The port of the first listener that forwards to the group. When that listener is gone, its port
// stays in use: a changed Host would discard the probes counted so far, and might make them fail.
void Reconciler::choose_listener_ports() {
  std::set<std::string> named;
  for (const auto& [key, listener] : state_.listeners) {
    if (!named.insert(listener.target_group).second) continue;
    state_.groups.at(listener.target_group).listener_port = key.port;
  }
}

void Reconciler::watch_ways() {
  std::set<IpAddress> addresses;
  for (const auto& [name, group] : state_.groups) {
    for (const auto& [key, target] : group.targets) addresses.insert(key.address);
  }
  hooks_.watch_next_hops({addresses.begin(), addresses.end()});
}

void Reconciler::tell_health() {
  std::vector<HealthTarget> probed;
  std::uint32_t timeout_min_ms = UINT32_MAX;
  for (const auto& [name, group] : state_.groups) {
    for (const auto& [key, target] : group.targets) {
      if (!is_probed(target, group)) continue;
      HealthTarget health{.key = key,
                          .id = target.id,
                          .check = group.settings.health_check,
                          .listener_port = group.listener_port,
                          .restored = std::nullopt};
      if (target.health.state != TargetState::initial) health.restored = target.health;
      timeout_min_ms = std::min(timeout_min_ms, health.check.timeout_ms);
      probed.push_back(std::move(health));
    }
  }
  probe_timeout_min_ns_ = timeout_min_ms * kMillisecondNs;
  hooks_.set_health_targets(std::move(probed));
}

Status Reconciler::save(const Moment& now) {
  saved_at_ns_ = now.monotonic_ns;
  // One publish follows at most; the floor stays ahead of it.
  if (is_floor_reached()) generation_floor_ = publisher_->generation() + 1 + kNumberStep;
  Status saved = store_.save(to_store(state_, generation_floor_, now));
  note_saved(saved);
  return saved;
}

void Reconciler::save_targets(const std::vector<StoredTarget>& rows, const Moment& now) {
  if (waits_to_save(now.monotonic_ns)) return;  // the next one has all
  if (is_floor_reached() || !store_alarm_.empty()) {
    (void)save(now);  // it has its alarm
    return;
  }
  note_saved(store_.save_targets(rows));
}

void Reconciler::note_saved(const Status& saved) {
  note_alarm(store_alarm_, saved ? "" : "state is not saved: " + saved.error().message,
             "state is saved again");
}

void Reconciler::note_alarm(std::string& before, const std::string& now, const char* over) const {
  if (now != before)
    hooks_.log(now.empty() ? LogLevel::info : LogLevel::error, now.empty() ? over : now);
  before = now;
}

Status Reconciler::commit(const Moment& now) {
  const Result<std::uint64_t> generation = publisher_->commit();
  has_contents_ = static_cast<bool>(generation);
  if (!generation) return generation.error();
  published_at_ns_ = now.monotonic_ns;
  return ok();
}

bool Reconciler::waits_to_publish(std::uint64_t now_ns) const {
  return !publish_alarm_.empty() && now_ns < publish_failed_ns_ + kRetryNs;
}

bool Reconciler::waits_to_save(std::uint64_t now_ns) const {
  return !store_alarm_.empty() && now_ns < saved_at_ns_ + kRetryNs;
}

void Reconciler::note_published(const Status& published, const Moment& now) {
  if (!published) publish_failed_ns_ = now.monotonic_ns;
  note_alarm(publish_alarm_,
             published ? "" : "config is not published: " + published.error().message,
             "config is published again");
}

// Somebody removed or replaced the file. Engines that still read the old one join the new one.
void Reconciler::replace_lost_segment() {
  Result<std::unique_ptr<Publisher>> publisher =
      open_publisher(options_, std::max(generation_floor_, publisher_->generation()));
  if (!publisher) {
    publish_failed_ns_ = hooks_.now().monotonic_ns;
    note_alarm(publish_alarm_, "config segment is lost: " + publisher.error().message, "");
    return;
  }
  hooks_.log(LogLevel::warning, "the config segment was removed or replaced; made a new one");
  publisher_ = std::move(*publisher);
  has_contents_ = false;
  is_dirty_ = true;
}

Snapshot Reconciler::snapshot() const {
  const std::uint64_t now_ns = hooks_.now().monotonic_ns;
  const SnapshotSources sources{.state = state_,
                                .listener_sums = listener_sums_,
                                .target_sums = target_sums_,
                                .find_next_hop = hooks_.find_next_hop,
                                .is_engine_unseen = engine_.is_unseen(),
                                .now_ns = now_ns};
  Snapshot out;
  out.node = state_.node.name;
  out.zone = state_.node.zone;
  out.version = options_.version;
  out.start_ns = options_.start_ns;
  out.generation = publisher_->generation();
  out.config_applied_ns = state_.config.applied_ns;
  out.config_source = state_.config.source;
  out.config_file = options_.config_file;
  out.is_config_file_in_force = hooks_.is_said_by_config_file(state_.config.text);
  out.config_error = config_error_;
  out.arena_bytes = publisher_->arena_bytes();
  out.arena_used_bytes = publisher_->arena_used_bytes();
  out.engine = engine_.snapshot(publisher_->generation(), published_at_ns_, now_ns);
  out.engine.wanted_kind = to_string(state_.node.engine);
  out.alarms = alarms(out.engine);
  out.probe_lateness_ns = static_cast<std::uint64_t>(hooks_.probe_lateness_ns());
  out.listeners = snapshot_listeners(sources);
  out.target_groups = snapshot_groups(sources);
  return out;
}

}  // namespace millrace::control
