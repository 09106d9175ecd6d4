// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/apply.h"

#include <algorithm>
#include <set>
#include <utility>

namespace millrace::control {

namespace {

struct WantedListener {
  const LoadBalancer* load_balancer;
  const Listener* listener;
};
using WantedListeners = std::map<ListenerKey, WantedListener>;

WantedListeners wanted_listeners(const Config& config) {
  WantedListeners wanted;
  for (const LoadBalancer& balancer : config.load_balancers) {
    for (const IpAddress& vip : balancer.addresses) {
      for (const Listener& listener : balancer.listeners) {
        for (const Protocol protocol : protocols_of(listener.protocol)) {
          wanted.emplace(ListenerKey{vip, protocol, listener.ports.first},
                         WantedListener{&balancer, &listener});
        }
      }
    }
  }
  return wanted;
}

TargetKey key_of(const TargetGroup& group, const Target& target) {
  return {.group = group.name, .address = target.address, .port = target.port};
}

std::uint64_t new_targets(const ControlState& state, const TargetGroup& wanted) {
  const auto group = state.groups.find(wanted.name);
  if (group == state.groups.end()) return wanted.targets.size();
  return static_cast<std::uint64_t>(
      std::ranges::count_if(wanted.targets, [&](const Target& target) {
        return !group->second.targets.contains(key_of(wanted, target));
      }));
}

// All targets are new when the group starts over. A group that gets a second protocol, or loses
// one of two, goes on: flows of the protocol that it keeps must not notice.
bool starts_over(const ControlState& state, const TargetGroup& wanted) {
  const auto known = state.groups.find(wanted.name);
  return known != state.groups.end() &&
         !have_common_protocol(known->second.settings.protocol, wanted.protocol);
}

bool has_same_settings(const TargetGroup& before, const TargetGroup& wanted) {
  TargetGroup settings = before;
  settings.targets = wanted.targets;  // counted one by one
  return settings == wanted;
}

// UDP has no such attribute. So what the TCP half of a listener has changes nothing of the other.
std::uint32_t idle_timeout_of(const Listener& listener, Protocol protocol) {
  return protocol == Protocol::tcp ? listener.tcp_idle_timeout_seconds
                                   : Listener{}.tcp_idle_timeout_seconds;
}

Error too_many(const char* what, std::uint64_t count, std::uint64_t max) {
  return Error{std::to_string(count) + " " + what + " are more than the " + std::to_string(max) +
               " that fit"};
}

// Checks everything that could fail, before anything is changed.
Status check_capacity(const ControlState& state, const Config& config,
                      const WantedListeners& listeners) {
  std::uint64_t vip_count = 0;
  for (const LoadBalancer& balancer : config.load_balancers) vip_count += balancer.addresses.size();
  if (vip_count > MR_LISTENER_SLOTS_MAX) {
    return too_many("VIPs", vip_count, MR_LISTENER_SLOTS_MAX);
  }
  if (listeners.size() > MR_LISTENER_SLOTS_MAX) {
    return too_many("listeners", listeners.size(), MR_LISTENER_SLOTS_MAX);
  }
  std::uint64_t group_count = state.groups.size();
  std::uint64_t target_count = 0;
  for (const auto& [name, group] : state.groups) target_count += group.targets.size();
  for (const TargetGroup& wanted : config.target_groups) {
    const std::uint64_t added = new_targets(state, wanted);
    const auto known = state.groups.find(wanted.name);
    const std::uint64_t members =
        added + (known == state.groups.end() ? 0 : known->second.targets.size());
    if (members > MR_GROUP_MEMBERS_MAX) {
      return too_many(("targets in group " + wanted.name + " (draining ones included)").c_str(),
                      members, MR_GROUP_MEMBERS_MAX);
    }
    target_count += added;
    group_count += known == state.groups.end() ? 1 : 0;
  }
  if (group_count > MR_GROUP_SLOTS_MAX) {
    return too_many("target groups (draining ones included)", group_count, MR_GROUP_SLOTS_MAX);
  }
  if (target_count > MR_TARGET_SLOTS_MAX) {
    return too_many("targets (draining ones included)", target_count, MR_TARGET_SLOTS_MAX);
  }
  if (ids_needed(state, config) > state.ids.room()) {
    return too_many("new ids", ids_needed(state, config), state.ids.room());
  }
  return ok();
}

// One application of a config; capacity has been checked.
class Application {
 public:
  Application(ControlState& state, std::uint64_t now_ns) : state_(state), now_ns_(now_ns) {}

