// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Packets of clients whose flow is known but does not simply go on, and late packets:
// core/forwarder_known.cc for the other engine. HOT (a few packets of each flow).
#pragma once

#include "bpf/reset.bpf.h"
#include "bpf/start.bpf.h"
#include "bpf/track.bpf.h"

// Whether a TCP segment has data. False for what is no TCP segment.
INLINE _Bool has_payload(struct xdp_md* ctx, const struct packet* p) {
  const uint8_t* l4 = packet_start(ctx) + (p->is_v4 ? l4_offset(1) : l4_offset(0));
  if (p->protocol != IPPROTO_TCP || !has_room(l4, TCP_BYTES, packet_end(ctx))) return 0;
  return p->ip_bytes > (p->is_v4 ? IP4_BYTES : IP6_BYTES) + (l4[12] >> 4) * 4u;
}

// Sets p->target of a flow, null when it is there no more, with its slot and the deltas, and
// p->word. False when another CPU has changed the flow meanwhile.
INLINE _Bool load_target(struct packet* p, struct mr_flow_record* flow) {
  p->word = load_state_word(flow);
  p->target_slot = read32(&flow->target_slot);
  const uint32_t target_id = read32(&flow->target_id);
  *deltas_of(p) = deltas_in(flow);
  const struct mr_target* target = target_at(p->root, p->target_slot);
  p->target = target != 0 && target->id == target_id ? target : 0;
  return load_state_word(flow) == p->word;
}

// A SYN on a known flow: sent again, of a connection that the client has lost, or forged. It goes
// to the flow's target, which knows better (core/forwarder_known.cc). SEND_TO_TARGET, or nonzero
// when it begins a new flow.
INLINE int open_again(struct packet* p, struct mr_flow_record* flow, uint32_t word) {
  const struct mr_target* target = p->target;
  const _Bool is_opening = word >> STATE_SHIFT == MR_FLOW_SYN;
  const _Bool is_draining = (target->flags & MR_TARGET_DRAINING) != 0;
  if (is_draining) {
    const _Bool has_no_answer = is_opening && (flags_of(flow) & MR_FLOW_REPLY_SEEN) == 0;
    const _Bool is_quiet = target->forwarding != MR_FORWARDING_NAT &&
                           is_silent(p, flow, p->listener->timeout_ticks[MR_FLOW_TIMEOUT_RESET]);
    if (has_no_answer || is_quiet) return 1;
  }
  count(p->cpu, MR_COUNTER_FLOW_HITS);
  if (!is_opening) set_flags(flow, MR_FLOW_SYN_AGAIN);
  // The group may be forwarded in another way by now.
  set_deltas(p, p->listener, target);
  store32(&flow->ip_checksum_delta, *deltas_of(p));
  // A client that tries for ever does not keep the flow at its old target.
  if (is_draining) {
    count_packet(p, flow);
  } else {
    account(p, flow);
  }
  return SEND_TO_TARGET;
}

// A segment of a flow that has been idle for too long. Its sender is answered with a RST, but not
// before the other side has got one: only this segment says by which number that side knows it. The
// sender, who hears nothing, sends it again. Returns a verdict, or SEND_TO_TARGET when the packet
// is a RST now that goes on to the other side.
OUT_OF_LINE int end_late(struct xdp_md* ctx, struct packet* p, struct mr_flow_record* flow,
                         _Bool is_reachable, uint32_t told) {
  if (flow == 0) return drop(p, MR_DROP_NO_LISTENER);
  const _Bool is_plain = (p->tcp_flags & (TCP_SYN_BIT | TCP_RST_BIT)) == 0;
  if (!is_plain || !is_reachable || (flags_of(flow) & told) != 0) {
    return answer_with_reset(ctx, p, flow->listener_slot);
  }
  if (!take(p, &p->cpu->resets_left)) return drop(p, MR_DROP_RATE_LIMITED);
  set_flags(flow, told);
  count_own_reset(p, flow->listener_slot);
  return become_reset(ctx, p) ? SEND_TO_TARGET : drop(p, MR_DROP_BAD_L4);
}

