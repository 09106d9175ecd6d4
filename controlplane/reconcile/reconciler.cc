// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/reconciler.h"

#include <algorithm>
#include <set>
#include <utility>

#include "controlplane/reconcile/alarms.h"
#include "controlplane/reconcile/apply.h"
#include "controlplane/reconcile/image_plan.h"
#include "controlplane/reconcile/restore.h"
#include "controlplane/reconcile/snapshot_builder.h"
#include "controlplane/reconcile/target_ways.h"
#include "dataplane/core/nanoseconds.h"

namespace millrace::control {

namespace {

// How often to ask whether targets that get no flows any more still have some. A counter is read
// per worker and target, which is too much for every tick. The time is still far less than a health
// check takes.
constexpr std::uint64_t kFlowsCheckNs = kSecondNs;

}  // namespace

Reconciler::Reconciler(Options options, const Parts& parts, ControlState state, StateKeeper keeper,
                       std::unique_ptr<Publication> publication)
    : options_(std::move(options)),
      parts_(parts),
      state_(std::move(state)),
      keeper_(std::move(keeper)),
      publication_(std::move(publication)),
      engine_(options_.runtime_dir),
      news_(parts.host),
      holder_(parts.host, parts.health),
      surroundings_(parts.routes, path_mtus_, engine_, now_ns()) {}

Result<std::unique_ptr<Reconciler>> Reconciler::open(Options options, std::unique_ptr<Store> store,
                                                     const Parts& parts) {
  Result<ControlState> state = from_store(store->state(), parts.clock.now());
  if (!state) return state.error();
  auto publication = Publication::open(
      {.runtime_dir = options.runtime_dir, .segment_bytes = options.segment_bytes},
      store->state().generation_floor, parts.host);
  if (!publication) return publication.error();

  std::unique_ptr<Reconciler> reconciler(
      new Reconciler(std::move(options), parts, std::move(*state),
                     StateKeeper(std::move(store), parts.host), std::move(*publication)));
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
    parts_.host.log(is_bad ? LogLevel::warning : LogLevel::info,
                    key.to_string() + " is " + to_string(health.state) +
                        (health.description.empty() ? "" : ": " + health.description));
  }
  target->health = health;
  stale_groups_.add(key.group);
  wake(Haste::at_once);
}

void Reconciler::on_outer_error(const OuterError& error) {
  const bool is_first = !path_mtus_.knows(error.destination);
  const auto hop = parts_.routes.find(error.destination);
  const PathMtus::Sources sources{.state = state_,
                                  .in_force = publication_->in_force(),
                                  .route_mtu = hop ? hop->mtu : std::uint16_t{0}};
  const std::set<std::string> groups = path_mtus_.learn(error, sources, now_ns());
  for (const std::string& name : groups) stale_groups_.add(name);
  if (groups.empty()) return;
  wake(Haste::at_once);
  if (!is_first) return;  // `millrace targets` shows it
  parts_.host.log(LogLevel::info, "a router on the way to target " + error.destination.to_string() +
                                      " takes no more than " + std::to_string(error.mtu) +
                                      " bytes; clients are told to send smaller packets");
}

void Reconciler::note_change() {
  is_dirty_ = true;
  wake(Haste::gather);
}

void Reconciler::wake(Haste haste) {
  if (is_woken_) return;
  is_woken_ = true;
  parts_.host.wake(haste);
}

void Reconciler::tick() {
  const std::uint64_t now = now_ns();
  if (publication_->renew_if_lost(keeper_.generation_floor(), now)) is_dirty_ = true;
  publication_->beat(now);
  poll_engine();
  publication_->reclaim(engine_);
  note_due(now);
  if (publication_->is_known()) {
    note_ways(state_, publication_->contents(), news_.is_running(), now, stale_groups_);
  }
  if (is_file_wrong_ && parts_.source.says(state_.config.text)) report_config_error("");
  for (const std::string& name : path_mtus_.forget_old(state_, now)) stale_groups_.add(name);
  for (const auto& [name, group] : state_.groups) {
    if (now >= group.epochs.next_expiry_ns()) stale_groups_.add(name);
  }
  settle();
}

// What has come with time alone, and is worked out as a whole.
void Reconciler::note_due(std::uint64_t now_ns) {
  const bool is_retired = retire_targets(
      state_, [this](std::uint32_t slot) { return active_flows(slot); }, now_ns);
  const bool is_grace_over = surroundings_.is_grace_over(now_ns);
  const bool is_grace_ending = is_grace_over && !std::exchange(is_grace_over_, is_grace_over);
  const bool is_probing_stale =
      now_ns >= flows_checked_ns_ + kFlowsCheckNs && note_all_flows(now_ns);
  if (is_retired || is_grace_ending || keeper_.is_retry_due(now_ns) || is_probing_stale ||
      now_ns >= drain_due_ns_) {
    is_dirty_ = true;
  }
}

