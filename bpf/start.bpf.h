// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// A flow's first packet: core/forwarder_flows.cc for the other engine. HOT (once per flow).
#pragma once

#include "bpf/claim.bpf.h"
#include "bpf/siblings.bpf.h"
#include "dataplane/rules/choice_rule.h"
#include "dataplane/rules/step_rule.h"

// What a slow path returns if it has not decided finally: the packet is to be sent to p->target, or
// belongs to p->known_flow, or begins a flow. Every other value is a verdict.
enum {
  SEND_TO_TARGET = 0,
  REVISIT = -1,
  START = -2,
};

// What translation adds to both checksums, for p->listener and p->target.
INLINE void set_deltas(struct packet* p, const struct mr_listener* listener,
                       const struct mr_target* target) {
  const uint16_t vip_port_be = vip_port_be_of(p, listener);
  const struct mr_nat_deltas deltas =
      mr_nat_deltas_of(sum_of_addr(&listener->vip_addr), vip_port_be, sum_of_addr(&target->addr),
                       mr_target_port_be_of(target->port_be, vip_port_be));
  p->ip_delta = deltas.ip;
  p->l4_delta = deltas.l4;
}

INLINE void bind_flow(struct packet* p, struct mr_flow_record* flow) {
  flow->target_slot = p->target_slot;
  flow->target_id = p->target->id;
  flow->ip_checksum_delta = p->ip_delta;
  flow->l4_checksum_delta = p->l4_delta;
  struct mr_target_stats* stats = target_stats_of(p->cpu_index, p->target_slot);
  if (stats != 0) stats->new_flows += 1;
}

// Forwards the packet by the lookup table alone. `is_refused`: the flow should have had a record.
INLINE int forward_untracked(struct packet* p, _Bool is_refused) {
  const _Bool is_resolved = (p->target->next_hop.flags & MR_NEXT_HOP_RESOLVED) != 0;
  if (is_refused) {
    count(p->cpu, MR_COUNTER_INSERT_REFUSED);
    if (mr_sees_replies(p->target->forwarding)) remember_no_room(p->hash);
  }
  if (is_resolved) count(p->cpu, MR_COUNTER_UNTRACKED_PACKETS);
  struct mr_target_stats* stats = target_stats_of(p->cpu_index, p->target_slot);
  if (stats != 0) {
    stats->packets += 1;
    stats->bytes += p->ip_bytes;
  }
  return SEND_TO_TARGET;
}

// Takes one from the budget of this millisecond.
INLINE struct mr_flow_record* claim_for(struct packet* p, uint32_t state) {
  const _Bool is_in_the_middle = state == MR_FLOW_ESTABLISHED || state == MR_FLOW_CLOSING;
  if (!take(p, &p->cpu->inserts_left)) return 0;
  return claim(p, is_in_the_middle ? MR_XDP_PROBE_MAX : MR_XDP_PROBE_UNCONFIRMED_MAX);
}

// Another CPU has entered the flow since it was looked for. It is one flow, so the packet goes to
// that flow's target. False when that flow is over already.
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

// The packet's client may have several flows to the address and port of p->target. It has just used
// this one, so answers belong to it. Marks all of them, so that other known flows need not look for
// doubles.
OUT_OF_LINE int claim_replies(struct packet* p, struct mr_flow_record* flow) {
  const struct mr_target* target = p->target;
  if (flow == 0 || target == 0 || p->listener == 0) return 0;
  ask_about(p, words_at(target->addr.bytes),
            mr_target_port_be_of(target->port_be, vip_port_be_of(p, p->listener)));
  const _Bool is_shared = mark_siblings(p->cpu_index) != 0;
  clear_flags(flow, MR_FLOW_SHARED | MR_FLOW_ASKED);
  if (is_shared) set_flags(flow, MR_FLOW_SHARED | MR_FLOW_ASKED);
  return 0;
}

INLINE void count_new_flow(struct packet* p, uint64_t choice) {
  count(p->cpu, MR_COUNTER_FLOW_INSERTED);
  if ((choice & IS_ORPHAN) != 0) count(p->cpu, MR_COUNTER_ORPHANS_TO_PREV);
  struct mr_listener_stats* stats = listener_stats_of(p->cpu_index, p->listener_word);
  if (stats == 0) return;
  stats->new_flows += 1;
  if ((choice & FAILS_OPEN) != 0) stats->unhealthy_routing_flows += 1;
}

// Martians were refused when the packet was parsed.
INLINE _Bool is_no_client(const struct packet* p, uint64_t low, uint64_t high) {
  const struct addr_words source = {low, high};
  const _Bool is_source_vip = may_be_vip(p->root, source) && is_vip(p->root_index, low, high);
  const _Bool is_node = is_local(p->root_index, low, high);
  return mr_source_fault_of(low, is_source_vip, is_node, 0) != MR_SOURCE_FINE;
}

// The first packet of a flow that this node sees. With `may_be_known` it is not certain yet that it
// is: the target of a SYN is chosen while the record's line comes from memory, which takes longer.
OUT_OF_LINE int start_flow(struct packet* p, uint64_t last_hop, _Bool may_be_known) {
  const struct mr_listener* listener = p->listener;
  if (listener == 0) return drop(p, MR_DROP_NO_LISTENER);
  if (may_be_known) fetch_record(p);
  const uint64_t choice = choose_for(p, mr_may_be_orphan(p->protocol, p->tcp_flags));
  if (may_be_known) {
    p->known_flow = find_to_listener(p);
    if (p->known_flow != 0) return REVISIT;
  }
  if (is_no_client(p, p->source.low, p->source.high)) return drop(p, MR_DROP_MARTIAN);
  const struct mr_target* target = target_at(p->root, (uint32_t)choice);
  if (target == 0) {
    struct mr_listener_stats* stats = listener_stats_of(p->cpu_index, p->listener_word);
    if (stats != 0) stats->rejected_flows += 1;
    return drop(p, MR_DROP_NO_TARGET);
  }
  if (mr_refuses_own_client(target->forwarding) &&
      is_same_addr(words_at(target->addr.bytes), p->source)) {
    return drop(p, MR_DROP_MARTIAN);
  }
  p->target = target;
  p->target_slot = (uint32_t)choice;
  set_deltas(p, listener, target);
  const _Bool is_worth_tracking = mr_is_worth_a_record(p->tcp_flags, target->next_hop.flags);
  const _Bool has_replies = mr_sees_replies(target->forwarding);
  const uint32_t state = mr_first_state(p->protocol, p->tcp_flags, has_replies);
  p->known_flow = 0;
  struct mr_flow_record* flow = is_worth_tracking ? claim_for(p, state) : 0;
  if (flow == 0) {
    if (p->known_flow != 0 && join_flow(p, p->known_flow)) return SEND_TO_TARGET;
    return forward_untracked(p, is_worth_tracking);
  }
  store64(&flow->listener_slot, p->listener_word);
  const uint32_t no_port = target->port_be == 0 ? (uint32_t)MR_FLOW_NO_PORT : 0u;
  const uint32_t flags = mr_first_flags(state, (choice & IS_ORPHAN) != 0) | no_port;
  *flags_word(flow) = learn_last_hop(p, last_hop) | flags << FLAGS_SHIFT;
  bind_flow(p, flow);
  if (has_replies && p->has_sibling) claim_replies(p, flow);
  count_new_flow(p, choice);
  publish(p, flow, state);
  return SEND_TO_TARGET;
}
