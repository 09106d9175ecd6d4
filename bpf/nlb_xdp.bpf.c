// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// The XDP engine's packet path: the same verdict, bytes and target for the same packet as
// dataplane/core/forwarder.cc, in the same order of checks. HOT.
//
//   maps.bpf.h      what daemon and program share        packet.bpf.h  one packet, its verdicts
//   parse.bpf.h     frame -> fields                      config.bpf.h  listeners, targets, choice
//   flows.bpf.h     flow table, TCP state                rewrite.bpf.h translation, encapsulation
//   answer.bpf.h    ARP, ND, echo, RST, "too big"
//   link.bpf.h      whose MAC address, priority tags
//
// Known flows take no call and, but for the redirect to another nic and the room for an outer
// header, no helper that the kernel does not inline.
#include "bpf/answer.bpf.h"
#include "bpf/flows.bpf.h"
#include "bpf/link.bpf.h"
#include "bpf/parse.bpf.h"

enum {
  TRACKED_TCP_FLAGS = (TCP_SYN_BIT | TCP_FIN_BIT | TCP_RST_BIT),
};
// What a slow path returns when it is not the end: the packet is to be sent to p->target, or is one
// of p->known_flow. Every other value is final.
enum {
  SEND_TO_TARGET = 0,
  REVISIT = -1,
};

// ---- towards a target

INLINE int send_to_target(struct xdp_md* ctx, struct packet* p, _Bool is_v4) {
  const struct mr_target* target = p->target;
  if (target == 0) return drop(p, MR_DROP_NO_TARGET);  // for the verifier
  if (UNLIKELY((target->next_hop.flags & MR_NEXT_HOP_RESOLVED) == 0)) {
    struct mr_target_stats* stats = target_stats_of(p, p->target_slot);
    if (stats != 0) stats->unresolved_packets += 1;
    return drop(p, MR_DROP_NEXT_HOP_UNRESOLVED);
  }
  if (UNLIKELY(target->next_hop.nic >= control.nic_count)) return drop(p, MR_DROP_NO_NIC);
  const uint8_t forwarding = target->forwarding;
  if (forwarding == MR_FORWARDING_NAT) return translate_to_target(ctx, p, target, is_v4);
  if (forwarding == MR_FORWARDING_DSR) return redirect_to_target(ctx, p, target);
  const _Bool is_gue = forwarding == MR_FORWARDING_GUE;
  const struct mr_addr* source = is_v4 ? &p->root->encap_source_v4 : &p->root->encap_source_v6;
  if ((load64(source->bytes) | load64(source->bytes + 8)) == 0) {
    return drop(p, MR_DROP_NO_ENCAP_SOURCE);
  }
  const uint32_t overhead = encap_overhead(is_v4, is_gue);
  if (UNLIKELY(target->mtu != 0 && p->ip_bytes + overhead > target->mtu)) {
    return answer_too_big(ctx, p, target->mtu > overhead ? target->mtu - overhead : 0);
  }
  return is_gue ? encapsulate(ctx, p, target, is_v4, 1) : encapsulate(ctx, p, target, is_v4, 0);
}

// ---- new flows, and known ones that do not simply go on