void Reconciler::settle() {
  is_woken_ = false;
  if (!is_applied_) return;
  const Moment now = parts_.clock.now();
  if (publication_->waits(now.monotonic_ns)) return;  // what changed meanwhile stays noted
  if (is_dirty_ || !publication_->is_known()) {
    (void)settle_all(now, OnFailure::retry);  // it has its alarms
  } else if (!stale_groups_.is_empty()) {
    settle_groups(stale_groups_.take(kGroupsPerImage), now);
  }
  if (!stale_groups_.is_empty()) wake(Haste::at_once);
}

Status Reconciler::settle_all(const Moment& now, OnFailure on_failure) {
  is_dirty_ = false;
  stale_groups_.clear();
  advance_drains(now.monotonic_ns);
  (void)note_all_flows(now.monotonic_ns);
  update_epochs(state_, now.monotonic_ns);
  parts_.host.note_progress();
  choose_listener_ports();
  watch_ways();
  return put_in_force(plan_image(state_, surroundings(now.monotonic_ns)), now, on_failure);
}

void Reconciler::advance_drains(std::uint64_t now_ns) {
  drain_due_ns_ = kNever;
  for (auto& [name, group] : state_.groups) {
    for (auto& [key, target] : group.targets) {
      if (!advance_drain(target, now_ns)) continue;
      parts_.host.log(LogLevel::info, key.to_string() + " is drained");
    }
    drain_due_ns_ = std::min(drain_due_ns_, next_drain_end_ns(group));
  }
}

// All that can fail comes first, then the store, and only then does anything show: ids and slots
// must not be forgotten once an engine has seen them.
Status Reconciler::put_in_force(ImageContents contents, const Moment& now, OnFailure on_failure) {
  const bool is_news = publication_->is_news(contents);
  publication_->reclaim(engine_);
  Status prepared = is_news ? publication_->prepare(contents) : ok();
  if (!prepared && on_failure == OnFailure::refuse) return prepared;
  parts_.host.note_progress();
  Status saved = keeper_.save(state_, publication_->generation(), now);
  parts_.host.note_progress();
  if (!saved && on_failure == OnFailure::refuse) {
    publication_->abandon();
    return saved;
  }
  begin_counters();
  tell_health();
  if (!prepared) publication_->forget();  // groups may have slots that the last ones lack
  if (prepared && is_news) {
    holder_.set_target_nics(note_nics(state_, contents));
    prepared = publication_->commit(std::move(contents), now.monotonic_ns);
  }
  if (!prepared) is_dirty_ = true;  // one group's image would not bring it into force
  publication_->note(prepared, now.monotonic_ns);
  return prepared ? saved : prepared;
}

// For changes that leave every other group, the sets of targets and all settings as they were.
void Reconciler::settle_groups(const std::vector<std::string>& names, const Moment& now) {
  const FindWay way_to = surroundings_.way_to_targets(publication_->in_force(), now.monotonic_ns);
  std::vector<StoredTarget> rows;
  bool is_changed = false;
  for (const std::string& name : names) {
    const auto found = state_.groups.find(name);
    if (found == state_.groups.end()) continue;
    GroupState& group = found->second;
    update_epochs(group, state_.node, now.monotonic_ns);
    is_changed = replan_group(publication_->draft(), group, way_to) || is_changed;
    is_changed = replan_vips(publication_->draft(), group, state_) || is_changed;
    for (const auto& [key, target] : group.targets) rows.push_back(to_store(target, now));
  }
  keeper_.save_targets(rows, state_, publication_->generation(), now);
  if (!is_changed) return;
  publication_->reclaim(engine_);
  publication_->publish_draft(now.monotonic_ns);
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
  parts_.routes.watch({addresses.begin(), addresses.end()});
}

