// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Packets towards clients whose flow is in doubt: core/forwarder_reply.cc for the other engine. The
// flow does not simply go on, or there are several flows that it could be, or there is none. HOT (a
// few packets of each flow).
#pragma once

#include "bpf/known.bpf.h"
#include "dataplane/rules/vip_rule.h"

// The listener of a flow, or null when it no longer exists. Also reads what a reply needs of the
// flow.
INLINE const struct mr_listener* load_listener(struct packet* p, struct mr_flow_record* flow) {
  p->listener_word = listener_word_of(flow);
  const struct mr_listener* listener = listener_at(p->root, (uint16_t)p->listener_word);
  *deltas_of(p) = deltas_in(flow);
  p->last_hop = read16(&flow->last_hop);
  return listener != 0 && listener->id == listener_id_of(p->listener_word) ? listener : 0;
}

// Likewise, but null if it has several ports.
INLINE const struct mr_listener* load_exact_listener(struct packet* p,
                                                     struct mr_flow_record* flow) {
  const struct mr_listener* listener = listener_at(p->root, read16(&flow->listener_slot));
  const uint64_t word = listener_word_of(flow);
  *deltas_of(p) = deltas_in(flow);
  p->last_hop = read16(&flow->last_hop);
  return listener != 0 && load64(&listener->slot) == word ? listener : 0;
}

// The neighbour to send a client's packets to: its MAC address, then the nic, then bits that do not
// matter; NO_HOP when there is none.
static const uint64_t NO_HOP = 0;
INLINE uint64_t client_hop(const struct packet* p, _Bool is_v4) {
  const uint64_t learned = last_hop_at(p->last_hop);
  if (LIKELY((learned & LAST_HOP_IN_USE) != 0)) return learned;
  const struct mr_next_hop* fallback =
      is_v4 ? &p->root->default_next_hop_v4 : &p->root->default_next_hop_v6;
  return (fallback->flags & MR_NEXT_HOP_RESOLVED) != 0 ? load64(fallback->mac) : NO_HOP;
}

enum {
  UNSERVED = -4,  // what is said of packets to a VIP that no listener is for
};

// A packet to a VIP's port without a listener, which belongs to no flow and whose source is no
// martian: what the VIP's flags say becomes of it.
OUT_OF_LINE int handle_unserved(struct xdp_md* ctx, struct packet* p) {
  const uint32_t vip_flags = find_vip_flags(p->root_index, p->destination);
  const _Bool is_forged =
      mr_asks_for_source(vip_flags) && is_no_client(p, p->source.low, p->source.high);
  const enum mr_no_listener what = mr_no_listener_of(
      vip_flags, p->protocol, p->tcp_flags, is_forged ? MR_SOURCE_MARTIAN : MR_SOURCE_FINE);
  if (what == MR_NO_LISTENER_DROP) return drop(p, MR_DROP_NO_LISTENER);
  if (what == MR_NO_LISTENER_FORGED) return drop(p, MR_DROP_MARTIAN);
  if (what == MR_NO_LISTENER_PUNT) return punt(ctx, p);
  if (!is_answered(ctx, p)) return drop(p, MR_DROP_NO_LISTENER);
  if (!take(p, &p->cpu->refusals_left)) return drop(p, MR_DROP_RATE_LIMITED);
  count(p->cpu, MR_COUNTER_REFUSALS_SENT);
  if (what == MR_NO_LISTENER_RESET) {
    count(p->cpu, MR_COUNTER_RST_SENT);
    return turn_into_reset(ctx, p);
  }
  p->own = p->destination;
  const uint32_t head = p->is_v4 ? MR_ICMPV4_UNREACHABLE | MR_ICMPV4_PORT_UNREACHABLE << 8
                                 : MR_ICMPV6_UNREACHABLE | MR_ICMPV6_PORT_UNREACHABLE << 8;
  return answer_with_error(ctx, p, head, 0);
}

