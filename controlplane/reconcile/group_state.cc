// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/group_state.h"

#include <algorithm>
#include <cstring>

#include "dataplane/core/checksum64.h"
#include "dataplane/core/wire.h"

namespace millrace::control {

namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;

bool is_healthy(const TargetRecord& target) { return target.health.state == TargetState::healthy; }

bool gets_new_flows_if_healthy(const TargetRecord& target) {
  return target.registration == Registration::registered && target.weight > 0;
}

}  // namespace

std::uint64_t target_identity(const TargetKey& key, Protocol protocol) {
  std::byte bytes[sizeof(mr_addr) + 3];
  const std::uint16_t port_be = core::to_be16(key.port);
  std::memcpy(bytes, &key.address.addr, sizeof(mr_addr));
  std::memcpy(bytes + sizeof(mr_addr), &port_be, sizeof(port_be));
  bytes[sizeof(bytes) - 1] = static_cast<std::byte>(protocol);
  return core::checksum64(bytes);
}

void begin_drain(TargetRecord& target, const TargetGroup& settings, std::uint64_t now_ns) {
  if (target.registration != Registration::registered) return;
  target.registration = Registration::draining;
  target.drain_deadline_ns = now_ns + settings.deregistration_delay_seconds * kSecondNs;
}

void end_drain(TargetRecord& target) {
  if (!target.is_configured || target.is_operator_drained) return;
  if (target.registration == Registration::drained) target.health = TargetHealth{};
  target.registration = Registration::registered;
  target.drain_deadline_ns = 0;
}

bool advance_drain(TargetRecord& target, std::uint64_t now_ns) {
  if (target.registration != Registration::draining) return false;
  if (now_ns < target.drain_deadline_ns) return false;
  target.registration = Registration::drained;
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

bool fails_open(const GroupState& group) {
  bool has_registered = false;
  for (const auto& [key, target] : group.targets) {
    if (!gets_new_flows_if_healthy(target)) continue;
    if (is_healthy(target)) return false;
    has_registered = true;
  }
  return has_registered;
}

std::uint32_t lookup_weight(const TargetRecord& target, bool is_fail_open) {
  if (target.registration != Registration::registered) return 0;
  return is_healthy(target) || is_fail_open ? target.weight : 0;
}

std::uint8_t target_flags(const TargetRecord& target, const TargetGroup& settings,
                          bool is_fail_open) {
  const std::uint8_t ended =
      settings.protocol == Protocol::tcp ? std::uint8_t{MR_TARGET_RESETS_FLOWS} : std::uint8_t{0};
  const std::uint8_t healthy =
      is_healthy(target) ? std::uint8_t{MR_TARGET_HEALTHY} : std::uint8_t{0};
  switch (target.registration) {
    case Registration::draining:
      return healthy | MR_TARGET_KEEPS_FLOWS;
    case Registration::drained:
      return settings.deregistration_connection_termination ? ended
                                                            : std::uint8_t{MR_TARGET_KEEPS_FLOWS};
    case Registration::registered:
      break;
  }
  const bool is_unhealthy = target.health.state == TargetState::unhealthy && !is_fail_open;
  // UDP has no connection that could be ended: its flows simply choose another target.
  const bool ends_flows = is_unhealthy && (settings.protocol == Protocol::udp ||
                                           settings.unhealthy_connection_termination);
  return ends_flows ? ended : static_cast<std::uint8_t>(healthy | MR_TARGET_KEEPS_FLOWS);
}

bool is_probed(const TargetRecord& target, const GroupState& group) {
  return group.is_configured && group.is_in_use && target.registration != Registration::drained;
}

ShownState shown_state(const TargetRecord& target, const GroupState& group) {
  switch (target.registration) {
    case Registration::draining:
      return {TargetState::draining, HealthReason::deregistration_in_progress,
              "Target deregistration is in progress"};
    case Registration::drained:
      return {TargetState::unused, HealthReason::not_registered,
              target.is_operator_drained ? "Drained by the operator; undrain registers it again"
                                         : "Target is not registered to the target group"};
    case Registration::registered:
      break;
  }
  if (!group.is_in_use) {
    return {TargetState::unused, HealthReason::not_in_use,
            "Target group is not configured to receive traffic from the load balancer"};
  }
  return {target.health.state, target.health.reason, target.health.description};
}

bool may_retire(const TargetRecord& target, std::optional<std::uint64_t> active_flows) {
  return !target.is_configured && target.registration == Registration::drained &&
         active_flows == 0u;
}

std::vector<EpochMember> epoch_members(const GroupState& group) {
  const bool is_fail_open = fails_open(group);
  std::vector<EpochMember> members;
  for (const auto& [key, target] : group.targets) {
    const std::uint8_t flags = target_flags(target, group.settings, is_fail_open);
    members.push_back({.target_id = target.id,
                       .target_slot = target.slot,
                       .identity = target.identity,
                       .weight = lookup_weight(target, is_fail_open),
                       .keeps_flows = (flags & MR_TARGET_KEEPS_FLOWS) != 0});
  }
  return members;
}

}  // namespace millrace::control
