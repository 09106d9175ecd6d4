// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/recover.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "dataplane/core/counted.h"
#include "dataplane/core/wire.h"

namespace millrace::control {

namespace {

class Recovery {
 public:
  Recovery(ControlState& stored, const core::ConfigView& in_force, const Config& wanted)
      : stored_(stored), in_force_(in_force), wanted_(wanted) {}

  void take_image();
  void take_rest_of_store();
  // The state that follows; `stored` is used up.
  [[nodiscard]] ControlState finish();
  [[nodiscard]] const Recovered& recovered() const { return recovered_; }

 private:
  struct Named {
    std::string name;
    const GroupState* stored = nullptr;  // of the same identity
    const TargetGroup* wanted = nullptr;
  };
  struct Members {
    std::map<std::uint64_t, TargetKey> keys;  // by identity
    const GroupState* stored = nullptr;
  };
  [[nodiscard]] std::map<std::uint64_t, Named> named_groups() const;
  void take_group(std::uint32_t slot, const Named& named);
  [[nodiscard]] std::map<std::uint64_t, TargetKey> named_targets(const Named& named) const;
  void take_member(GroupState& group, const Members& members, std::uint32_t slot);
  void take_listener(std::uint32_t slot, const std::set<ListenerKey>& wanted);
  [[nodiscard]] std::set<ListenerKey> wanted_listeners() const;
  [[nodiscard]] bool is_free(std::uint32_t id) { return ids_.insert(id).second; }