// A packet that is no reply is the kernel's. An ICMP error is dropped instead: the kernel would
// send it to the client with the target's own address in it.
INLINE int leave(struct xdp_md* ctx, struct packet* p, _Bool is_error) {
  return is_error ? drop(p, MR_DROP_ICMP) : punt(ctx, p);
}

// A packet from a target to a client that has no flow (rules/known_rule.h). Returns a verdict,
// UNSERVED, or SEND_TO_TARGET with p->listener, p->target and the deltas set. Here the last means:
// send it to the client.
OUT_OF_LINE int judge_flowless(struct xdp_md* ctx, struct packet* p, _Bool is_error) {
  if (p->root->generation == 0) return leave(ctx, p, is_error);
  if (is_vip(p->root_index, p->destination.low, p->destination.high)) return UNSERVED;
  const uint64_t found =
      find_reverse(p->root_index, p->source.low, p->source.high, p->source_port_be, p->protocol);
  const struct mr_target* target = found == NO_TARGET ? 0 : target_at(p->root, (uint32_t)found);
  if (target == 0) return leave(ctx, p, is_error);
  const uint32_t listener_slot = (uint32_t)(found >> 32);
  const struct mr_flowless_packet packet = {
      .tcp_flags = p->tcp_flags,
      .target_flags = target->flags,
      .is_to_no_client = mr_is_no_clients(p->destination.low, p->destination.high) ||
                         is_local(p->root_index, p->destination.low, p->destination.high),
      .had_no_room = found_no_room(p->hash),
      .is_ambiguous = listener_slot == MR_TABLE_EMPTY};
  const enum mr_flowless_reply what = mr_flowless_reply_of(packet);
  if (what == MR_FLOWLESS_PUNT) return leave(ctx, p, is_error);
  if (what == MR_FLOWLESS_DROP) return drop(p, MR_DROP_NO_FLOW);
  const struct mr_listener* listener = listener_at(p->root, listener_slot);
  if (listener == 0 || listener->id == 0 || target->id == 0) return leave(ctx, p, is_error);
  if (!is_error) count(p->cpu, MR_COUNTER_UNTRACKED_PACKETS);
  p->listener = listener;
  // The port of the target is the one that was asked for where that is not the listener's only one.
  p->listener_word = load64(&listener->slot);
  if (target->port_be == 0) p->listener_word |= (uint64_t)p->source_port_be << 16;
  p->target = target;
  p->last_hop = 0;
  set_deltas(p, listener, target);
  return SEND_TO_TARGET;
}

// Moves a flow that `prev` does not know to `cur`. False when it is there already.
OUT_OF_LINE _Bool move_orphan(struct packet* p, struct mr_flow_record* flow,
                              const struct mr_listener* listener) {
  if (flow == 0 || listener == 0) return 0;
  p->listener_word = listener_word_of(flow);
  const uint32_t target_slot = (uint32_t)choose_for(p, 0);
  const struct mr_target* target = target_at(p->root, target_slot);
  if (target == 0 || target_slot == flow->target_slot) return 0;
  // No other CPU may see half of the change.
  const uint32_t word = p->word;
  if (!change_state(flow, word, MR_XDP_FLOW_BUSY)) return 0;
  clear_flags(flow, MR_FLOW_ORPHAN_PREV | MR_FLOW_NO_PORT);
  if (target->port_be == 0) set_flags(flow, MR_FLOW_NO_PORT);
  p->target = target;
  p->target_slot = target_slot;
  set_deltas(p, listener, target);
  bind_flow(p, flow);
  publish(p, flow, word >> STATE_SHIFT);
  claim_replies(p, flow);
  count(p->cpu, MR_COUNTER_ORPHANS_MOVED);
  return 1;
}