void Reconciler::tell_health() {
  std::vector<HealthTarget> probed;
  std::uint32_t timeout_min_ms = UINT32_MAX;
  for (const auto& [name, group] : state_.groups) {
    for (const auto& [key, target] : group.targets) {
      const std::optional<HealthCheck> check = check_of(target, group);
      if (!is_probed(target, group) || !check) continue;
      HealthTarget health{.key = key,
                          .id = target.id,
                          .check = *check,
                          .listener_port = group.listener_port,
                          .restored = std::nullopt};
      if (target.health.state != TargetState::initial) health.restored = target.health;
      timeout_min_ms = std::min(timeout_min_ms, health.check.timeout_ms);
      probed.push_back(std::move(health));
    }
  }
  holder_.set_probe_timeout_min_ns(timeout_min_ms * kMillisecondNs);
  parts_.health.set_targets(std::move(probed));
}

void Reconciler::poll_engine() {
  look_at_engine();
  if (const shm::StatsReader* stats = engine_.stats()) counters_.observe(state_, *stats);
  const std::uint64_t now = now_ns();
  const EngineSnapshot engine = engine_snapshot(now);
  if (news_.note_state(engine)) note_change();
  holder_.hold(engine, engine_.silence_ns(now), state_, now);
  news_.note_nics(engine);
}

void Reconciler::look_at_engine() {
  const EngineWatch::Poll poll = engine_.poll(
      now_ns(), [this](std::uint32_t index) { return parts_.routes.link_state(index); });
  if (poll.is_new_engine) {
    counters_.restart(poll.has_started);
    const std::string process = "process " + std::to_string(engine_.info().engine_pid);
    parts_.host.log(LogLevel::info, engine_.is_alive() ? "the engine is " + process
                                                       : "the engine that ran last was " + process);
    holder_.restart();
  }
  if (poll.twins_changed) {
    std::set<std::uint32_t> twins;
    for (const mr_nic& nic : engine_.info().nics) {
      if (nic.twin_index != 0) twins.insert(nic.twin_index);
    }
    parts_.routes.set_twins(std::move(twins));
    note_change();
  }
}

// Whoever got a slot just now starts from where the slot's counters stand: in the engine that runs
// now, not in the one of the last look.
void Reconciler::begin_counters() {
  look_at_engine();
  counters_.begin(state_, {.stats = engine_.stats(),
                           .is_engine_alive = engine_.is_alive(),
                           .in_force = publication_->in_force(),
                           .generation = publication_->generation()});
}

EngineSnapshot Reconciler::engine_snapshot(std::uint64_t now_ns) const {
  return engine_.snapshot(publication_->generation(), publication_->published_at_ns(), now_ns);
}

Surroundings Reconciler::surroundings(std::uint64_t now_ns) const {
  return surroundings_.read(state_, publication_->in_force(), now_ns);
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

std::vector<Alarm> Reconciler::alarms(const EngineSnapshot& engine) const {
  std::vector<Alarm> noted = parts_.host.alarms();
  if (!publication_->alarm().empty()) noted.push_back({AlarmKind::publish, publication_->alarm()});
  if (!keeper_.alarm().empty()) noted.push_back({AlarmKind::store, keeper_.alarm()});
  if (!holder_.alarm().text.empty()) noted.push_back(holder_.alarm());
  noted.insert(noted.end(), news_.nic_alarms().begin(), news_.nic_alarms().end());
  return all_alarms(std::move(noted), {.state = state_,
                                       .engine = engine,
                                       .given = publication_->contents(),
                                       .routes = parts_.routes,
                                       .path_mtus = path_mtus_});
}

Snapshot Reconciler::snapshot() const {
  const std::uint64_t now = now_ns();
  const SnapshotSources sources{.state = state_,
                                .counters = counters_,
                                .routes = parts_.routes,
                                .path_mtus = path_mtus_,
                                .is_engine_unseen = engine_.is_unseen(),
                                .now_ns = now};
  Snapshot out;
  out.node = state_.node.name;
  out.zone = state_.node.zone;
  out.version = options_.version;
  out.start_ns = options_.start_ns;
  out.generation = publication_->generation();
  out.config_applied_ns = state_.config.applied_ns;
  out.config_source = state_.config.source;
  out.config_file = parts_.source.name();
  out.is_config_file_in_force = parts_.source.says(state_.config.text);
  out.config_error = config_error_;
  out.arena_bytes = publication_->segment().arena_bytes();
  out.arena_used_bytes = publication_->segment().arena_used_bytes();
  out.engine = engine_snapshot(now);
  out.engine.wanted_kind = to_string(state_.node.engine);
  out.alarms = alarms(out.engine);
  out.probe_lateness_ns = static_cast<std::uint64_t>(parts_.health.lateness().count());
  out.vips = snapshot_vips(state_);
  out.listeners = snapshot_listeners(sources);
  out.target_groups = snapshot_groups(sources);
  return out;
}

}  // namespace millrace::control