INLINE uint32_t first_state(const struct packet* p) {
  if (p->protocol == IPPROTO_UDP) return MR_FLOW_UDP;
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

INLINE int forward_untracked(struct packet* p, _Bool is_worth_tracking, _Bool is_resolved) {
  if (is_worth_tracking) count(p->cpu, MR_COUNTER_INSERT_REFUSED);
  if (is_resolved) count(p->cpu, MR_COUNTER_UNTRACKED_PACKETS);
  struct mr_target_stats* stats = target_stats_of(p, p->target_slot);
  if (stats != 0) {
    stats->packets += 1;
    stats->bytes += p->ip_bytes;
  }
  return SEND_TO_TARGET;
}

// Within the budget of this millisecond.
INLINE struct mr_flow_record* claim_for(struct packet* p, uint32_t state) {
  const _Bool is_unconfirmed = state == MR_FLOW_SYN || state == MR_FLOW_UDP;
  renew_budgets(p);
  if (p->cpu->inserts_left == 0) return 0;
  p->cpu->inserts_left -= 1;
  return claim(p, is_unconfirmed ? MR_XDP_PROBE_UNCONFIRMED_MAX : MR_XDP_PROBE_MAX);
}

INLINE void count_new_flow(struct packet* p, const struct choice* choice) {
  count(p->cpu, MR_COUNTER_FLOW_INSERTED);
  if (choice->is_orphan) count(p->cpu, MR_COUNTER_ORPHANS_TO_PREV);
  struct mr_listener_stats* stats = listener_stats_of(p, p->listener_slot);
  if (stats == 0) return;
  stats->new_flows += 1;
  if (choice->fails_open) stats->unhealthy_routing_flows += 1;
}

// The first packet of a flow that this node sees. With `may_be_known` that is yet to be found out:
// a SYN's target is chosen while the record's line comes from memory, which takes longer.
OUT_OF_LINE int start_flow(struct packet* p, uint64_t last_hop, _Bool may_be_known) {
  const struct mr_listener* listener = p->listener;
  if (listener == 0) return drop(p, MR_DROP_NO_LISTENER);
  if (may_be_known) fetch_record(p);
  const _Bool is_tcp = p->protocol == IPPROTO_TCP;
  const _Bool is_syn = (p->tcp_flags & TCP_SYN_BIT) != 0;
  struct choice choice;
  choose_target(p, listener, is_tcp && !is_syn, &choice);
  if (may_be_known) {
    p->known_flow = find_to_listener(p, listener->id);
    if (p->known_flow != 0) return REVISIT;
  }
  if (may_be_vip(p->root, p->source) && is_vip(p->root_index, p->source.low, p->source.high)) {
    return drop(p, MR_DROP_MARTIAN);
  }
  const struct mr_target* target = target_at(p->root, choice.target_slot);
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
  p->target_slot = choice.target_slot;
  set_deltas(p, listener, target);
  const _Bool is_resolved = (target->next_hop.flags & MR_NEXT_HOP_RESOLVED) != 0;
  // A RST ends what this node does not know: pass it on, remember nothing.
  const _Bool is_worth_tracking = (p->tcp_flags & TCP_RST_BIT) == 0 && is_resolved;
  const uint32_t state = first_state(p);
  struct mr_flow_record* flow = is_worth_tracking ? claim_for(p, state) : 0;
  if (flow == 0) return forward_untracked(p, is_worth_tracking, is_resolved);
  flow->listener_slot = p->listener_slot;
  flow->listener_id = listener->id;
  flow->last_hop = learn_last_hop(last_hop);
  if (choice.is_orphan) flow->flags = MR_FLOW_ORPHAN_PREV;
  bind_flow(p, flow);
  count_new_flow(p, &choice);
  publish(p, flow, state);
  return SEND_TO_TARGET;
}

// Idle for too long. The record stays for a while so that late packets are told.
INLINE void expire_flow(struct packet* p, struct mr_flow_record* flow, uint32_t word) {
  if (!change_state(flow, word, MR_FLOW_EXPIRED)) return;
  flow->last_seen_tick = p->tick;
  count(p->cpu, MR_COUNTER_FLOW_EXPIRED);
}

INLINE void forget_flow(struct packet* p, struct mr_flow_record* flow, uint32_t word) {
  if (change_state(flow, word, MR_XDP_FLOW_GONE)) count(p->cpu, MR_COUNTER_FLOW_REMOVED);
}

// A packet to a VIP whose flow is known but not simply going on: opening, closing, idle for too
// long, or without a usable target.
OUT_OF_LINE int revisit_flow(struct xdp_md* ctx, struct packet* p, struct mr_flow_record* flow,
                             uint64_t last_hop) {
  if (flow == 0 || p->listener == 0) return drop(p, MR_DROP_NO_LISTENER);
  const _Bool is_tcp = p->protocol == IPPROTO_TCP;
  const _Bool is_syn = (p->tcp_flags & TCP_SYN_BIT) != 0;
  uint32_t word = load_state_word(flow);
  uint32_t state = word >> STATE_SHIFT;
  if (state != MR_FLOW_EXPIRED && is_idle(p, flow, p->listener, state)) {
    expire_flow(p, flow, word);
    word = load_state_word(flow);
    state = word >> STATE_SHIFT;
  }
  const _Bool is_over =
      state == MR_FLOW_EXPIRED || state == MR_FLOW_CLOSED || state == MR_FLOW_CLOSING;
  if ((is_over && is_syn) || (!is_tcp && state == MR_FLOW_EXPIRED)) {
    // The client's port is used again: a new flow, and a new choice.
    forget_flow(p, flow, word);
    return start_flow(p, last_hop, 0);
  }
  if (state == MR_FLOW_EXPIRED) return answer_with_reset(ctx, p, flow->listener_slot);

  const struct mr_target* target = target_at(p->root, flow->target_slot);
  if (target != 0 && target->id != flow->target_id) target = 0;
  if (target == 0 || (target->flags & MR_TARGET_KEEPS_FLOWS) == 0) {
    const _Bool resets = target != 0 && (target->flags & MR_TARGET_RESETS_FLOWS) != 0;
    if (is_tcp && resets && !is_syn) {
      expire_flow(p, flow, word);  // the other side gets its RST when it speaks
      return answer_with_reset(ctx, p, flow->listener_slot);
    }
    forget_flow(p, flow, word);
    return start_flow(p, last_hop, 0);
  }
  count(p->cpu, MR_COUNTER_FLOW_HITS);
  p->target = target;
  p->target_slot = flow->target_slot;
  p->ip_delta = flow->ip_checksum_delta;
  p->l4_delta = flow->l4_checksum_delta;
  if (is_tcp) track_tcp(p, flow, 1);
  account(p, flow);
  return SEND_TO_TARGET;
}

// A packet to a VIP's listener.
INLINE int forward_to_target(struct xdp_md* ctx, struct packet* p, uint64_t last_hop, _Bool is_v4) {
  p->client = p->source;
  p->client_port_protocol = p->source_port_be | (uint32_t)p->protocol << 16;
  p->hash = flow_hash(p->client, p->client_port_protocol);
  const _Bool is_syn = (p->tcp_flags & TCP_SYN_BIT) != 0;
  struct mr_flow_record* flow = is_syn ? 0 : find_to_listener(p, p->listener->id);
  int done = SEND_TO_TARGET;
  if (UNLIKELY(flow == 0)) {
    done = start_flow(p, last_hop, is_syn);
    if (done == REVISIT) done = revisit_flow(ctx, p, p->known_flow, last_hop);
    return done == SEND_TO_TARGET ? send_to_target(ctx, p, is_v4) : done;
  }
  const struct mr_target* target = target_at(p->root, flow->target_slot);
  const uint32_t state = load_state_word(flow) >> STATE_SHIFT;
  const _Bool is_settled = state == MR_FLOW_ESTABLISHED || state == MR_FLOW_UDP;
  if (UNLIKELY(target == 0 || target->id != flow->target_id ||
               (target->flags & MR_TARGET_KEEPS_FLOWS) == 0 || !is_settled ||
               (p->tcp_flags & TRACKED_TCP_FLAGS) != 0 || is_idle(p, flow, p->listener, state))) {
    done = revisit_flow(ctx, p, flow, last_hop);
    return done == SEND_TO_TARGET ? send_to_target(ctx, p, is_v4) : done;
  }
  count(p->cpu, MR_COUNTER_FLOW_HITS);
  account(p, flow);
  // A gateway that changed its MAC address, or another router of the same client: reply that way.
  if (UNLIKELY(last_hop_at(flow->last_hop) != last_hop)) flow->last_hop = learn_last_hop(last_hop);
  p->target = target;
  p->target_slot = flow->target_slot;
  p->ip_delta = flow->ip_checksum_delta;
  p->l4_delta = flow->l4_checksum_delta;
  return send_to_target(ctx, p, is_v4);
}

// ---- towards a client

INLINE int send_to_client(struct xdp_md* ctx, struct packet* p, uint16_t last_hop,
                          const struct mr_listener* listener, _Bool is_v4) {
  uint8_t mac[8];
  uint8_t nic;
  const uint64_t learned = last_hop_at(last_hop);
  if (LIKELY((learned & LAST_HOP_IN_USE) != 0)) {
    store64(mac, learned);
    nic = (uint8_t)(learned >> LAST_HOP_NIC_SHIFT);
  } else {
    const struct mr_next_hop* fallback =
        is_v4 ? &p->root->default_next_hop_v4 : &p->root->default_next_hop_v6;
    if ((fallback->flags & MR_NEXT_HOP_RESOLVED) == 0) {
      return drop(p, MR_DROP_NEXT_HOP_UNRESOLVED);
    }
    store64(mac, load64(fallback->mac));
    nic = fallback->nic;
  }
  if (nic >= control.nic_count) return drop(p, MR_DROP_NO_NIC);
  return translate_to_client(ctx, p, listener, mac, nic, is_v4);
}

// From a target to a client, but no flow: the table was full when it began, or it is none of ours.
// Translated when the target's listener is beyond doubt, since untracked flows work both ways.
// Returns SEND_TO_TARGET (here: to the client) with p->listener and the deltas set, or a verdict.
OUT_OF_LINE int find_untracked_reply(struct packet* p) {
  if (p->root->generation == 0) return punt(p);
  if (is_vip(p->root_index, p->destination.low, p->destination.high)) {
    return drop(p, MR_DROP_NO_LISTENER);
  }
  const uint64_t found =
      find_reverse(p->root_index, p->source.low, p->source.high, p->source_port_be, p->protocol);
  const uint32_t listener_slot = (uint32_t)(found >> 32);
  const _Bool opens = (p->tcp_flags & (TCP_SYN_BIT | TCP_ACK_BIT)) == TCP_SYN_BIT;
  if (listener_slot == MR_TABLE_EMPTY || opens) return punt(p);
  const struct mr_listener* listener = listener_at(p->root, listener_slot);
  const struct mr_target* target = target_at(p->root, (uint32_t)found);
  if (listener == 0 || listener->id == 0 || target == 0 || target->id == 0 ||
      is_local(p->root_index, p->destination.low, p->destination.high)) {
    return punt(p);
  }
  count(p->cpu, MR_COUNTER_UNTRACKED_PACKETS);
  p->listener = listener;
  set_deltas(p, listener, target);
  return SEND_TO_TARGET;
}

INLINE int forward_untracked_reply(struct xdp_md* ctx, struct packet* p, _Bool is_v4) {
  const int done = find_untracked_reply(p);
  if (done != SEND_TO_TARGET || p->listener == 0) return done;
  return send_to_client(ctx, p, 0, p->listener, is_v4);
}

// The client that the packet goes to.
INLINE void set_client(struct packet* p) {
  p->client = p->destination;
  p->client_port_protocol = p->destination_port_be | (uint32_t)p->protocol << 16;
  p->hash = flow_hash(p->client, p->client_port_protocol);
}

// A target that accepts a connection has no other of that address and port. When the flow that the
// reply would belong to is past that, the client came again from the same port through another
// listener that leads to the same target: what was there is over, and the flow that is opening gets
// the reply.
OUT_OF_LINE int yield_to_opening(struct packet* p) {
  set_client(p);
  struct mr_flow_record* past = find_from_target(p);
  if (past == 0) return 0;
  const uint32_t past_word = load_state_word(past);
  if (past_word >> STATE_SHIFT == MR_FLOW_SYN) return 0;
#pragma clang loop unroll(disable)
  for (uint32_t probe = 0; probe < MR_XDP_PROBE_MAX; ++probe) {
    struct mr_flow_record* flow = record_at(p->hash + probe);
    if (flow == 0) return 0;
    const uint32_t word = load_state_word(flow);
    if (word == 0) return 0;
    if (word >> STATE_SHIFT == MR_FLOW_SYN && is_reply_of(p, flow, word)) {
      forget_flow(p, past, past_word);
      return 0;
    }
  }
  return 0;
}

// `prev` does not know the orphan that it was sent on trust: the flow was opened after the slot's
// change. Its RST goes nowhere and the flow moves to `cur`, where the client's retransmission finds
// its connection. True when that was done.
OUT_OF_LINE _Bool swallow_orphan_reset(struct packet* p, struct mr_flow_record* flow,
                                       const struct mr_listener* listener) {
  if (flow == 0 || listener == 0) return 0;
  if ((flow->flags & MR_FLOW_ORPHAN_PREV) == 0 || (flow->flags & MR_FLOW_REPLY_SEEN) != 0) {
    return 0;
  }
  struct choice choice;
  choose_target(p, listener, 0, &choice);
  const struct mr_target* target = target_at(p->root, choice.target_slot);
  if (target == 0 || choice.target_slot == flow->target_slot) return 0;
  __sync_fetch_and_and(flags_word(flow), ~((uint32_t)MR_FLOW_ORPHAN_PREV << FLAGS_SHIFT));
  p->target = target;
  p->target_slot = choice.target_slot;
  set_deltas(p, listener, target);
  bind_flow(p, flow);
  count(p->cpu, MR_COUNTER_ORPHANS_MOVED);
  return 1;
}

// Late replies of a flow that is over: nonzero is the verdict.
OUT_OF_LINE int end_reply(struct xdp_md* ctx, struct packet* p, struct mr_flow_record* flow) {
  if (flow == 0) return 0;
  const uint32_t word = load_state_word(flow);
  if (word >> STATE_SHIFT != MR_FLOW_EXPIRED) expire_flow(p, flow, word);
  return p->protocol == IPPROTO_TCP ? answer_with_reset(ctx, p, flow->listener_slot) : 0;
}

// A packet to no listener: a reply of a target to a client if a flow says so.
INLINE int forward_to_client(struct xdp_md* ctx, struct packet* p, _Bool is_v4) {
  if (UNLIKELY((p->tcp_flags & TCP_SYN_BIT) != 0)) yield_to_opening(p);
  set_client(p);
  struct mr_flow_record* flow = find_from_target(p);
  const struct mr_listener* listener = flow == 0 ? 0 : listener_at(p->root, flow->listener_slot);
  if (UNLIKELY(flow == 0 || listener == 0 || listener->id != flow->listener_id)) {
    return forward_untracked_reply(ctx, p, is_v4);
  }
  const uint32_t state = load_state_word(flow) >> STATE_SHIFT;
  if (UNLIKELY(state == MR_FLOW_EXPIRED || is_idle(p, flow, listener, state))) {
    const int done = end_reply(ctx, p, flow);
    return done != 0 ? done : forward_untracked_reply(ctx, p, is_v4);
  }
  if (UNLIKELY((p->tcp_flags & TCP_RST_BIT) != 0) && swallow_orphan_reset(p, flow, listener)) {
    return drop(p, MR_DROP_UNWANTED_RST);
  }
  count(p->cpu, MR_COUNTER_FLOW_HITS);
  if (p->protocol == IPPROTO_TCP &&
      ((p->tcp_flags & TRACKED_TCP_FLAGS) != 0 || state != MR_FLOW_ESTABLISHED)) {
    track_tcp(p, flow, 0);
  }
  if (UNLIKELY((flow->flags & MR_FLOW_REPLY_SEEN) == 0)) {
    __sync_fetch_and_or(flags_word(flow), (uint32_t)MR_FLOW_REPLY_SEEN << FLAGS_SHIFT);
  }
  account(p, flow);
  p->ip_delta = flow->ip_checksum_delta;
  p->l4_delta = flow->l4_checksum_delta;
  return send_to_client(ctx, p, flow->last_hop, listener, is_v4);
}

// ---- every packet

OUT_OF_LINE int drop_or_punt(struct packet* p) {
  const uint8_t reason = p->reason;
  if (!is_vip(p->root_index, p->destination.low, p->destination.high)) return punt(p);
  return drop(p, reason);
}

INLINE int handle_ip(struct xdp_md* ctx, struct packet* p, _Bool is_v4) {
  const uint8_t* frame = packet_start(ctx);
  const uint8_t* end = packet_end(ctx);
  if (!has_room(frame, ETH_BYTES, end)) return drop(p, MR_DROP_MALFORMED_L2);
  const enum shape shape = is_v4 ? parse_ipv4(p, frame, end) : parse_ipv6(p, frame, end);
  if (UNLIKELY(shape != SHAPE_TRANSPORT)) {
    if (shape == SHAPE_DROP) return drop(p, p->reason);
    return shape == SHAPE_ICMP ? handle_icmp(ctx, p) : drop_or_punt(p);
  }
  if (UNLIKELY((frame[0] & 1) != 0)) {  // RFC 1812 section 5.3.4: never forward these
    p->reason = MR_DROP_OTHER_MAC;
    return drop_or_punt(p);
  }
  const uint64_t last_hop = last_hop_word(frame + 6, p->nic);
  p->listener = find_listener(p);
  return p->listener != 0 ? forward_to_target(ctx, p, last_hop, is_v4)
                          : forward_to_client(ctx, p, is_v4);
}

// Index of the nic that the packet came in by; MR_NIC_COUNT_MAX when it is none of ours.
INLINE uint32_t nic_of(struct xdp_md* ctx) {
  if (is_under_test) return control.test_nic;
  const uint32_t ifindex = ctx->ingress_ifindex;
  if (LIKELY(control.nics[0].ifindex == ifindex)) return 0;
#pragma clang loop unroll(full)
  for (uint32_t nic = 1; nic < MR_NIC_COUNT_MAX; ++nic) {
    if (control.nics[nic].ifindex == ifindex) return nic;
  }
  return MR_NIC_COUNT_MAX;
}

INLINE uint32_t tick_now(void) {
  if (is_under_test) return (uint32_t)(control.test_now_ns >> MR_TICK_SHIFT);
  const uint64_t now_ns =
      bpf_jiffies64() * control.ns_per_jiffy + (uint64_t)control.clock_offset_ns;
  return (uint32_t)(now_ns >> MR_TICK_SHIFT);
}

INLINE int balance(struct xdp_md* ctx) {
  struct packet p;
  const uint8_t* frame = packet_start(ctx);
  const uint8_t* end = packet_end(ctx);
  p.cpu_index = bpf_get_smp_processor_id();
  p.cpu = bpf_map_lookup_elem(&cpus, &p.cpu_index);
  if (p.cpu == 0) return XDP_PASS;  // a CPU that came after the daemon counted them
  p.root_index = *(volatile uint32_t*)&control.active & 1;
  p.root = &control.roots[p.root_index];
  p.frame_bytes = (uint32_t)(end - frame);
  const uint32_t nic = nic_of(ctx);
  p.nic = (uint8_t)nic;
  p.tick = tick_now();
  p.cpu->stats.counters[MR_COUNTER_RX_PACKETS] += 1;
  p.cpu->stats.counters[MR_COUNTER_RX_BYTES] += p.frame_bytes;
  if (!has_room(frame, ETH_BYTES, end)) return drop(&p, MR_DROP_MALFORMED_L2);
  if (nic >= control.nic_count || nic >= MR_NIC_COUNT_MAX) return punt(&p);
  uint16_t type = load16(frame + 12);
  if (UNLIKELY(type == bpf_htons(ETH_P_8021Q))) {
    if (strip_priority_tag(ctx)) p.frame_bytes -= VLAN_BYTES;
    frame = packet_start(ctx);
    if (!has_room(frame, ETH_BYTES, packet_end(ctx))) return drop(&p, MR_DROP_MALFORMED_L2);
    type = load16(frame + 12);
  }
  if (UNLIKELY(!is_addressed_to(frame, nic_mac(nic))) &&
      !is_local_mac(p.root_index, load64(frame) << 16 >> 16 | (uint64_t)nic << 48)) {
    return leave_foreign(ctx, &p);
  }
  if (LIKELY(type == bpf_htons(ETH_P_IP))) return handle_ip(ctx, &p, 1);
  if (type == bpf_htons(ETH_P_IPV6)) return handle_ip(ctx, &p, 0);
  if (type == bpf_htons(ETH_P_ARP)) return handle_arp(ctx, &p);
  return punt(&p);
}

SEC("xdp")
int nlb_xdp(struct xdp_md* ctx) { return balance(ctx); }

// Both clocks as near to each other as possible, for the daemon (BPF_PROG_TEST_RUN): what is
// between them becomes control.clock_offset_ns.
struct {
  uint64_t jiffies;
  uint64_t ktime_ns;
} clock_reading;

SEC("xdp")
int read_clock(__attribute__((unused)) struct xdp_md* ctx) {
  clock_reading.ktime_ns = bpf_ktime_get_ns();
  clock_reading.jiffies = bpf_jiffies64();
  return XDP_PASS;
}

// The kernel knows no name for "Apache-2.0 or GPL-2.0"; it gets the half that it asks for.
char LICENSE[] SEC("license") = "GPL v2";