  void apply_vips(const std::vector<LoadBalancer>& wanted);
  void apply_listeners(const WantedListeners& wanted);
  void apply_group(const TargetGroup& wanted);
  void remove_groups_except(const std::set<std::string>& names);
  void apply_node(const Node& wanted);
  [[nodiscard]] const ApplyOutcome& outcome() const { return outcome_; }

 private:
  void start_over(GroupState& group);
  void apply_target(GroupState& group, const Target& wanted);
  void remove_target(const GroupState& group, TargetRecord& target);

  ControlState& state_;
  std::uint64_t now_ns_;
  ApplyOutcome outcome_;
};

void Application::apply_vips(const std::vector<LoadBalancer>& wanted) {
  const std::map<IpAddress, VipRecord> before = std::exchange(state_.vips, {});
  for (const LoadBalancer& balancer : wanted) {
    for (const IpAddress& vip : balancer.addresses) {
      VipRecord& record = state_.vips[vip];
      record.load_balancer = balancer.name;
      record.echo = balancer.echo;
      record.no_listener = balancer.no_listener;
      for (const Listener& listener : balancer.listeners) {
        record.groups.insert(listener.target_group_for(vip));
      }
      const auto known = before.find(vip);
      if (known == before.end()) {
        ++outcome_.vips_added;
      } else if (known->second.echo != record.echo ||
                 known->second.no_listener != record.no_listener) {
        ++outcome_.vips_changed;
      }
    }
  }
  for (const auto& [vip, record] : before) outcome_.vips_removed += !state_.vips.contains(vip);
}

void Application::apply_listeners(const WantedListeners& wanted) {
  // Removed ones come first, so that their slots are free for new ones.
  for (auto at = state_.listeners.begin(); at != state_.listeners.end();) {
    if (wanted.contains(at->first)) {
      ++at;
      continue;
    }
    state_.listener_slots.release(at->second.slot);
    at = state_.listeners.erase(at);
    ++outcome_.listeners_removed;
  }
  for (const auto& [key, want] : wanted) {
    const auto [at, is_new] = state_.listeners.try_emplace(key);
    ListenerRecord& record = at->second;
    const std::string& group = want.listener->target_group_for(key.vip);
    const std::uint32_t idle_timeout_seconds = idle_timeout_of(*want.listener, key.protocol);
    if (is_new) {
      record.slot = state_.listener_slots.take().value_or(0);
      record.id = state_.ids.take();
      ++outcome_.listeners_added;
    } else if (record.target_group != group || record.ports != want.listener->ports ||
               record.tcp_idle_timeout_seconds != idle_timeout_seconds ||
               record.load_balancer != want.load_balancer->name) {
      ++outcome_.listeners_changed;
    }
    record.load_balancer = want.load_balancer->name;
    record.target_group = group;
    record.ports = want.listener->ports;
    record.tcp_idle_timeout_seconds = idle_timeout_seconds;
  }
}

void Application::apply_group(const TargetGroup& wanted) {
  const auto [at, is_new] = state_.groups.try_emplace(wanted.name);
  GroupState& group = at->second;
  if (is_new) {
    group.slot = state_.group_slots.take().value_or(0);
    group.id = state_.ids.take();
  } else if (starts_over(state_, wanted)) {
    start_over(group);
  }
  if (is_new || !group.is_configured) {
    ++outcome_.target_groups_added;
  } else if (!has_same_settings(group.settings, wanted)) {
    ++outcome_.target_groups_changed;
  }
  const bool is_protocol_changed = group.settings.protocol != wanted.protocol;
  group.settings = wanted;
  group.is_configured = true;
  for (auto& [key, target] : group.targets) {
    if (is_protocol_changed) target.identity = target_identity(key, wanted.protocol);
  }

  std::set<TargetKey> keys;
  for (const Target& target : wanted.targets) {
    keys.insert(key_of(wanted, target));
    apply_target(group, target);
  }
  for (auto& [key, target] : group.targets) {
    if (!keys.contains(key)) remove_target(group, target);
    shorten_drain(target, wanted, now_ns_);
  }
}

// The same name for another protocol is another group: no flow of the old one can go on.
void Application::start_over(GroupState& group) {
  for (const auto& [key, target] : group.targets) state_.target_slots.release(target.slot);
  group.targets.clear();
  group.epochs = Epochs();
  group.id = state_.ids.take();
}

void Application::apply_target(GroupState& group, const Target& wanted) {
  const TargetKey key = key_of(group.settings, wanted);
  const auto [at, is_new] = group.targets.try_emplace(key);
  TargetRecord& target = at->second;
  if (is_new) {
    target.key = key;
    target.slot = state_.target_slots.take().value_or(0);
    target.id = state_.ids.take();
    target.identity = target_identity(key, group.settings.protocol);
    target.health.reason = HealthReason::registration_in_progress;
    target.health.description = "Target registration is in progress";
  }
  if (is_new || !target.is_configured) {
    ++outcome_.targets_added;
  } else if (target.weight != wanted.weight || target.zone != wanted.zone) {
    ++outcome_.targets_changed;
  }
  target.weight = wanted.weight;
  target.zone = wanted.zone;
  target.is_configured = true;
  end_drain(target);
}

void Application::remove_target(const GroupState& group, TargetRecord& target) {
  if (!target.is_configured) return;
  target.is_configured = false;
  begin_drain(target, group.settings, now_ns_);
  ++outcome_.targets_removed;
}

void Application::remove_groups_except(const std::set<std::string>& names) {
  for (auto& [name, group] : state_.groups) {
    if (names.contains(name)) continue;
    if (group.is_configured) ++outcome_.target_groups_removed;
    group.is_configured = false;
    for (auto& [key, target] : group.targets) remove_target(group, target);
  }
}

void Application::apply_node(const Node& wanted) {
  outcome_.is_node_changed = !(state_.node == wanted);
  state_.node = wanted;
}

// Health that was known of a target that nobody probes is out of date when the target is used
// again.
void forget_health_of_unprobed(ControlState& state) {
  for (auto& [name, group] : state.groups) {
    for (auto& [key, target] : group.targets) {
      if (!is_probed(target, group)) target.health = TargetHealth{};
    }
  }
}

}  // namespace

std::uint32_t ids_needed(const ControlState& state, const Config& config) {
  std::uint64_t count = 0;
  for (const auto& [key, listener] : wanted_listeners(config)) {
    count += state.listeners.contains(key) ? 0 : 1;
  }
  for (const TargetGroup& wanted : config.target_groups) {
    const bool is_new = !state.groups.contains(wanted.name) || starts_over(state, wanted);
    count += is_new ? 1 + wanted.targets.size() : new_targets(state, wanted);
  }
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(count, UINT32_MAX));
}

