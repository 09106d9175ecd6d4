// SPDX-License-Identifier: Apache-2.0
//
// The attributes of target groups. Those that start with `millrace.` are our own, all others the
// ELBv2 API's.
#include "controlplane/model/attribute_tables.h"
#include "controlplane/model/lookup_size.h"
#include "controlplane/model/value_text.h"
#include "dataplane/contract/config_abi.h"
#include "dataplane/rules/mss_rule.h"

namespace millrace::control {
namespace {

using Row = Attribute<TargetGroup>;

constexpr std::string_view kLater = "not supported by this version; nat, dsr, ipip and gue are";
constexpr Word<Forwarding> kForwardings[] = {
    {"nat", Forwarding::nat}, {"dsr", Forwarding::dsr}, {"ipip", Forwarding::ipip},
    {"gue", Forwarding::gue}, {"full_nat", {}, kLater}, {"geneve", {}, kLater},
};

constexpr Word<std::uint32_t> kLookupSlots[] = {{"4093", kLookupSizes[0]},
                                                {"16381", kLookupSizes[1]},
                                                {"65537", kLookupSizes[2]},
                                                {"655373", kLookupSizes[3]}};

constexpr std::string_view kNoStickiness = "stickiness is not supported by this version";
constexpr std::string_view kNoThresholds = "health thresholds are not supported by this version";

std::string is_for(const char* forwardings, const TargetGroup& group) {
  return std::string("is for millrace.forwarding: ") + forwardings + "; this group's is " +
         to_string(group.forwarding);
}

std::string refuse_gue_port(const TargetGroup& group) {
  return group.forwarding == Forwarding::gue ? "" : is_for("gue only", group);
}

std::string refuse_previous_target(const TargetGroup& group) {
  return sees_replies(group.forwarding) ? is_for("dsr, ipip and gue", group) : "";
}

std::string refuse_asymmetric_returns(const TargetGroup& group) {
  if (!group.asymmetric_returns || sees_replies(group.forwarding)) return "";
  return is_for("nat only", group) + ", whose replies pass no node";
}

std::string refuse_unhealthy_termination(const TargetGroup& group) {
  if (!group.unhealthy_connection_termination || group.protocol != Protocol::udp) return "";
  return "cannot be true for UDP: its flows have no connection to terminate";
}

std::string refuse_mss_clamp(const TargetGroup& group) {
  if (group.mss_clamp == 0) return "";
  if (group.protocol == Protocol::udp) {
    return "is for protocol: TCP and TCP_UDP; this group's is UDP";
  }
  if (sees_replies(group.forwarding)) return "";
  return is_for("nat only", group) +
         ", whose replies pass no node, so clients would not hear of it";
}

std::string mss_clamp_text(const TargetGroup& group) {
  if (group.mss_clamp == 0) return "off";
  return group.mss_clamp == kMssClampAuto ? "auto" : std::to_string(group.mss_clamp);
}

bool read_mss_clamp(std::string_view text, TargetGroup& group) {
  if (text == "off") {
    group.mss_clamp = 0;
  } else if (text == "auto") {
    group.mss_clamp = kMssClampAuto;
  } else {
    const auto number = parse_number(text, {.min = MR_MSS_MIN, .max = 65495});
    if (!number) return false;
    group.mss_clamp = static_cast<std::uint16_t>(*number);
  }
  return true;
}

constexpr Row kRows[] = {
    {.name = "millrace.forwarding",
     .value = Row::Choice<Forwarding>{&TargetGroup::forwarding, kForwardings},
     .decides = true,
     .meaning = "How packets reach the targets. nat: the destination is translated, the client's "
                "address is kept, replies return through the node. dsr: see dsr.yaml. ipip and "
                "gue: see encap.yaml."},
    {.name = "millrace.gue.port",
     .value = Row::Number{&TargetGroup::gue_port, {.min = 1, .max = 65535}},
     .applies_to = "millrace.forwarding: gue",
     .refusal = refuse_gue_port,
     .meaning = "The UDP port at which the targets take packets out of GUE."},
    {.name = "millrace.previous_target.timeout_seconds",
     .value = Row::Number{&TargetGroup::previous_target_seconds,
                          {.min = 0, .max = 3600, .unit = "seconds"}},
     .applies_to = "millrace.forwarding: dsr, ipip, gue",
     .refusal = refuse_previous_target,
     .meaning = "With several nodes: for how long, within the deregistration delay, a connection "
                "that another node had goes to the target that its slot had before a change. See "
                "dsr.yaml."},
    {.name = "millrace.asymmetric_returns.enabled",
     .value = Row::Flag{&TargetGroup::asymmetric_returns},
     .applies_to = "millrace.forwarding: nat",
     .refusal = refuse_asymmetric_returns,
     .meaning = "With several nodes: whether replies may pass another node than the requests. "
                "That node has no record of the flow, so it translates every packet from a "
                "target's service port. Hosts that talk to targets past the VIP, and targets that "
                "ask from that port, are then not served. Such a group may have one listener with "
                "one VIP, and no other nat group may have the same port of its machines."},
    {.name = "millrace.tcp.mss_clamp",
     .value =
         Row::Special{"off, auto or a whole number, 536-65495", mss_clamp_text, read_mss_clamp},
     .applies_to = "protocol: TCP, TCP_UDP; millrace.forwarding: nat",
     .refusal = refuse_mss_clamp,
     .meaning = "The largest maximum segment size (MSS) that clients and targets may announce to "
                "each other when they connect. The node lowers larger ones. For networks that lose "
                "the ICMP errors by which hosts learn of a small MTU. auto: what fits the MTU of "
                "the node's route to the target."},
    {.name = "millrace.lookup_table.slots",
     .value = Row::Choice<std::uint32_t>{&TargetGroup::lookup_slots, kLookupSlots},
     .meaning = "Slots of the lookup table, 4 bytes each: 4093 for groups of up to 16 targets, "
                "16381 for up to 64, 65537 for up to 256, 655373 for more. With fewer slots a "
                "target, shares are less even while others are out. The fewer slots, the sooner a "
                "change of health is in force. A table with a target whose weight is too small for "
                "4 slots gets the next size. All nodes must have the same."},
    {.name = "deregistration_delay.timeout_seconds",
     .value = Row::Number{&TargetGroup::deregistration_delay_seconds,
                          {.min = 0, .max = 3600, .unit = "seconds"}},
     .meaning = "How long a target that was removed or drained keeps the state `draining`. Its "
                "flows in changed lookup-table slots are still found."},
    {.name = "deregistration_delay.connection_termination.enabled",
     .value = Row::Flag{&TargetGroup::deregistration_connection_termination},
     .meaning = "Whether flows are cut when the deregistration delay ends."},
    {.name = "target_health_state.unhealthy.connection_termination.enabled",
     .value = Row::Flag{&TargetGroup::unhealthy_connection_termination},
     .applies_to = "protocol: TCP, TCP_UDP",
     .refusal = refuse_unhealthy_termination,
     .meaning = "Whether connections of a target that turned unhealthy are cut at once. UDP has "
                "none: its flows choose another target."},
    {.name = "preserve_client_ip.enabled",
     .value = Row::Fixed{"true",
                         "all ways of forwarding keep the client's address; full_nat is not "
                         "supported by this version"}},
    {.name = "proxy_protocol_v2.enabled",
     .value = Row::Fixed{"false", "not supported by this version"}},
    {.name = "stickiness.enabled", .value = Row::Fixed{"false", "not supported by this version"}},
    {.name = "stickiness.type", .value = Row::Fixed{"source_ip", kNoStickiness}},
    {.name = "load_balancing.cross_zone.enabled",
     .value = Row::Fixed{"true", "targets of every zone get flows"}},
    {.name = "target_group_health.dns_failover.minimum_healthy_targets.count",
     .value = Row::Fixed{"1", kNoThresholds}},
    {.name = "target_group_health.dns_failover.minimum_healthy_targets.percentage",
     .value = Row::Fixed{"off", kNoThresholds}},
    {.name = "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count",
     .value = Row::Fixed{"1", kNoThresholds}},
    {.name = "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage",
     .value = Row::Fixed{"off", kNoThresholds}},
    {.name = "target_health_state.unhealthy.draining_interval_seconds",
     .value = Row::Fixed{"0", "not supported by this version"}},
};

}  // namespace

std::span<const Attribute<TargetGroup>> target_group_attributes() { return kRows; }

}  // namespace millrace::control
