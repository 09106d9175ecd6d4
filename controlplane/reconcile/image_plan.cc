// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/image_plan.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "dataplane/core/nanoseconds.h"
#include "dataplane/core/wire.h"
#include "dataplane/rules/forwarding_rule.h"
#include "dataplane/rules/mss_rule.h"
#include "dataplane/rules/port_rule.h"

namespace millrace::control {

namespace {

// How long a flow may be silent, in seconds. Established TCP flows have the listener's attribute.
// SYN: how long NLB's targets have to answer a new flow (deploy/nlb.md, "Idle timeouts"). A longer
// time would only help a SYN flood.
constexpr std::uint32_t kSynTimeout = 30;
// Both sides have sent FIN, so only retransmissions of the last segments are to come. A flow that
// one side alone has closed may be silent as long as any other (RFC 9293 section 3.6: half-close).
constexpr std::uint32_t kClosedTimeout = 10;
// A RST may be forged. Then the connection goes on, and its record must still be there.
constexpr std::uint32_t kResetTimeout = 120;
// NLB's, which is fixed (deploy/nlb.md, "Idle timeouts").
constexpr std::uint32_t kUdpTimeout = 120;
// One question and its answer, as Linux's nf_conntrack_udp_timeout.
constexpr std::uint32_t kUdpNewTimeout = 30;
// How long after an idle timeout a late packet is answered with RST. The record is kept for that
// time; a full table takes it back earlier.
constexpr std::uint32_t kExpiredTimeout = 600;

std::uint32_t ticks(std::uint64_t seconds) {
  return static_cast<std::uint32_t>((seconds * kSecondNs) >> MR_TICK_SHIFT);
}

mr_target planned_target(const TargetRecord& record, const GroupState& group, bool is_fail_open,
                         const WayToTarget& way) {
  const Forwarding forwarding = group.settings.forwarding;
  mr_target target{};
  target.addr = record.key.address.addr;
  target.id = record.id;
  target.group_slot = group.slot;
  target.next_hop = way.next_hop;
  target.port_be = keeps_port(forwarding) ? std::uint16_t{0} : core::to_be16(record.key.port);
  target.protocol = static_cast<std::uint8_t>(group.settings.protocol);
  target.flags = target_flags(record, group.settings, is_fail_open);
  if (group.settings.asymmetric_returns) target.flags |= MR_TARGET_ASYMMETRIC;
  target.forwarding = static_cast<std::uint8_t>(forwarding);
  target.variant =
      mr_variant_of(target.forwarding, record.key.address.is_v4(), target.port_be != 0);
  target.mtu = way.mtu != 0 ? way.mtu : std::uint16_t{MR_MTU_NO_LIMIT};
  target.mss_max = group.settings.mss_clamp == kMssClampAuto
                       ? mr_mss_of_mtu(target.mtu, record.key.address.is_v4())
                       : group.settings.mss_clamp;
  if (forwarding == Forwarding::gue) {
    target.encap_port_be = core::to_be16(group.settings.gue_port);
  }
  target.identity = record.identity;
  return target;
}

std::set<IpAddress> set_of(const std::vector<mr_addr>& addrs) {
  std::set<IpAddress> set;
  for (const mr_addr& addr : addrs) set.insert(IpAddress{addr});
  return set;
}

VipContents planned_vip(const IpAddress& vip, const VipRecord& record, const ControlState& state) {
  std::uint32_t flags = 0;
  if (!answers_echo(record, state)) flags |= MR_VIP_NO_ECHO;
  if (record.no_listener == NoListener::reject) flags |= MR_VIP_REJECTS;
  if (record.no_listener == NoListener::kernel) flags |= MR_VIP_PUNTS;
  return {.addr = vip.addr, .flags = flags};
}

GroupContents planned_group(const GroupState& group, bool is_fail_open) {
  return {.id = group.id,
          .forwarding = static_cast<std::uint8_t>(group.settings.forwarding),
          .flags = is_fail_open ? std::uint8_t{MR_GROUP_FAIL_OPEN} : std::uint8_t{0},
          .identity = group_identity(group.settings.name, group.settings.protocol),
          .members = group.epochs.member_slots(),
          .table = group.epochs.table()};
}

template <typename T>
bool same_bytes(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}
template <typename T>
bool same_bytes(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

// How long an unknown connection in a changed slot goes to the slot's previous target. If the node
// does not see replies, nothing corrects that when the connection is newer than the change. So in
// such groups it is the shorter of two times (ARCHITECTURE.md, "Choosing a target").
std::uint64_t window_ns(const TargetGroup& group) {
  const std::uint64_t seconds =
      sees_replies(group.forwarding)
          ? group.deregistration_delay_seconds
          : std::min(group.deregistration_delay_seconds, group.previous_target_seconds);
  return seconds * kSecondNs;
}

}  // namespace

mr_listener planned_listener(const ListenerKey& key, const ListenerRecord& record,
                             std::uint32_t group_slot) {
  mr_listener listener{};
  listener.vip_addr = key.vip.addr;
  listener.slot = static_cast<std::uint16_t>(record.slot);
  listener.id = record.id;
  listener.group_slot = static_cast<std::uint16_t>(group_slot);
  listener.last_port_be = core::to_be16(record.ports.last);
  listener.port_be = core::to_be16(record.ports.first);
  listener.asked_port_be = mr_asked_port_be_of(listener.port_be, listener.last_port_be);
  listener.protocol = static_cast<std::uint8_t>(key.protocol);
  listener.timeout_ticks[MR_FLOW_SYN] = ticks(kSynTimeout);
  listener.timeout_ticks[MR_FLOW_ESTABLISHED] = ticks(record.tcp_idle_timeout_seconds);
  listener.timeout_ticks[MR_FLOW_CLOSING] = ticks(record.tcp_idle_timeout_seconds);
  listener.timeout_ticks[MR_FLOW_CLOSED] = ticks(kClosedTimeout);
  listener.timeout_ticks[MR_FLOW_TIMEOUT_RESET] = ticks(kResetTimeout);
  listener.timeout_ticks[MR_FLOW_UDP] = ticks(kUdpTimeout);
  listener.timeout_ticks[MR_FLOW_UDP_NEW] = ticks(kUdpNewTimeout);
  listener.timeout_ticks[MR_FLOW_EXPIRED] = ticks(kExpiredTimeout);
  return listener;
}

void update_epochs(ControlState& state, std::uint64_t now_ns) {
  for (auto& [name, group] : state.groups) update_epochs(group, state.node, now_ns);
}

void update_epochs(GroupState& group, const Node& node, std::uint64_t now_ns) {
  pass_over_unreachable(group);
  choose_base(group);
  group.epochs.update(epoch_members(group),
                      {.seed = node.lookup_seed,
                       .slot_count = lookup_size(group),
                       .window_ns = window_ns(group.settings)},
                      now_ns);
}

bool replan_group(ImageContents& contents, const GroupState& group, const FindWay& way_to) {
  const bool is_fail_open = fails_open(group);
  GroupContents planned = planned_group(group, is_fail_open);
  GroupContents& published = contents.groups[group.slot];
  bool is_changed = published != planned;
  if (is_changed) published = std::move(planned);
  for (const auto& [key, record] : group.targets) {
    const mr_target target = planned_target(record, group, is_fail_open, way_to(record, group));
    is_changed = is_changed || !same_bytes(contents.targets[record.slot], target);
    contents.targets[record.slot] = target;
  }
  return is_changed;
}

bool answers_echo(const VipRecord& vip, const ControlState& state) {
  if (vip.echo != Echo::healthy) return vip.echo == Echo::always;
  return std::ranges::any_of(vip.groups, [&](const std::string& name) {
    return has_healthy_target(state.groups.at(name));
  });
}

bool replan_vips(ImageContents& contents, const GroupState& group, const ControlState& state) {
  bool is_changed = false;
  for (const IpAddress& vip : group.vips) {
    const VipRecord& record = state.vips.at(vip);
    if (record.echo != Echo::healthy) continue;
    const auto published = std::ranges::lower_bound(
        contents.vips, vip, {}, [](const VipContents& other) { return IpAddress{other.addr}; });
    if (published == contents.vips.end() || !same_bytes(published->addr, vip.addr)) continue;
    const VipContents planned = planned_vip(vip, record, state);
    is_changed = is_changed || !same_bytes(*published, planned);
    *published = planned;
  }
  return is_changed;
}

ImageContents plan_image(const ControlState& state, const Surroundings& around) {
  ImageContents contents;
  contents.listeners.resize(state.listener_slots.slot_count());
  contents.groups.resize(state.group_slots.slot_count());
  contents.targets.resize(state.target_slots.slot_count());
  const std::set<IpAddress> own = set_of(around.local_addrs);
  for (const auto& [vip, record] : state.vips) {
    if (own.contains(vip)) continue;  // the kernel owns it; Reconciler::alarms() says so
    contents.vips.push_back(planned_vip(vip, record, state));
  }
  for (const auto& [key, listener] : state.listeners) {
    if (own.contains(key.vip)) continue;
    contents.listeners[listener.slot] =
        planned_listener(key, listener, state.groups.at(listener.target_group).slot);
  }
  for (const auto& [name, group] : state.groups) {
    (void)replan_group(contents, group, around.way_to);  // of course: it was empty
  }
  contents.local_addrs = around.local_addrs;
  contents.local_macs = around.local_macs;
  contents.vlans = around.vlans;
  contents.default_next_hop_v4 = around.default_next_hop_v4;
  contents.default_next_hop_v6 = around.default_next_hop_v6;
  contents.encap_source_v4 = around.encap_source_v4;
  contents.encap_source_v6 = around.encap_source_v6;
  contents.nic_addrs = around.nic_addrs;
  contents.id_floor = state.ids.floor();
  contents.selection_key = {.k0 = state.node.selection_key[0], .k1 = state.node.selection_key[1]};
  return contents;
}

// Names every field, so that code with a new field does not compile until that field is compared.
bool are_equal(const ImageContents& a, const ImageContents& b) {
  const auto& [vips, listeners, groups, targets, local_addrs, local_macs, vlans, next_hop_v4,
               next_hop_v6, key, encap_v4, encap_v6, nic_addrs, id_floor] = a;
  (void)id_floor;  // nothing to engines: it shows with the next image
  return groups == b.groups && same_bytes(vips, b.vips) && same_bytes(listeners, b.listeners) &&
         same_bytes(targets, b.targets) && same_bytes(local_addrs, b.local_addrs) &&
         same_bytes(local_macs, b.local_macs) && same_bytes(vlans, b.vlans) &&
         same_bytes(next_hop_v4, b.default_next_hop_v4) &&
         same_bytes(next_hop_v6, b.default_next_hop_v6) && same_bytes(key, b.selection_key) &&
         same_bytes(encap_v4, b.encap_source_v4) && same_bytes(encap_v6, b.encap_source_v6) &&
         same_bytes(nic_addrs, b.nic_addrs);
}

}  // namespace millrace::control