// A packet to a VIP whose flow is known but not simply going on: opening, closing, idle for too
// long, one of several to one target, or without a usable target. START: a new flow is to begin.
OUT_OF_LINE int revisit_flow(struct xdp_md* ctx, struct packet* p, struct mr_flow_record* flow,
                             uint64_t last_hop) {
  if (flow == 0 || p->listener == 0) return drop(p, MR_DROP_NO_LISTENER);
  const _Bool is_tcp = p->protocol == IPPROTO_TCP;
  const _Bool is_syn = (p->tcp_flags & TCP_SYN_BIT) != 0;
  p->has_payload = has_payload(ctx, p);
  expire_if_idle(p, flow, p->listener, load_state_word(flow));
  p->has_sibling = 1;  // perhaps
                       // Changed again and again: it is joined, or made anew.
  _Bool is_new = !load_target(p, flow) && !load_target(p, flow);
  const uint32_t word = p->word;
  const uint32_t state = word >> STATE_SHIFT;
  const struct mr_target* target = p->target;
  is_new |= !is_of_client(p, flow, word) || flow->listener_id != p->listener->id;
  if (is_syn) is_new |= is_over(state) && !is_reset(flow, state);
  if (!is_tcp) is_new |= state == MR_FLOW_EXPIRED;
  if (!is_new && state == MR_FLOW_EXPIRED) {
    const _Bool is_reachable = target != 0 && (target->next_hop.flags & MR_NEXT_HOP_RESOLVED) != 0;
    return end_late(ctx, p, flow, is_reachable, MR_FLOW_TOLD_TARGET);
  }
  if (!is_new && (target == 0 || (target->flags & MR_TARGET_KEEPS_FLOWS) == 0)) {
    const _Bool resets = target != 0 && (target->flags & MR_TARGET_RESETS_FLOWS) != 0;
    if (is_tcp && resets && !is_syn) {
      // The other side gets its RST when it speaks.
      if (expire_flow(p, flow, word)) {
        set_flags(flow, MR_FLOW_TOLD_CLIENT | MR_FLOW_TOLD_TARGET);
      }
      return answer_with_reset(ctx, p, flow->listener_slot);
    }
    is_new = 1;
  }
  if (!is_new && is_syn) is_new = open_again(p, flow, word) != SEND_TO_TARGET;
  if (is_new) {
    // The client's port is used again, or its target is gone: a new flow, and a new choice.
    if (is_of_client(p, flow, word)) forget_flow(p, flow, word);
    return START;
  }
  if ((flags_of(flow) & MR_FLOW_SHARED) != 0) claim_replies(p, flow);
  if (is_syn) return SEND_TO_TARGET;
  count(p->cpu, MR_COUNTER_FLOW_HITS);
  if (is_tcp) {
    track_tcp(p, flow, word, 1);
  } else if (state == MR_FLOW_UDP_NEW && (flags_of(flow) & MR_FLOW_REPLY_SEEN) != 0) {
    if (change_state(flow, word, MR_FLOW_UDP)) set_flags(flow, MR_FLOW_CONFIRMED);
  }
  const _Bool goes_on = (p->tcp_flags & (TCP_FIN_BIT | TCP_RST_BIT)) == 0;
  if (goes_on && last_hop_at(flow->last_hop) != last_hop) {
    flow->last_hop = learn_last_hop(p, last_hop);
  }
  account(p, flow);
  return SEND_TO_TARGET;
}

// A packet to a VIP's listener that is not of the known flow that goes on. `flow` is what it may be
// of, or null.
OUT_OF_LINE int forward_in_doubt(struct xdp_md* ctx, struct packet* p, struct mr_flow_record* flow,
                                 uint64_t last_hop) {
  if (flow == 0) {
    const int done = start_flow(p, last_hop, (p->tcp_flags & TCP_SYN_BIT) != 0);
    if (done != REVISIT) return done;
    flow = p->known_flow;
  }
  const int done = revisit_flow(ctx, p, flow, last_hop);
  return done == START ? start_flow(p, last_hop, 0) : done;
}