Result<ApplyOutcome> apply_config(ControlState& state, const Config& config, std::uint64_t now_ns) {
  const WantedListeners listeners = wanted_listeners(config);
  if (Status s = check_capacity(state, config, listeners); !s) return s.error();

  forget_health_of_unprobed(state);
  Application application(state, now_ns);
  std::set<std::string> names;
  application.apply_vips(config.load_balancers);
  application.apply_listeners(listeners);
  for (const TargetGroup& group : config.target_groups) {
    names.insert(group.name);
    application.apply_group(group);
  }
  application.remove_groups_except(names);
  application.apply_node(config.node);

  for (auto& [name, group] : state.groups) group.vips.clear();
  for (const auto& [vip, record] : state.vips) {
    for (const std::string& name : record.groups) state.groups.at(name).vips.push_back(vip);
  }
  for (auto& [name, group] : state.groups) group.is_in_use = !group.vips.empty();
  return application.outcome();
}

bool retire_targets(ControlState& state, const ActiveFlows& active_flows, std::uint64_t now_ns) {
  bool is_changed = false;
  for (auto group = state.groups.begin(); group != state.groups.end();) {
    auto& targets = group->second.targets;
    for (auto target = targets.begin(); target != targets.end();) {
      // Asking for flows is the expensive part, and nearly all targets are configured.
      if (target->second.is_configured ||
          !may_retire(target->second, active_flows(target->second.slot), now_ns)) {
        ++target;
        continue;
      }
      state.target_slots.release(target->second.slot);
      target = targets.erase(target);
      is_changed = true;
    }
    if (group->second.is_configured || !targets.empty()) {
      ++group;
      continue;
    }
    state.group_slots.release(group->second.slot);
    group = state.groups.erase(group);
    is_changed = true;
  }
  return is_changed;
}

}  // namespace millrace::control
