// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/reconciler.h"

#include <algorithm>
#include <set>
#include <unordered_set>
#include <utility>

#include "controlplane/reconcile/apply.h"
#include "controlplane/reconcile/snapshot_builder.h"

namespace millrace::control {

namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;

// Probes travel through the engine: it must have run for so long before a failed one says anything.
constexpr std::uint64_t kEngineWarmUpNs = 2 * kSecondNs;
// Far below the shortest time in which two probes can fail (interval 100 ms), far above the
// millisecond at which the engine's main thread beats.
constexpr std::uint64_t kProbeSilenceNs = kSecondNs / 20;

// How long to wait before trying a failed save again. A failed publish is tried with every tick.
constexpr std::uint64_t kSaveRetryNs = kSecondNs;

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
  (void)engine.poll();
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
  restore_epochs(*state, (*publisher)->published(), now.monotonic_ns);

  std::unique_ptr<Reconciler> reconciler(new Reconciler(std::move(options), std::move(store),
                                                        std::move(hooks), std::move(*state),
                                                        std::move(*publisher)));
  if (const std::string& why = reconciler->publisher_->rejoin_error(); !why.empty()) {
    reconciler->hooks_.log("made a new config segment: " + why);
  }
  reconciler->poll_engine();
  return reconciler;
}

Result<ApplyOutcome> Reconciler::apply(Config config, std::string source) {
  const Moment now = hooks_.now();
  Result<ApplyOutcome> outcome =
      apply_config(state_, config, publisher_->arena_bytes(), now.monotonic_ns);
  if (!outcome) return outcome;
  state_.config_text = hooks_.config_text(config);
  state_.config_source = std::move(source);
  state_.config_applied_ns = now.realtime_ns;
  config_error_.clear();
  is_applied_ = true;
  is_dirty_ = true;
  settle();
  outcome->generation = publisher_->generation();
  return outcome;
}

Status Reconciler::drain(const TargetKey& key) {
  TargetRecord* target = find_target(key);
  if (target == nullptr) return Error{"no target " + key.to_string()};
  if (target->is_operator_drained) return ok();
  target->is_operator_drained = true;
  begin_drain(*target, state_.groups.at(key.group).settings, hooks_.now().monotonic_ns);
  is_dirty_ = true;
  settle();
  return ok();
}

