// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Packets of clients whose flow is known but does not simply go on, and late packets:
// core/forwarder_known.cc for the other engine. HOT (a few packets of each flow).
#pragma once

#include "bpf/reset.bpf.h"
#include "bpf/start.bpf.h"
#include "bpf/track.bpf.h"
#include "dataplane/rules/known_rule.h"
#include "dataplane/rules/mss_rule.h"

// Sets what track() needs of a TCP segment.
INLINE void look_at_segment(struct xdp_md* ctx, struct packet* p) {
  const uint8_t* l4 = packet_start(ctx) + (p->is_v4 ? l4_offset(1) : l4_offset(0));
  if (p->protocol != MR_PROTOCOL_TCP || !has_room(l4, MR_TCP_BYTES, packet_end(ctx))) return;
  p->sequence = bpf_ntohl(load32(l4 + MR_TCP_SEQUENCE));
  p->has_payload = p->ip_bytes > (p->is_v4 ? MR_IPV4_BYTES : MR_IPV6_BYTES) +
                                     mr_tcp_header_bytes(l4[MR_TCP_DATA_OFFSET]);
}

// Sets p->target, with its slot and the deltas, and p->word. p->target is null if the flow's target
// no longer exists. False when another CPU has changed the flow meanwhile.
INLINE _Bool load_target(struct packet* p, struct mr_flow_record* flow) {
  p->word = load_state_word(flow);
  p->target_slot = read32(&flow->target_slot);
  const uint32_t target_id = read32(&flow->target_id);
  *deltas_of(p) = deltas_in(flow);
  const struct mr_target* target = target_at(p->root, p->target_slot);
  p->target = target != 0 && target->id == target_id ? target : 0;
  return load_state_word(flow) == p->word;
}

// A SYN on a known flow goes to the flow's target (rules/known_rule.h).
INLINE void open_again(struct packet* p, struct mr_flow_record* flow, uint32_t word) {
  const struct mr_target* target = p->target;
  const uint32_t flags = mr_flags_of_syn_again(word >> STATE_SHIFT);
  count(p->cpu, MR_COUNTER_FLOW_HITS);
  if (flags != 0) set_flags(flow, flags);
  // The group's forwarding may have changed since.
  set_deltas(p, p->listener, target);
  store32(&flow->ip_checksum_delta, *deltas_of(p));
  if ((target->flags & MR_TARGET_DRAINING) != 0) {
    count_packet(p, flow);
  } else {
    account(p, flow);
  }
}

enum {
  RESET_SENDER = -5,  // what end_late() says of a segment that is to be answered with a RST
};

// A segment of an expired flow. Returns a verdict, RESET_SENDER, or SEND_TO_TARGET when the packet
// is a RST now that goes on to the other side. The caller answers, since one more call from here
// would take too much stack.
OUT_OF_LINE int end_late(struct xdp_md* ctx, struct packet* p, struct mr_flow_record* flow,
                         _Bool is_reachable, uint32_t told) {
  const uint8_t* frame = packet_start(ctx);
  const _Bool is_whole = has_room(frame, MR_ETH_BYTES + MR_IPV4_BYTES, packet_end(ctx));
  if (flow == 0 || !is_whole) return drop(p, MR_DROP_NO_LISTENER);
  // A RST in its place would have its hops.
  if (hops_left(frame, p->is_v4) < 2) is_reachable = 0;
  if (!mr_tells_other_side(p->tcp_flags, flags_of(flow), told, is_reachable)) {
    return RESET_SENDER;
  }
  if (!take(p, &p->cpu->resets_left)) return drop(p, MR_DROP_RATE_LIMITED);
  set_flags(flow, told);
  count_own_reset(p, flow->listener_slot);
  return become_reset(ctx, p) ? SEND_TO_TARGET : drop(p, MR_DROP_BAD_L4);
}

// What becomes of a packet to the flow that load_target() looked at: enum mr_revisit. It is a
// function of its own because it needs memory: a function and its callers have 512 bytes together.
OUT_OF_LINE int what_becomes(const struct packet* p, struct mr_flow_record* flow) {
  const struct mr_target* target = p->target;
  if (flow == 0 || p->listener == 0) return MR_REVISIT_START_OVER;
  const struct mr_known_packet known = {
      .state = p->word >> STATE_SHIFT,
      .flags = flags_of(flow),
      .protocol = p->protocol,
      .tcp_flags = p->tcp_flags,
      .target_flags = target != 0 ? target->flags : 0,
      .sees_replies = target != 0 && mr_sees_replies(target->forwarding),
      .is_quiet = is_silent(p, flow, p->listener->timeout_ticks[MR_FLOW_TIMEOUT_RESET])};
  return mr_revisit_of(known);
}

