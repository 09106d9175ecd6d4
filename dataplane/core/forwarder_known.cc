// SPDX-License-Identifier: Apache-2.0
//
// Packets of clients whose flow is known but does not simply go on: it opens, closes, opens again,
// has been idle for too long, or has no usable target. HOT (a few packets of each flow).
//
// A single packet may be forged. So no packet ends a flow for good or moves it to another target.
// FIN and RST are taken back when the connection goes on, and a SYN goes to the flow's target.
#include "dataplane/core/counters.h"
#include "dataplane/core/forwarder.h"
#include "dataplane/core/mss.h"
#include "dataplane/core/rewrite.h"
#include "dataplane/rules/known_rule.h"
#include "dataplane/rules/step_rule.h"

namespace millrace::core {
namespace {

bool is_believed(const mr_flow_record& flow, const Packet& packet, const Parsed& parsed) {
  if (parsed.protocol != MR_PROTOCOL_TCP) return true;
  const std::uint8_t* tcp = packet.data + parsed.l4_offset();
  return mr_is_believed(parsed.tcp_flags, from_be32(load<std::uint32_t>(tcp + MR_TCP_SEQUENCE)),
                        from_be32(flow.target_ack_be));
}

}  // namespace

Verdict Forwarder::revisit_flow(Packet& packet, Work& work, mr_flow_record& flow) noexcept {
  const Parsed& parsed = work.parsed;
  if (flow.state != MR_FLOW_EXPIRED && is_idle(flow, *work.listener)) expire_flow(flow);
  const mr_target* target = target_of(flow);
  const bool sees_replies = target != nullptr && mr_sees_replies(target->forwarding);
  const mr_revisit what = mr_revisit_of(
      {.state = flow.state,
       .flags = flow.flags,
       .protocol = parsed.protocol,
       .tcp_flags = parsed.tcp_flags,
       .target_flags = target == nullptr ? std::uint32_t{0} : target->flags,
       .sees_replies = sees_replies,
       .is_quiet = is_silent(flow, work.listener->timeout_ticks[MR_FLOW_TIMEOUT_RESET])});
  if (!sees_replies) flow.target_ack_be = 0;  // of before the group's forwarding changed
  switch (what) {
    case MR_REVISIT_START_OVER:
      forget_flow(flow);
      return start_flow(packet, work);
    case MR_REVISIT_END_LATE:
      return end_late(packet, parsed, flow, true);
    case MR_REVISIT_RESET:
      expire_flow(flow);
      // The other side gets its RST when it speaks.
      add_flags(flow, MR_FLOW_TOLD_BOTH);
      return reset(packet, parsed, flow.listener_slot);
    case MR_REVISIT_OPEN_AGAIN:
      return open_again(packet, work, flow, *target);
    case MR_REVISIT_GO_ON:
      break;
  }
  ++burst_counts_.hits;
  if ((flow.flags & MR_FLOW_SHARED) != 0) claim_replies(work.hash, flow, *target);
  track(flow, packet, parsed, true);
  if (mr_shows_last_hop(parsed.tcp_flags)) learn_last_hop(flow, packet);
  account(flow, parsed);
  return send_to_target(packet, parsed, flow, *target);
}

// A SYN on a known flow goes to the flow's target (rules/known_rule.h).
Verdict Forwarder::open_again(Packet& packet, Work& work, mr_flow_record& flow,
                              const mr_target& target) noexcept {
  const std::uint32_t last_seen_tick = flow.last_seen_tick;
  ++burst_counts_.hits;
  add_flags(flow, mr_flags_of_syn_again(flow.state));
  // The group's forwarding may have changed since.
  const mr_nat_deltas deltas = nat_deltas(*work.listener, work.listener->port_be, target);
  flow.ip_checksum_delta = deltas.ip;
  flow.l4_checksum_delta = deltas.l4;
  if ((flow.flags & MR_FLOW_SHARED) != 0) claim_replies(work.hash, flow, target);
  account(flow, work.parsed);
  if ((target.flags & MR_TARGET_DRAINING) != 0) flow.last_seen_tick = last_seen_tick;
  clamp_mss_of_client(packet, work.parsed, target);
  return send_to_target(packet, work.parsed, flow, target);
}

// Changes the state of the flow as the packet says.
void Forwarder::track(mr_flow_record& flow, const Packet& packet, const Parsed& parsed,
                      bool is_from_client) noexcept {
  if ((parsed.tcp_flags & MR_TCP_RST) != 0) count_reset(flow, is_from_client);
  if (is_from_client && !is_believed(flow, packet, parsed)) return;
  const mr_flow_step step =
      parsed.protocol == MR_PROTOCOL_TCP
          ? mr_tcp_step_of(flow.state, flow.flags, parsed.tcp_flags,
                           tcp_payload_bytes(packet, parsed) != 0, is_from_client)
          : mr_udp_step_of(flow.state, flow.flags, is_from_client);
  if (step.state == flow.state && (step.sets | step.clears) == 0) return;
  // set_state() and confirm() count who is confirmed.
  add_flags(flow, step.sets & ~std::uint32_t{MR_FLOW_CONFIRMED});
  clear_flags(flow, step.clears & ~std::uint32_t{MR_FLOW_CONFIRMED});
  set_state(flow, step.state);
  if ((step.sets & MR_FLOW_CONFIRMED) != 0) confirm(flow);
}

void Forwarder::count_reset(const mr_flow_record& flow, bool is_from_client) noexcept {
  if (flow.listener_slot < counters_.listeners.size()) {
    mr_listener_stats& stats = counters_.listeners[flow.listener_slot];
    add(is_from_client ? stats.client_resets : stats.target_resets, 1);
  }
  if (!is_from_client && flow.target_slot < counters_.targets.size()) {
    add(counters_.targets[flow.target_slot].target_resets, 1);
  }
}

// A segment of an expired flow.
Verdict Forwarder::end_late(Packet& packet, const Parsed& parsed, mr_flow_record& flow,
                            bool is_from_client) noexcept {
  const std::uint32_t told = is_from_client ? MR_FLOW_TOLD_TARGET : MR_FLOW_TOLD_CLIENT;
  const mr_target* target = target_of(flow);
  const mr_listener* listener = listener_of(flow);
  // A RST in its place would have its hops.
  const bool has_hops = hops_left(packet, parsed) >= 2;
  const bool is_reachable =
      has_hops &&
      (is_from_client ? target != nullptr && (target->next_hop.flags & MR_NEXT_HOP_RESOLVED) != 0
                      : listener != nullptr);
  if (!mr_tells_other_side(parsed.tcp_flags, flow.flags, told, is_reachable)) {
    return reset(packet, parsed, flow.listener_slot);
  }
  if (!resets_.take()) return drop(MR_DROP_RATE_LIMITED);
  add_flags(flow, told);
  Parsed last = parsed;
  become_reset(packet, last);
  count_own_reset(flow.listener_slot);
  return is_from_client ? send_to_target(packet, last, flow, *target)
                        : send_to_client(packet, last, flow, *listener);
}

}  // namespace millrace::core
