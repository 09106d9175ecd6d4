// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// A flow's first packet: core/forwarder_flows.cc for the other engine. HOT (once per flow).
#pragma once

#include "bpf/claim.bpf.h"
#include "bpf/siblings.bpf.h"

// What a slow path returns when it is not the end: the packet is to be sent to p->target, is one of
// p->known_flow, or begins a flow. Every other value is final.
enum {
  SEND_TO_TARGET = 0,
  REVISIT = -1,
  START = -2,
};

// `has_replies`: those of the target pass this node.
INLINE uint32_t first_state(const struct packet* p, _Bool has_replies) {
  if (p->protocol == IPPROTO_UDP) return has_replies ? MR_FLOW_UDP_NEW : MR_FLOW_UDP;
  if ((p->tcp_flags & TCP_FIN_BIT) != 0) return MR_FLOW_CLOSING;
  return (p->tcp_flags & TCP_SYN_BIT) != 0 ? MR_FLOW_SYN : MR_FLOW_ESTABLISHED;
}

// What translation adds to both checksums, for p->listener and p->target.
INLINE void set_deltas(struct packet* p, const struct mr_listener* listener,
                       const struct mr_target* target) {
  const uint64_t vip = sum_of_addr(&listener->vip_addr);
  const uint64_t addr = sum_of_addr(&target->addr);
  p->ip_delta = checksum_delta(vip, addr);
  p->l4_delta = checksum_delta(vip + listener->port_be, addr + target->port_be);
}

INLINE void bind_flow(struct packet* p, struct mr_flow_record* flow) {
  flow->target_slot = p->target_slot;
  flow->target_id = p->target->id;
  flow->ip_checksum_delta = p->ip_delta;
  flow->l4_checksum_delta = p->l4_delta;
  struct mr_target_stats* stats = target_stats_of(p, p->target_slot);
  if (stats != 0) stats->new_flows += 1;
}

// By lookup table alone. `is_refused`: it should have a record.
INLINE int forward_untracked(struct packet* p, _Bool is_refused) {
  const _Bool is_resolved = (p->target->next_hop.flags & MR_NEXT_HOP_RESOLVED) != 0;
  if (is_refused) {
    count(p->cpu, MR_COUNTER_INSERT_REFUSED);
    if (p->target->forwarding == MR_FORWARDING_NAT) remember_no_room(p->hash);
  }
  if (is_resolved) count(p->cpu, MR_COUNTER_UNTRACKED_PACKETS);
  struct mr_target_stats* stats = target_stats_of(p, p->target_slot);
  if (stats != 0) {
    stats->packets += 1;
    stats->bytes += p->ip_bytes;
  }
  return SEND_TO_TARGET;
}

// Within the budget of this millisecond.
INLINE struct mr_flow_record* claim_for(struct packet* p, const struct mr_listener* listener,
                                        uint32_t state) {
  const _Bool is_in_the_middle = state == MR_FLOW_ESTABLISHED || state == MR_FLOW_CLOSING;
  if (!take(p, &p->cpu->inserts_left)) return 0;
  return claim(p, listener->id, is_in_the_middle ? MR_XDP_PROBE_MAX : MR_XDP_PROBE_UNCONFIRMED_MAX);
}

// Another CPU has entered the flow since it was looked for: it is one flow, with that one's target.
// False when that is over already.
INLINE _Bool join_flow(struct packet* p, struct mr_flow_record* flow) {
  const uint32_t word = load_state_word(flow);
  const uint32_t target_slot = read32(&flow->target_slot);
  const uint32_t target_id = read32(&flow->target_id);
  const uint32_t deltas = deltas_in(flow);
  const struct mr_target* target = target_at(p->root, target_slot);
  if (target == 0 || target->id != target_id || !is_of_client(p, flow, word) ||
      load_state_word(flow) != word) {
    return 0;
  }
  p->target = target;
  p->target_slot = target_slot;
  *deltas_of(p) = deltas;
  count(p->cpu, MR_COUNTER_FLOW_HITS);
  account(p, flow);
  return 1;
}