// A packet to a VIP whose flow is known but does not simply go on. The flow is opening, closing,
// idle for too long, one of several to one target, or without a usable target. START: a new flow is
// to begin.
OUT_OF_LINE int revisit_flow(struct xdp_md* ctx, struct packet* p, struct mr_flow_record* flow,
                             uint64_t last_hop) {
  if (flow == 0 || p->listener == 0) return drop(p, MR_DROP_NO_LISTENER);
  look_at_segment(ctx, p);
  expire_if_idle(p, flow, p->listener, load_state_word(flow));
  p->has_sibling = 1;  // perhaps
  // The record changed again and again, or is another flow's by now. A flow is looked for or made
  // anew.
  const _Bool is_other = (!load_target(p, flow) && !load_target(p, flow)) ||
                         !is_of_client(p, flow, p->word) ||
                         listener_word_of(flow) != p->listener_word;
  const uint32_t word = p->word;
  const struct mr_target* target = p->target;
  const int what = is_other ? (int)MR_REVISIT_START_OVER : what_becomes(p, flow);
  if (what == MR_REVISIT_END_LATE) {
    const _Bool is_reachable = target != 0 && (target->next_hop.flags & MR_NEXT_HOP_RESOLVED) != 0;
    const int done = end_late(ctx, p, flow, is_reachable, MR_FLOW_TOLD_TARGET);
    return done == RESET_SENDER ? answer_with_reset(ctx, p, flow->listener_slot) : done;
  }
  if (what == MR_REVISIT_RESET) {
    // The other side gets its RST when it speaks.
    if (expire_flow(p, flow, word)) set_flags(flow, MR_FLOW_TOLD_BOTH);
    return answer_with_reset(ctx, p, flow->listener_slot);
  }
  if (what == MR_REVISIT_START_OVER || target == 0) {  // the latter for the verifier
    if (is_of_client(p, flow, word)) forget_flow(p, flow, word);
    return START;
  }
  // Of before the group's forwarding changed.
  if (!mr_sees_replies(target->forwarding)) flow->target_ack_be = 0;
  if (what == MR_REVISIT_OPEN_AGAIN) open_again(p, flow, word);
  if ((flags_of(flow) & MR_FLOW_SHARED) != 0) claim_replies(p, flow);
  if (what == MR_REVISIT_OPEN_AGAIN) return SEND_TO_TARGET;
  count(p->cpu, MR_COUNTER_FLOW_HITS);
  track(p, flow, word, 1);
  if (mr_shows_last_hop(p->tcp_flags) && last_hop_at(flow->last_hop) != last_hop) {
    flow->last_hop = learn_last_hop(p, last_hop);
  }
  account(p, flow);
  return SEND_TO_TARGET;
}

// ---- the maximum segment size

// Lowers what a SYN announces to `mss_max`, as core/mss.h does. `tcp_at` is the header's offset in
// the frame.
VERIFIED_ONCE int lower_mss(struct xdp_md* ctx, uint32_t tcp_at, uint32_t mss_max) {
  const uint8_t* end = packet_end(ctx);
  uint8_t* tcp = packet_start(ctx) + (tcp_at & 63);
  if (!has_room(tcp, MR_TCP_BYTES, end)) return 0;
  const uint32_t header_bytes = mr_tcp_header_bytes(tcp[MR_TCP_DATA_OFFSET]);
  uint32_t at = (MR_TCP_BYTES + unknown_zero()) & 63;
#pragma clang loop unroll(disable)
  for (uint32_t count = 0; count < MR_TCP_OPTIONS_BYTES_MAX; ++count) {
    if (at + MR_TCP_MSS_BYTES > header_bytes) break;
    uint8_t* option = tcp + at;
    if (!has_room(option, MR_TCP_MSS_BYTES, end)) break;
    const uint32_t step = mr_tcp_option_bytes(option[0], option[1], header_bytes - at);
    if (step == 0) break;
    const uint16_t old_be = load16(option + 2);
    if (option[0] == MR_TCP_OPTION_MSS && step == MR_TCP_MSS_BYTES && bpf_ntohs(old_be) > mss_max) {
      const uint16_t new_be = bpf_htons((uint16_t)mss_max);
      store16(option + 2, new_be);
      store16(tcp + MR_TCP_CHECKSUM,
              mr_updated_checksum(load16(tcp + MR_TCP_CHECKSUM),
                                  mr_mss_delta(old_be, new_be, (at & 1) != 0)));
    }
    at = (at + step) & 63;
  }
  return 0;
}

// Of a SYN of the target. A packet that has no hop left is quoted as it came.
INLINE void clamp_mss_of_target(struct xdp_md* ctx, const struct packet* p,
                                const struct mr_target* target) {
  if ((p->tcp_flags & MR_TCP_SYN) == 0 || target == 0 || target->mss_max == 0) return;
  const uint8_t* frame = packet_start(ctx);
  if (!has_room(frame, MR_ETH_BYTES + MR_IPV4_BYTES, packet_end(ctx))) return;
  if (hops_left(frame, p->is_v4) < 2) return;
  lower_mss(ctx, l4_offset(p->is_v4), target->mss_max);
}

// Likewise of a client, whose packets are also quoted when they are too large.
INLINE void clamp_mss_of_client(struct xdp_md* ctx, const struct packet* p,
                                const struct mr_target* target) {
  const _Bool is_told = target != 0 && p->ip_bytes > target->mtu && control.has_merged_frames == 0;
  if (!is_told) clamp_mss_of_target(ctx, p, target);
}

// A packet to a VIP's listener that does not belong to a known flow that goes on. `flow` is the
// flow that it may belong to, or null.
OUT_OF_LINE int forward_in_doubt(struct xdp_md* ctx, struct packet* p, struct mr_flow_record* flow,
                                 uint64_t last_hop) {
  int done = REVISIT;
  if (flow == 0) {
    done = start_flow(p, last_hop, (p->tcp_flags & MR_TCP_SYN) != 0);
    flow = p->known_flow;
  }
  if (done == REVISIT) done = revisit_flow(ctx, p, flow, last_hop);
  if (done == START) done = start_flow(p, last_hop, 0);
  if (done == SEND_TO_TARGET) clamp_mss_of_client(ctx, p, p->target);
  return done;
}
