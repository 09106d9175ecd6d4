// SPDX-License-Identifier: Apache-2.0
//
// Packets of clients whose flow is known but does not simply go on: it opens, closes, opens again,
// has been idle for too long, or has no usable target. HOT (a few packets of each flow).
//
// A single packet may be forged, so none ends a flow for good or moves it to another target: FIN
// and RST are taken back when the connection goes on, and a SYN goes where the flow is.
#include "dataplane/core/counters.h"
#include "dataplane/core/forwarder.h"
#include "dataplane/core/rewrite.h"

namespace millrace::core {
namespace {

// Where FINs leave a connection.
mr_flow_state state_by_fins(const mr_flow_record& flow) {
  const auto fins = static_cast<std::uint16_t>(flow.flags & kFinFlags);
  if (fins == kFinFlags) return MR_FLOW_CLOSED;
  return fins != 0 ? MR_FLOW_CLOSING : MR_FLOW_ESTABLISHED;
}

// Whether a SYN begins a new flow in its place. What one FIN or RST has closed may go on.
bool is_replaceable(const mr_flow_record& flow) { return is_over(flow) && !is_reset(flow); }

}  // namespace

Verdict Forwarder::revisit_flow(Packet& packet, Work& work, mr_flow_record& flow) noexcept {
  const Parsed& parsed = work.parsed;
  const bool is_tcp = parsed.protocol == ip_protocol::kTcp;
  const bool is_syn = (parsed.tcp_flags & tcp::kSyn) != 0;
  if (flow.state != MR_FLOW_EXPIRED && is_idle(flow, *work.listener)) expire_flow(flow);
  if ((is_syn && is_replaceable(flow)) || (!is_tcp && flow.state == MR_FLOW_EXPIRED)) {
    // The client's port is used again: a new flow, and a new choice.
    forget_flow(flow);
    return start_flow(packet, work);
  }
  if (flow.state == MR_FLOW_EXPIRED) return end_late(packet, parsed, flow, true);

  const mr_target* target = target_of(flow);
  if (target == nullptr || (target->flags & MR_TARGET_KEEPS_FLOWS) == 0) {
    const bool resets = target != nullptr && (target->flags & MR_TARGET_RESETS_FLOWS) != 0;
    if (is_tcp && resets && !is_syn) {
      expire_flow(flow);
      // The other side gets its RST when it speaks.
      flow.flags |= MR_FLOW_TOLD_CLIENT | MR_FLOW_TOLD_TARGET;
      return reset(packet, parsed, flow.listener_slot);
    }
    forget_flow(flow);
    return start_flow(packet, work);
  }
  if (is_syn) return open_again(packet, work, flow, *target);
  ++burst_counts_.hits;
  if ((flow.flags & MR_FLOW_SHARED) != 0) claim_replies(work.hash, flow, *target);
  if (is_tcp) {
    track_tcp(flow, packet, parsed, true);
  } else if (flow.state == MR_FLOW_UDP_NEW && (flow.flags & MR_FLOW_REPLY_SEEN) != 0) {
    set_state(flow, MR_FLOW_UDP);
    confirm(flow);
  }
  if ((parsed.tcp_flags & (tcp::kFin | tcp::kRst)) == 0) learn_last_hop(flow, packet);
  account(flow, parsed);
  return send_to_target(packet, parsed, flow, *target);
}

// A SYN on a known flow: sent again, of a connection that the client has lost, or forged. Its
// target knows better: it answers as to an old connection (a client that started anew then sends a
// RST, and its next SYN finds no flow) or accepts a new one (accept_again()). Only from a draining
// target such a SYN is kept: at once where the flow was just opening, after a silence where no
// answer passes.
Verdict Forwarder::open_again(Packet& packet, Work& work, mr_flow_record& flow,
                              const mr_target& target) noexcept {
  const bool is_opening = flow.state == MR_FLOW_SYN;
  const std::uint32_t last_seen_tick = flow.last_seen_tick;
  const bool is_draining = (target.flags & MR_TARGET_DRAINING) != 0;
  if (is_draining) {
    const bool has_no_answer = is_opening && (flow.flags & MR_FLOW_REPLY_SEEN) == 0;
    const bool is_quiet = target.forwarding != MR_FORWARDING_NAT &&
                          is_silent(flow, work.listener->timeout_ticks[MR_FLOW_TIMEOUT_RESET]);
    if (has_no_answer || is_quiet) {
      forget_flow(flow);
      return start_flow(packet, work);
    }
  }
  ++burst_counts_.hits;
  if (!is_opening) flow.flags |= MR_FLOW_SYN_AGAIN;
  // The group may be forwarded in another way by now.
  const NatDeltas deltas = nat_deltas(*work.listener, target);
  flow.ip_checksum_delta = deltas.ip;
  flow.l4_checksum_delta = deltas.l4;
  if ((flow.flags & MR_FLOW_SHARED) != 0) claim_replies(work.hash, flow, target);
  account(flow, work.parsed);
  // A client that tries for ever does not keep the flow at its old target.
  if (is_draining) flow.last_seen_tick = last_seen_tick;
  return send_to_target(packet, work.parsed, flow, target);
}

// Follows TCP as far as timeouts need it (RFC 9293 section 3.3.2, seen from the middle). Once
// closed, a FIN is taken back by data behind it from its sender, a RST by whatever either side says
// later: somebody else had forged it (RFC 5961). Before that, data behind a FIN is mostly data that
// was sent again, and the FIN holds: silence ends a half-closed flow no sooner than an open one.
void Forwarder::track_tcp(mr_flow_record& flow, const Packet& packet, const Parsed& parsed,
                          bool from_client) noexcept {
  const std::uint16_t own_fin = from_client ? MR_FLOW_FIN_CLIENT : MR_FLOW_FIN_TARGET;
  if ((parsed.tcp_flags & tcp::kRst) != 0) {
    flow.flags |= from_client ? MR_FLOW_RST_CLIENT : MR_FLOW_RST_TARGET;
    count_reset(flow, from_client);
    return set_state(flow, MR_FLOW_CLOSED);
  }
  if ((parsed.tcp_flags & tcp::kFin) != 0) {
    flow.flags |= own_fin;
    return set_state(flow, state_by_fins(flow));
  }
  if ((parsed.tcp_flags & tcp::kSyn) != 0) return;
  if (flow.state == MR_FLOW_SYN) {
    if (!from_client) return;
    // Without an answer seen, it went past this node or is yet to come.
    set_state(flow, MR_FLOW_ESTABLISHED);
    if ((flow.flags & MR_FLOW_REPLY_SEEN) != 0) confirm(flow);
    return;
  }
  if (flow.state != MR_FLOW_CLOSED) return;
  std::uint16_t taken_back = is_reset(flow) ? kResetFlags : std::uint16_t{0};
  const bool has_closed = (flow.flags & own_fin) != 0;
  if (has_closed && tcp_payload_bytes(packet, parsed) != 0) taken_back |= own_fin;
  if (taken_back == 0) return;
  flow.flags &= static_cast<std::uint16_t>(~taken_back);
  set_state(flow, state_by_fins(flow));
}

void Forwarder::count_reset(const mr_flow_record& flow, bool from_client) noexcept {
  if (flow.listener_slot < counters_.listeners.size()) {
    mr_listener_stats& stats = counters_.listeners[flow.listener_slot];
    add(from_client ? stats.client_resets : stats.target_resets, 1);
  }
  if (!from_client && flow.target_slot < counters_.targets.size()) {
    add(counters_.targets[flow.target_slot].target_resets, 1);
  }
}

// A segment of a flow that has been idle for too long. Its sender is answered with a RST, but not
// before the other side has got one: only this segment says by which number that side knows it.
// The sender, who hears nothing, sends it again.
Verdict Forwarder::end_late(Packet& packet, const Parsed& parsed, mr_flow_record& flow,
                            bool from_client) noexcept {
  const std::uint16_t told = from_client ? MR_FLOW_TOLD_TARGET : MR_FLOW_TOLD_CLIENT;
  const mr_target* target = target_of(flow);
  const mr_listener* listener = listener_of(flow);
  const bool is_reachable =
      from_client ? target != nullptr && (target->next_hop.flags & MR_NEXT_HOP_RESOLVED) != 0
                  : listener != nullptr;
  const bool is_plain = (parsed.tcp_flags & (tcp::kSyn | tcp::kRst)) == 0;
  if (!is_plain || !is_reachable || (flow.flags & told) != 0) {
    return reset(packet, parsed, flow.listener_slot);
  }
  if (!resets_.take()) return drop(MR_DROP_RATE_LIMITED);
  flow.flags |= told;
  Parsed last = parsed;
  become_reset(packet, last);
  count_own_reset(flow.listener_slot);
  return from_client ? send_to_target(packet, last, flow, *target)
                     : send_to_client(packet, last, flow, *listener);
}

}  // namespace millrace::core