// The target answers with SYN and ACK. False when it must not have the connection.
INLINE _Bool accept_again(struct packet* p, struct mr_flow_record* flow) {
  const struct mr_target* target = target_at(p->root, flow->target_slot);
  const _Bool is_draining =
      target != 0 && target->id == flow->target_id && (target->flags & MR_TARGET_DRAINING) != 0;
  const enum mr_accept what = mr_accept_of(p->word >> STATE_SHIFT, flags_of(flow), is_draining);
  if (what != MR_ACCEPT_AGAIN) return what != MR_ACCEPT_REFUSED;
  if (!change_state(flow, p->word, MR_FLOW_SYN)) return 1;
  clear_flags(flow, MR_FLOW_OF_CONNECTION);
  p->word = (p->word & KEY_MASK) | MR_FLOW_SYN << STATE_SHIFT;
  return 1;
}

// An answer of the target.
INLINE void note_reply(struct packet* p, struct mr_flow_record* flow) {
  const uint32_t state = load_state_word(flow) >> STATE_SHIFT;
  const uint32_t flags = mr_flags_of_reply(state, p->tcp_flags);
  if ((flags_of(flow) & flags) != flags) set_flags(flow, flags);
}

// A packet to no listener. `flow` is the flow that it seems to be a reply of, or null. Returns a
// verdict, UNSERVED, or SEND_TO_TARGET with p->listener set: it goes to the client. Then
// p->known_flow is its flow, if it has one.
OUT_OF_LINE int revisit_reply(struct xdp_md* ctx, struct packet* p, struct mr_flow_record* flow) {
  if (flow == 0) return judge_flowless(ctx, p, 0);
  if ((flags_of(flow) & MR_FLOW_SHARED) != 0) {
    ask_about(p, p->source, p->source_port_be);
    const _Bool opens = (p->tcp_flags & MR_TCP_SYN) != 0;
    const uint32_t best = best_of_shared(p->cpu_index, opens);
    flow = best == NO_RECORD ? 0 : record_at(best);
    if (flow == 0) return judge_flowless(ctx, p, 0);
    p->word = load_state_word(flow);
    if (!is_any_reply_of(p, flow, p->word)) return judge_flowless(ctx, p, 0);
  }
  p->listener = load_listener(p, flow);
  if (p->listener == 0) return judge_flowless(ctx, p, 0);
  look_at_segment(ctx, p);
  const _Bool is_tcp = p->protocol == MR_PROTOCOL_TCP;
  expire_if_idle(p, flow, p->listener, p->word);
  const uint32_t now = load_state_word(flow);
  if (!is_any_reply_of(p, flow, now)) return judge_flowless(ctx, p, 0);  // another CPU has ended it
  p->word = now;
  if (now >> STATE_SHIFT == MR_FLOW_EXPIRED) {
    if (!is_tcp) return judge_flowless(ctx, p, 0);
    const int done = end_late(ctx, p, flow, 1, MR_FLOW_TOLD_CLIENT);
    return done == RESET_SENDER ? answer_with_reset(ctx, p, flow->listener_slot) : done;
  }
  if (mr_disowns_orphan(flags_of(flow), p->tcp_flags) && move_orphan(p, flow, p->listener)) {
    return drop(p, MR_DROP_UNWANTED_RST);
  }
  if ((p->tcp_flags & MR_TCP_SYN) != 0 && !accept_again(p, flow)) {
    forget_flow(p, flow, p->word);
    return answer_with_reset(ctx, p, flow->listener_slot);
  }
  count(p->cpu, MR_COUNTER_FLOW_HITS);
  track(p, flow, p->word, 0);
  note_reply(p, flow);
  account(p, flow);
  p->target = target_at(p->root, read32(&flow->target_slot));
  p->known_flow = flow;
  return SEND_TO_TARGET;
}

// Likewise, ready to be sent.
OUT_OF_LINE int reply_in_doubt(struct xdp_md* ctx, struct packet* p, struct mr_flow_record* flow) {
  p->target = 0;
  p->known_flow = 0;
  const int done = revisit_reply(ctx, p, flow);
  if (done == SEND_TO_TARGET) clamp_mss_of_target(ctx, p, p->target);
  return done;
}