// Of the flows of the packet's client to p->target, address and port, the client has just used this
// one: answers are its own. Marks them all, so that known flows without a double need not ask.
OUT_OF_LINE int claim_replies(struct packet* p, struct mr_flow_record* flow) {
  const struct mr_target* target = p->target;
  if (flow == 0 || target == 0 || p->listener == 0) return 0;
  ask_about(p, words_at(target->addr.bytes), target->port_be, p->listener->id);
  const _Bool is_shared = mark_siblings(p->cpu_index) != 0;
  clear_flags(flow, MR_FLOW_SHARED | MR_FLOW_ASKED);
  if (is_shared) set_flags(flow, MR_FLOW_SHARED | MR_FLOW_ASKED);
  return 0;
}

INLINE void count_new_flow(struct packet* p, uint64_t choice) {
  count(p->cpu, MR_COUNTER_FLOW_INSERTED);
  if ((choice & IS_ORPHAN) != 0) count(p->cpu, MR_COUNTER_ORPHANS_TO_PREV);
  struct mr_listener_stats* stats = listener_stats_of(p, p->listener_slot);
  if (stats == 0) return;
  stats->new_flows += 1;
  if ((choice & FAILS_OPEN) != 0) stats->unhealthy_routing_flows += 1;
}

// Sources that begin no flow, but for those that parsing refuses. The node's own are forged: a flow
// from one would take the answers to probes from the kernel.
INLINE _Bool is_no_client(const struct packet* p) {
  const struct addr_words source = p->source;
  const _Bool is_link_local = (source.low & 0xc0ff) == 0x80fe;  // RFC 4291 section 2.5.6
  return is_link_local ||
         (may_be_vip(p->root, source) && is_vip(p->root_index, source.low, source.high)) ||
         is_local(p->root_index, source.low, source.high);
}

// The first packet of a flow that this node sees. With `may_be_known` that is yet to be found out:
// a SYN's target is chosen while the record's line comes from memory, which takes longer.
OUT_OF_LINE int start_flow(struct packet* p, uint64_t last_hop, _Bool may_be_known) {
  const struct mr_listener* listener = p->listener;
  if (listener == 0) return drop(p, MR_DROP_NO_LISTENER);
  if (may_be_known) fetch_record(p);
  const _Bool is_tcp = p->protocol == IPPROTO_TCP;
  const _Bool is_syn = (p->tcp_flags & TCP_SYN_BIT) != 0;
  const uint64_t choice = choose_for(p, is_tcp && !is_syn);
  if (may_be_known) {
    p->known_flow = find_to_listener(p, listener->id);
    if (p->known_flow != 0) return REVISIT;
  }
  if (is_no_client(p)) return drop(p, MR_DROP_MARTIAN);
  const struct mr_target* target = target_at(p->root, (uint32_t)choice);
  if (target == 0) {
    struct mr_listener_stats* stats = listener_stats_of(p, p->listener_slot);
    if (stats != 0) stats->rejected_flows += 1;
    return drop(p, MR_DROP_NO_TARGET);
  }
  // With the client's address kept, a target that is its own client would hear from itself.
  if (target->forwarding == MR_FORWARDING_NAT &&
      is_same_addr(words_at(target->addr.bytes), p->source)) {
    return drop(p, MR_DROP_MARTIAN);
  }
  p->target = target;
  p->target_slot = (uint32_t)choice;
  set_deltas(p, listener, target);
  // A RST ends what this node does not know: pass it on, remember nothing.
  const _Bool is_worth_tracking =
      (p->tcp_flags & TCP_RST_BIT) == 0 && (target->next_hop.flags & MR_NEXT_HOP_RESOLVED) != 0;
  const _Bool is_nat = target->forwarding == MR_FORWARDING_NAT;
  const uint32_t state = first_state(p, is_nat);
  p->known_flow = 0;
  struct mr_flow_record* flow = is_worth_tracking ? claim_for(p, listener, state) : 0;
  if (flow == 0) {
    if (p->known_flow != 0 && join_flow(p, p->known_flow)) return SEND_TO_TARGET;
    return forward_untracked(p, is_worth_tracking);
  }
  flow->listener_slot = p->listener_slot;
  flow->listener_id = listener->id;
  uint32_t flags = (choice & IS_ORPHAN) != 0 ? MR_FLOW_ORPHAN_PREV : 0;
  if (state == MR_FLOW_CLOSING) flags |= MR_FLOW_FIN_CLIENT;
  *flags_word(flow) = learn_last_hop(p, last_hop) | flags << FLAGS_SHIFT;
  bind_flow(p, flow);
  if (is_nat && p->has_sibling) claim_replies(p, flow);
  count_new_flow(p, choice);
  publish(p, flow, state);
  return SEND_TO_TARGET;
}