Status Reconciler::undrain(const TargetKey& key) {
  TargetRecord* target = find_target(key);
  if (target == nullptr) return Error{"no target " + key.to_string()};
  if (!target->is_operator_drained) {
    return Error{key.to_string() + " is not drained by the operator" +
                 (target->is_configured ? "" : "; it left the config, which alone brings it back")};
  }
  target->is_operator_drained = false;
  end_drain(*target);
  is_dirty_ = true;
  settle();
  return ok();
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
    hooks_.log(key.to_string() + " is " + to_string(health.state) +
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
  if (publisher_->is_lost()) replace_lost_segment();
  publisher_->beat(now_ns);
  poll_engine();
  publisher_->reclaim(engine_.oldest_read(publisher_->generation()));
  const bool is_retired =
      retire_targets(state_, [this](std::uint32_t slot) { return active_flows(slot); });
  const bool is_grace_over = now_ns >= opened_at_ns_ + kGraceNs;
  const bool is_grace_ending = is_grace_over && !is_grace_over_;
  is_grace_over_ = is_grace_over;
  const bool is_retry_due =
      !publish_alarm_.empty() || (!store_alarm_.empty() && now_ns >= saved_at_ns_ + kSaveRetryNs);
  if (is_retired || is_grace_ending || is_retry_due || now_ns >= drain_due_ns_) is_dirty_ = true;
  for (const auto& [name, group] : state_.groups) {
    if (now_ns >= group.epochs.next_expiry_ns()) stale_groups_.add(name);
  }
  settle();
}

void Reconciler::settle() {
  is_woken_ = false;
  if (!is_applied_) return;
  const Moment now = hooks_.now();
  if (is_dirty_ || !has_contents_) {
    stale_groups_.clear();
    settle_all(now);
  } else if (!stale_groups_.is_empty()) {
    settle_groups(stale_groups_.take(kGroupsPerImage), now);
  }
  if (!stale_groups_.is_empty()) wake();
}

void Reconciler::settle_all(const Moment& now) {
  is_dirty_ = false;
  drain_due_ns_ = kNever;
  for (auto& [name, group] : state_.groups) {
    for (auto& [key, target] : group.targets) {
      if (advance_drain(target, now.monotonic_ns)) hooks_.log(key.to_string() + " is drained");
    }
    drain_due_ns_ = std::min(drain_due_ns_, next_drain_end_ns(group));
  }
  update_epochs(state_, now.monotonic_ns);
  begin_counters();
  tell_health_and_net();
  save();  // before anything shows: ids and slots must not be forgotten once an engine has seen
           // them
  ImageContents contents = plan_image(state_, surroundings(now.monotonic_ns));
  if (has_contents_ && are_equal(contents, contents_)) {
    publish_alarm_.clear();
    return;
  }
  contents_ = std::move(contents);
  publish(now);
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
  save_targets(rows);
  if (is_changed) publish(now);
}

void Reconciler::tell_health_and_net() {
  std::map<std::string, std::uint16_t> listener_ports;
  for (const auto& [key, listener] : state_.listeners) {
    listener_ports.emplace(listener.target_group, key.port);
  }
  std::vector<HealthTarget> probed;
  std::set<IpAddress> addresses;
  for (const auto& [name, group] : state_.groups) {
    for (const auto& [key, target] : group.targets) {
      addresses.insert(key.address);
      if (!is_probed(target, group)) continue;
      HealthTarget health{.key = key,
                          .check = group.settings.health_check,
                          .listener_port = listener_ports[name],
                          .restored = std::nullopt};
      if (target.health.state != TargetState::initial) health.restored = target.health;
      probed.push_back(std::move(health));
    }
  }
  hooks_.set_health_targets(std::move(probed));
  hooks_.watch_next_hops({addresses.begin(), addresses.end()});
}

void Reconciler::save() {
  const Moment now = hooks_.now();
  saved_at_ns_ = now.monotonic_ns;
  // One publish follows at most; the floor stays ahead of it.
  if (is_floor_reached()) generation_floor_ = publisher_->generation() + 1 + kNumberStep;
  note_saved(store_.save(to_store(state_, generation_floor_, now)));
}

void Reconciler::save_targets(const std::vector<StoredTarget>& rows) {
  if (is_floor_reached() || !store_alarm_.empty()) return save();
  note_saved(store_.save_targets(rows));
}

void Reconciler::note_saved(const Status& saved) {
  const std::string alarm = saved ? "" : "state is not saved: " + saved.error().message;
  if (alarm != store_alarm_) hooks_.log(alarm.empty() ? "state is saved again" : alarm);
  store_alarm_ = alarm;
}

void Reconciler::publish(const Moment& now) {
  publisher_->reclaim(engine_.oldest_read(publisher_->generation()));
  const Result<std::uint64_t> generation = publisher_->publish(contents_);
  const std::string alarm =
      generation ? "" : "config is not published: " + generation.error().message;
  if (alarm != publish_alarm_) hooks_.log(alarm.empty() ? "config is published again" : alarm);
  publish_alarm_ = alarm;
  has_contents_ = static_cast<bool>(generation);
  if (has_contents_) published_at_ns_ = now.monotonic_ns;
}

// Somebody removed or replaced the file. Engines that still read the old one join the new one.
void Reconciler::replace_lost_segment() {
  Result<std::unique_ptr<Publisher>> publisher =
      open_publisher(options_, std::max(generation_floor_, publisher_->generation()));
  if (!publisher) {
    publish_alarm_ = "config segment is lost: " + publisher.error().message;
    return;
  }
  hooks_.log("the config segment was removed or replaced; made a new one");
  publisher_ = std::move(*publisher);
  has_contents_ = false;
  is_dirty_ = true;
}

void Reconciler::poll_engine() {
  const EngineWatch::Poll poll = engine_.poll();
  if (poll.is_new_engine) {
    listener_sums_.restart();
    target_sums_.restart();
    hooks_.log("engine is process " + std::to_string(engine_.info().engine_pid));
    engine_since_ns_ = 0;
  }
  if (poll.nics_changed) {
    std::vector<std::string> twins;
    for (const mr_nic& nic : engine_.info().nics) twins.emplace_back(nic.twin);
    hooks_.set_twins(std::move(twins));
    note_change();
  }
  observe_counters();
  hold_health_without_engine(hooks_.now().monotonic_ns);
}

void Reconciler::observe_counters() {
  const shm::StatsReader* stats = engine_.stats();
  if (stats == nullptr) return;
  for (const auto& [key, listener] : state_.listeners) {
    if (const auto raw = stats->listener(listener.slot)) {
      listener_sums_.observe(listener.id, *raw);
    }
  }
  for (const auto& [name, group] : state_.groups) {
    for (const auto& [key, target] : group.targets) {
      if (const auto raw = stats->target(target.slot)) target_sums_.observe(target.id, *raw);
    }
  }
}

// Whoever got a slot just now starts from where the slot's counters stand.
void Reconciler::begin_counters() {
  const shm::StatsReader* stats = engine_.stats();
  std::unordered_set<std::uint32_t> listener_ids;
  std::unordered_set<std::uint32_t> target_ids;
  for (const auto& [key, listener] : state_.listeners) {
    listener_ids.insert(listener.id);
    const auto raw = stats == nullptr ? std::nullopt : stats->listener(listener.slot);
    if (raw) listener_sums_.begin(listener.id, *raw);
  }
  for (const auto& [name, group] : state_.groups) {
    for (const auto& [key, target] : group.targets) {
      target_ids.insert(target.id);
      const auto raw = stats == nullptr ? std::nullopt : stats->target(target.slot);
      if (raw) target_sums_.begin(target.id, *raw);
    }
  }
  listener_sums_.retain(listener_ids);
  target_sums_.retain(target_ids);
}

void Reconciler::hold_health_without_engine(std::uint64_t now_ns) {
  const EngineSnapshot engine =
      engine_.snapshot(publisher_->generation(), published_at_ns_, now_ns);
  if (!engine.running) {
    engine_since_ns_ = 0;
    hooks_.set_health_hold(engine.problem);
    return;
  }
  if (engine_since_ns_ == 0) engine_since_ns_ = now_ns;
  // An engine that was killed and started again at once holds its lock from its first moment, long
  // before it forwards probes: until it makes its own segment, the old one's silence tells.
  if (engine_.silence_ns(now_ns) > kProbeSilenceNs) {
    hooks_.set_health_hold("the engine gives no sign of life");
    return;
  }
  const bool is_warm = now_ns >= engine_since_ns_ + kEngineWarmUpNs;
  hooks_.set_health_hold(is_warm ? "" : "the engine has just started");
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

std::vector<std::string> Reconciler::alarms(const EngineSnapshot& engine) const {
  std::vector<std::string> alarms = hooks_.alarms();
  for (const std::string& alarm : {publish_alarm_, store_alarm_}) {
    if (!alarm.empty()) alarms.push_back(alarm);
  }
  if (engine.is_of_wrong_kind()) {
    alarms.push_back("the engine that runs is " + engine.kind + ", but node.engine is " +
                     engine.wanted_kind);
  }
  add_own_vip_alarms(alarms);
  for (const NicSnapshot& nic : engine.nics) {
    if (!engine.running || nic.unserved_queues == 0) continue;
    alarms.push_back("nic " + nic.name + ": frames on " + std::to_string(nic.unserved_queues) +
                     " of its rx queues reach no worker, so that a part of the clients gets no "
                     "service: restart the engine; its log says what happened");
  }
  for (const auto& [name, group] : state_.groups) {
    if (!encapsulates(group.settings.forwarding)) continue;
    for (const auto& [key, target] : group.targets) {
      const bool is_v4 = key.address.is_v4();
      const auto hop = hooks_.find_next_hop(key.address);
      const mr_addr& source = is_v4 ? contents_.encap_source_v4 : contents_.encap_source_v6;
      if (!hop || !hop->resolved || !(IpAddress{source} == IpAddress{})) continue;
      alarms.push_back("target group " + name + " is forwarded by " +
                       to_string(group.settings.forwarding) + ", but the node has no " +
                       (is_v4 ? "IPv4" : "IPv6") +
                       " address to send from: give it one, or name one under node.encap_source");
      break;
    }
  }
  return alarms;
}

// An address that came after the config: plan_image() leaves it to the kernel.
void Reconciler::add_own_vip_alarms(std::vector<std::string>& alarms) const {
  std::set<IpAddress> told;
  for (const auto& [key, listener] : state_.listeners) {
    if (!told.insert(key.vip).second) continue;
    const std::string interface = hooks_.own_interface(key.vip);
    if (interface.empty()) continue;
    alarms.push_back("the VIP " + key.vip.to_string() + " of load balancer " +
                     listener.load_balancer + " has become an address of this node itself, on " +
                     interface + ": its packets are left to the kernel until it is taken away");
  }
}

Snapshot Reconciler::snapshot() const {
  const std::uint64_t now_ns = hooks_.now().monotonic_ns;
  const SnapshotSources sources{.state = state_,
                                .listener_sums = listener_sums_,
                                .target_sums = target_sums_,
                                .find_next_hop = hooks_.find_next_hop,
                                .now_ns = now_ns};
  Snapshot out;
  out.node = state_.node.name;
  out.zone = state_.node.zone;
  out.version = options_.version;
  out.start_ns = options_.start_ns;
  out.generation = publisher_->generation();
  out.config_applied_ns = state_.config_applied_ns;
  out.config_source = state_.config_source;
  out.config_error = config_error_;
  out.arena_bytes = publisher_->arena_bytes();
  out.arena_used_bytes = publisher_->arena_used_bytes();
  out.engine = engine_.snapshot(publisher_->generation(), published_at_ns_, now_ns);
  out.engine.wanted_kind = to_string(state_.node.engine);
  out.alarms = alarms(out.engine);
  out.listeners = snapshot_listeners(sources);
  out.target_groups = snapshot_groups(sources);
  return out;
}

}  // namespace millrace::control
