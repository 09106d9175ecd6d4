// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/group_state.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

#include "controlplane/model/lookup_size.h"
#include "dataplane/core/checksum64.h"
#include "dataplane/core/nanoseconds.h"
#include "dataplane/core/wire.h"
#include "dataplane/rules/choice_rule.h"

namespace millrace::control {

namespace {

// The XDP engine counts flows once a second, and reports them when it has seen all.
constexpr std::uint64_t kCountedNs = 3 * kSecondNs;

bool is_healthy(const TargetRecord& target) { return target.health.state == TargetState::healthy; }

// What identities are made of. Targets of both protocols have those of TCP: so the lookup table
// stays as it is when a TCP group gets UDP, too, also on nodes where it is still a TCP group.
Protocol identifying(Protocol protocol) {
  return protocol == Protocol::udp ? Protocol::udp : Protocol::tcp;
}

}  // namespace

std::uint64_t target_identity(const TargetKey& key, Protocol protocol) {
  std::byte bytes[sizeof(mr_addr) + 3];
  const std::uint16_t port_be = core::to_be16(key.port);
  std::memcpy(bytes, &key.address.addr, sizeof(mr_addr));
  std::memcpy(bytes + sizeof(mr_addr), &port_be, sizeof(port_be));
  bytes[sizeof(bytes) - 1] = static_cast<std::byte>(identifying(protocol));
  return core::checksum64(bytes);
}

std::uint64_t group_identity(const std::string& name, Protocol protocol) {
  const std::string text = name + "/" + to_string(identifying(protocol));
  return core::checksum64(std::as_bytes(std::span(text)));
}

void begin_drain(TargetRecord& target, const TargetGroup& settings, std::uint64_t now_ns) {
  if (target.registration != Registration::registered) return;
  target.registration = Registration::draining;
  target.drain_deadline_ns = now_ns + settings.deregistration_delay_seconds * kSecondNs;
}

void shorten_drain(TargetRecord& target, const TargetGroup& settings, std::uint64_t now_ns) {
  if (target.registration != Registration::draining) return;
  const std::uint64_t end_ns = now_ns + settings.deregistration_delay_seconds * kSecondNs;
  target.drain_deadline_ns = std::min(target.drain_deadline_ns, end_ns);
}

void end_drain(TargetRecord& target) {
  if (!target.is_configured || target.is_operator_drained) return;
  const bool was_probed = target.registration != Registration::drained || target.may_have_flows;
  if (!was_probed) target.health = TargetHealth{};
  target.registration = Registration::registered;
  target.drain_deadline_ns = 0;
}

bool advance_drain(TargetRecord& target, std::uint64_t now_ns) {
  if (target.registration != Registration::draining) return false;
  if (now_ns < target.drain_deadline_ns) return false;
  target.registration = Registration::drained;
  target.drain_deadline_ns = now_ns;  // none begins any more from here on, if later than planned
  return true;
}

std::uint64_t next_drain_end_ns(const GroupState& group) {
  std::uint64_t next = kNever;
  for (const auto& [key, target] : group.targets) {
    if (target.registration == Registration::draining) {
      next = std::min(next, target.drain_deadline_ns);
    }
  }
  return next;
}

bool may_get_new_flows(const TargetRecord& target) {
  return target.registration == Registration::registered && target.weight > 0;
}

bool fails_open(const GroupState& group) {
  if (!group.is_in_use) return false;  // few of its targets are probed, and none gets a new flow
  bool has_registered = false;
  for (const auto& [key, target] : group.targets) {
    if (!may_get_new_flows(target)) continue;
    if (is_healthy(target)) return false;
    has_registered = true;
  }
  return has_registered;
}

bool has_healthy_target(const GroupState& group) {
  return group.is_in_use && std::ranges::any_of(group.targets, [](const auto& entry) {
           const TargetRecord& target = entry.second;
           return may_get_new_flows(target) && is_healthy(target) && !target.is_unreachable;
         });
}

bool note_way(TargetRecord& target, bool has_way, std::uint64_t now_ns) {
  if (has_way) {
    target.no_way_since_ns = 0;
  } else if (target.no_way_since_ns == 0) {
    target.no_way_since_ns = now_ns;
  }
  const bool is_unreachable =
      !has_way && (target.is_unreachable || now_ns >= target.no_way_since_ns + kNoWayNs);
  return std::exchange(target.is_unreachable, is_unreachable) != is_unreachable;
}

void pass_over_unreachable(GroupState& group) {
  const bool is_fail_open = fails_open(group);
  const bool has_reachable = std::ranges::any_of(group.targets, [&](const auto& entry) {
    const TargetRecord& target = entry.second;
    return may_get_new_flows(target) && (is_healthy(target) || is_fail_open) &&
           !target.is_unreachable;
  });
  for (auto& [key, target] : group.targets) {
    target.is_passed_over = target.is_unreachable && has_reachable;
  }
}

std::string lack_of_targets(const GroupState& group) {
  const bool has_some = std::ranges::any_of(
      group.targets, [](const auto& entry) { return may_get_new_flows(entry.second); });
  if (!group.is_in_use || has_some) return "";
  return "no target of group " + group.settings.name +
         " gets new flows: its listeners refuse new connections";
}

GroupRouting routing_of(const GroupState& group) {
  if (!lack_of_targets(group).empty()) return GroupRouting::nobody;
  if (!fails_open(group)) return GroupRouting::to_healthy;
  const bool is_checked = std::ranges::any_of(group.targets, [](const auto& entry) {
    const TargetRecord& target = entry.second;
    return may_get_new_flows(target) && target.health.state == TargetState::unhealthy;
  });
  return is_checked ? GroupRouting::fail_open : GroupRouting::unchecked;
}

bool gets_new_flows(const TargetRecord& target, bool is_fail_open) {
  return may_get_new_flows(target) && !target.is_passed_over &&
         (is_healthy(target) || is_fail_open);
}

std::uint32_t lookup_size(const GroupState& group) {
  Weights weights;
  for (const auto& [key, target] : group.targets) {
    if (target.is_configured) weights.add(target.weight);
  }
  return lookup_size(group.settings.lookup_slots, weights);
}

void choose_base(GroupState& group) {
  const bool is_fail_open = fails_open(group);
  for (auto& [key, target] : group.targets) {
    const bool has_result = target.health.state != TargetState::initial;
    const bool has_place = target.is_in_base || has_result || gets_new_flows(target, is_fail_open);
    target.is_in_base = target.is_configured && has_place;
  }
}

std::uint8_t target_flags(const TargetRecord& target, const TargetGroup& settings,
                          bool is_fail_open) {
  std::uint8_t marks = is_healthy(target) ? std::uint8_t{MR_TARGET_HEALTHY} : std::uint8_t{0};
  if (target.registration != Registration::registered) marks |= MR_TARGET_DRAINING;
  const bool is_unhealthy = target.health.state == TargetState::unhealthy && !is_fail_open;
  const bool is_terminated = target.registration == Registration::drained &&
                             settings.deregistration_connection_termination;
  // UDP has no connection that could be ended. Its flows simply choose another target.
  const bool ends_udp = has_protocol(settings.protocol, Protocol::udp) &&
                        (is_terminated || is_unhealthy || target.is_passed_over);
  // A connection may still be there when the way comes back.
  const bool has_tcp = has_protocol(settings.protocol, Protocol::tcp);
  const bool ends_tcp =
      has_tcp && (is_terminated || (is_unhealthy && settings.unhealthy_connection_termination));
  if (!ends_udp && !ends_tcp) return static_cast<std::uint8_t>(marks | MR_TARGET_KEEPS_FLOWS);
  const int of_tcp = ends_tcp ? MR_TARGET_RESETS_FLOWS : MR_TARGET_KEEPS_TCP;
  return static_cast<std::uint8_t>((marks & MR_TARGET_DRAINING) | (has_tcp ? of_tcp : 0));
}

bool gets_flows(const TargetRecord& target, const GroupState& group) {
  return group.is_in_use && target.registration != Registration::drained;
}

bool is_probed(const TargetRecord& target, const GroupState& group) {
  return gets_flows(target, group) || target.may_have_flows;
}

std::optional<HealthCheck> check_of(const TargetRecord& target, const GroupState& group) {
  HealthCheck check = group.settings.health_check;
  if (check.port || target.key.port != 0) return check;
  check.port = group.settings.port;
  for (const auto& [key, other] : group.targets) {
    if (*check.port == 0 && key.address == target.key.address) check.port = key.port;
  }
  if (*check.port == 0) return std::nullopt;
  return check;
}

bool note_flows(TargetRecord& target, const GroupState& group,
                std::optional<std::uint64_t> active_flows) {
  const bool before = is_probed(target, group);
  if (gets_flows(target, group)) {
    target.may_have_flows = true;  // until the engine says otherwise
  } else if (active_flows) {
    target.may_have_flows = *active_flows != 0;
  }
  return is_probed(target, group) != before;
}

ShownState shown_state(const TargetRecord& target, const GroupState& group) {
  const std::string but = target.health.state == TargetState::unhealthy
                              ? "; unhealthy: " + target.health.description
                              : "";
  switch (target.registration) {
    case Registration::draining:
      return {TargetState::draining, HealthReason::deregistration_in_progress,
              "Target deregistration is in progress" + but};
    case Registration::drained:
      return {TargetState::unused, HealthReason::not_registered,
              (target.is_operator_drained ? "Drained by the operator; undrain registers it again"
                                          : "Target is not registered to the target group") +
                  but};
    case Registration::registered:
      break;
  }
  if (!group.is_in_use) {
    return {TargetState::unused, HealthReason::not_in_use,
            "Target group is not configured to receive traffic from the load balancer" + but};
  }
  return {target.health.state, target.health.reason,
          target.is_passed_over ? "Gets no new flows: the engine has no way to it" + but
                                : target.health.description};
}

bool may_retire(const TargetRecord& target, std::optional<std::uint64_t> active_flows,
                std::uint64_t now_ns) {
  return !target.is_configured && target.registration == Registration::drained &&
         now_ns >= target.drain_deadline_ns + kCountedNs && active_flows == 0u;
}

std::vector<EpochMember> epoch_members(const GroupState& group) {
  const bool is_fail_open = fails_open(group);
  std::vector<EpochMember> members;
  for (const auto& [key, target] : group.targets) {
    const std::uint8_t flags = target_flags(target, group.settings, is_fail_open);
    members.push_back({.target_id = target.id,
                       .target_slot = target.slot,
                       .identity = target.identity,
                       .weight = target.is_in_base ? target.weight : 0,
                       .is_in = gets_new_flows(target, is_fail_open),
                       .keeps_flows = mr_takes_orphan(flags)});
  }
  return members;
}

}  // namespace millrace::control