  ControlState& stored_;
  const core::ConfigView& in_force_;
  const Config& wanted_;
  std::map<ListenerKey, ListenerRecord> listeners_;
  std::map<std::string, GroupState> groups_;
  SlotAllocator listener_slots_{MR_LISTENER_SLOTS_MAX};
  SlotAllocator group_slots_{MR_GROUP_SLOTS_MAX};
  SlotAllocator target_slots_{MR_TARGET_SLOTS_MAX};
  std::set<std::uint32_t> ids_;  // in use
  std::uint32_t id_floor_ = 1;   // by what the image names
  Recovered recovered_;
};

TargetHealth health_of(const mr_target& target) {
  if ((target.flags & MR_TARGET_HEALTHY) != 0) {
    return {.state = TargetState::healthy, .reason = HealthReason::none, .description = ""};
  }
  if ((target.flags & MR_TARGET_KEEPS_FLOWS) != 0) return {};
  return {.state = TargetState::unhealthy,
          .reason = HealthReason::failed_health_checks,
          .description = "Health checks failed before the state was lost"};
}

std::map<std::uint64_t, Recovery::Named> Recovery::named_groups() const {
  std::map<std::uint64_t, Named> named;
  for (const auto& [name, group] : stored_.groups) {
    named[group_identity(name, group.settings.protocol)] = {.name = name, .stored = &group};
  }
  for (const TargetGroup& group : wanted_.target_groups) {
    Named& entry = named[group_identity(group.name, group.protocol)];
    entry.name = group.name;
    entry.wanted = &group;
  }
  return named;
}

void Recovery::take_image() {
  const std::map<std::uint64_t, Named> named = named_groups();
  for (std::uint32_t slot = 0; slot < in_force_.groups.size(); ++slot) {
    const mr_target_group& group = in_force_.groups[slot];
    id_floor_ = std::max(id_floor_, group.id + 1);
    const auto found = named.find(group.identity);
    if (group.id != 0 && found != named.end()) take_group(slot, found->second);
  }
  for (const mr_target& target : in_force_.targets) {
    id_floor_ = std::max(id_floor_, target.id + 1);
  }
  const std::set<ListenerKey> wanted = wanted_listeners();
  for (std::uint32_t slot = 0; slot < in_force_.listeners.size(); ++slot) {
    id_floor_ = std::max(id_floor_, in_force_.listeners[slot].id + 1);
    if (in_force_.listeners[slot].id != 0) take_listener(slot, wanted);
  }
}

void Recovery::take_group(std::uint32_t slot, const Named& named) {
  const mr_target_group& image = in_force_.groups[slot];
  if (groups_.contains(named.name) || !is_free(image.id) || !group_slots_.take(slot)) return;
  GroupState& group = groups_[named.name];
  if (named.stored != nullptr) {
    group.settings = named.stored->settings;
    group.is_configured = named.stored->is_configured;
    group.listener_port = named.stored->listener_port;
  } else {
    group.settings = *named.wanted;
  }
  const bool is_known =
      named.stored != nullptr && named.stored->slot == slot && named.stored->id == image.id;
  recovered_.groups += is_known ? 0 : 1;
  group.slot = slot;
  group.id = image.id;
  const Members members{.keys = named_targets(named), .stored = named.stored};
  for (const std::uint32_t target : in_force_.members(image)) take_member(group, members, target);
}

// Finds the members of the group by their identity. The identity holds the port even if the image
// has none (all forwardings but nat keep the listener's).
std::map<std::uint64_t, TargetKey> Recovery::named_targets(const Named& named) const {
  std::map<std::uint64_t, TargetKey> keys;
  if (named.stored != nullptr) {
    for (const auto& [key, target] : named.stored->targets) keys.emplace(target.identity, key);
  }
  if (named.wanted != nullptr) {
    for (const Target& target : named.wanted->targets) {
      const TargetKey key{.group = named.name, .address = target.address, .port = target.port};
      keys.emplace(target_identity(key, named.wanted->protocol), key);
    }
  }
  return keys;
}

void Recovery::take_member(GroupState& group, const Members& members, std::uint32_t slot) {
  const mr_target& image = in_force_.targets[slot];
  const auto named = members.keys.find(image.identity);
  TargetKey key{.group = group.settings.name,
                .address = IpAddress{image.addr},
                .port = core::from_be16(image.port_be)};
  if (image.port_be == 0) key.port = group.settings.port;
  if (named != members.keys.end()) key = named->second;
  const bool is_sure = target_identity(key, group.settings.protocol) == image.identity;
  if (!is_sure || !is_free(image.id) || !target_slots_.take(slot)) return;
  TargetRecord& target = group.targets[key];
  const auto* stored = members.stored == nullptr ? nullptr : &members.stored->targets;
  if (stored != nullptr && stored->contains(key)) {
    target = stored->at(key);
    // An older copy of the store must not end flows of a target that is well. If the target is
    // unhealthy, a few probes show it.
    if (health_of(image).state == TargetState::healthy) target.health = health_of(image);
  } else {
    target.key = key;
    target.identity = image.identity;
    target.health = health_of(image);
    target.may_have_flows = true;
  }
  recovered_.targets += target.slot == slot && target.id == image.id ? 0 : 1;
  target.slot = slot;
  target.id = image.id;
}

std::set<ListenerKey> Recovery::wanted_listeners() const {
  std::set<ListenerKey> keys;
  for (const LoadBalancer& balancer : wanted_.load_balancers) {
    for (const IpAddress& vip : balancer.addresses) {
      for (const Listener& listener : balancer.listeners) {
        for (const Protocol protocol : protocols_of(listener.protocol)) {
          keys.insert({vip, protocol, listener.ports.first});
        }
      }
    }
  }
  return keys;
}

void Recovery::take_listener(std::uint32_t slot, const std::set<ListenerKey>& wanted) {
  const mr_listener& image = in_force_.listeners[slot];
  const ListenerKey key{IpAddress{image.vip_addr}, static_cast<Protocol>(image.protocol),
                        core::from_be16(image.port_be)};
  const auto stored = stored_.listeners.find(key);
  const bool is_stored = stored != stored_.listeners.end();
  if ((!is_stored && !wanted.contains(key)) || listeners_.contains(key)) return;
  if (!is_free(image.id) || !listener_slots_.take(slot)) return;
  ListenerRecord& listener = listeners_[key];
  if (is_stored) listener = stored->second;
  recovered_.listeners += listener.slot == slot && listener.id == image.id ? 0 : 1;
  listener.slot = slot;
  listener.id = image.id;
}

// Whatever the image does not have keeps its place if that is free. Otherwise it counts as new.
void Recovery::take_rest_of_store() {
  for (const auto& [key, listener] : stored_.listeners) {
    if (listeners_.contains(key) || ids_.contains(listener.id)) continue;
    if (!listener_slots_.take(listener.slot)) continue;
    ids_.insert(listener.id);
    listeners_[key] = listener;
  }
  for (const auto& [name, stored] : stored_.groups) {
    auto known = groups_.find(name);
    if (known == groups_.end()) {
      if (ids_.contains(stored.id) || !group_slots_.take(stored.slot)) continue;
      ids_.insert(stored.id);
      known = groups_.emplace(name, stored).first;
      known->second.targets.clear();
    } else if (!have_common_protocol(known->second.settings.protocol, stored.settings.protocol)) {
      continue;  // another group, which is no more
    }
    for (const auto& [key, target] : stored.targets) {
      if (known->second.targets.contains(key) || ids_.contains(target.id)) continue;
      if (!target_slots_.take(target.slot)) continue;
      ids_.insert(target.id);
      known->second.targets[key] = target;
    }
  }
}

ControlState Recovery::finish() {
  ControlState state = std::move(stored_);
  state.listeners = std::move(listeners_);
  state.groups = std::move(groups_);
  state.listener_slots = std::move(listener_slots_);
  state.group_slots = std::move(group_slots_);
  state.target_slots = std::move(target_slots_);
  state.ids.skip_to(id_floor_);
  return state;
}

}  // namespace

Recovered recover_in_force(ControlState& state, const core::ConfigView& in_force,
                           const Config& wanted) {
  if (in_force.image == nullptr) return {};
  Recovery recovery(state, in_force, wanted);
  recovery.take_image();
  recovery.take_rest_of_store();
  state = recovery.finish();
  return recovery.recovered();
}

std::string to_string(const Recovered& recovered) {
  return "the stored state is lost or older than the config in force: took slots and ids of " +
         core::counted(recovered.listeners, "listener") + ", " +
         core::counted(recovered.groups, "target group") + " and " +
         core::counted(recovered.targets, "target") +
         " over from that; drains by the operator that were begun since are forgotten";
}

}  // namespace millrace::control
