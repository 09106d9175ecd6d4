// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// The XDP engine's packet path: the same verdict, bytes and target for the same packet as
// dataplane/core/forwarder.cc, in the same order of checks. HOT.
//
//   maps.bpf.h      what daemon and program share        packet.bpf.h  one packet, its verdicts
//   parse.bpf.h     frame -> fields                      config.bpf.h  listeners, targets, choice
//   flows.bpf.h     flow table                           rewrite.bpf.h translation, encapsulation
//   claim.bpf.h     room for new flows                   start.bpf.h   new flows
//   track.bpf.h     TCP state, ends of flows             known.bpf.h   known ones not going on
//   replies.bpf.h   replies whose flow is in doubt       passing.bpf.h ICMP to VIPs, fragments
//   error.bpf.h     ICMP errors about flows          fragment.bpf.h fragments of UDP
//   answer.bpf.h    ARP, ND, echo, "too big"             reset.bpf.h   RST
//   link.bpf.h      whose MAC address, tags          exit.bpf.h    leaving by a VLAN
//
// Known flows take no call and, but for the redirect to another nic and the room for an outer
// header, no helper that the kernel does not inline.
#include "bpf/error.bpf.h"
#include "bpf/fragment.bpf.h"
#include "bpf/known.bpf.h"
#include "bpf/link.bpf.h"
#include "bpf/parse.bpf.h"
#include "bpf/passing.bpf.h"
#include "bpf/replies.bpf.h"
#include "dataplane/rules/step_rule.h"

// The timeout of a flow in a settled state, which is below MR_FLOW_STATE_COUNT. The compiler knows
// that, and so leaves a mask out; Linux 6.1's verifier does not.
INLINE uint32_t timeout_of_settled(const struct mr_listener* listener, uint32_t state) {
  asm volatile("" : "+r"(state));
  return listener->timeout_ticks[state & 7];
}

// ---- towards a target

INLINE int send_to_target(struct xdp_md* ctx, struct packet* p, _Bool is_v4) {
  const struct mr_target* target = p->target;
  if (target == 0) return drop_by_call(p, MR_DROP_NO_TARGET);  // for the verifier
  if (UNLIKELY((target->next_hop.flags & MR_NEXT_HOP_RESOLVED) == 0)) {
    struct mr_target_stats* stats = target_stats_of(p->cpu_index, p->target_slot);
    if (stats != 0) stats->unresolved_packets += 1;
    return drop_by_call(p, MR_DROP_NEXT_HOP_UNRESOLVED);
  }
  if (UNLIKELY(target->next_hop.nic >= control.nic_count)) return send_by_vlan_to_target(ctx, p, 0);
  const uint16_t how = load16(&target->forwarding);  // and the variant
  const uint8_t forwarding = (uint8_t)how;
  if (UNLIKELY(p->ip_bytes > target->mtu) && !mr_encapsulates(forwarding) &&
      control.has_merged_frames == 0) {
    return refuse_size(ctx, p, forwarding, target->mtu);
  }
  if (how == MR_FORWARDING_NAT) return translate_to_target(ctx, p, target, is_v4);
  if (how == MR_FORWARDING_DSR) return redirect_to_target(ctx, p, target);
  if (UNLIKELY(target->variant != (is_v4 ? MR_VARIANT_OUTER_V4 : MR_VARIANT_OUTER_V6))) {
    return send_by_variant(ctx, p);
  }
  return encapsulate_by_mode(ctx, p, target, is_v4, is_v4);
}

// A packet to a VIP's listener. SEND_TO_TARGET: it goes to p->target.
INLINE int find_target(struct xdp_md* ctx, struct packet* p, uint64_t last_hop) {
  p->client = p->source;
  p->client_port_protocol = p->source_port_be | (uint32_t)p->protocol << 16;
  p->hash = flow_hash(p->client, p->client_port_protocol);
  const _Bool is_syn = (p->tcp_flags & MR_TCP_SYN) != 0;
  struct mr_flow_record* flow = is_syn ? 0 : find_to_listener(p);
  if (UNLIKELY(flow == 0)) return forward_in_doubt(ctx, p, 0, last_hop);
  p->target_slot = *(volatile uint32_t*)&flow->target_slot;
  const uint32_t target_id = *(volatile uint32_t*)&flow->target_id;
  *deltas_of(p) = deltas_in(flow);
  const struct mr_target* target = target_at(p->root, p->target_slot);
  const uint32_t state = p->word >> STATE_SHIFT;
  const _Bool is_settled = state == mr_settled_state(p->protocol, p->tcp_flags);
  if (UNLIKELY(target == 0 || target->id != target_id ||
               (target->flags & MR_TARGET_KEEPS_FLOWS) == 0 || !is_settled ||
               (flow->flags & MR_FLOW_SHARED) != 0 ||
               is_silent(p, flow, timeout_of_settled(p->listener, state)) ||
               load_state_word(flow) != p->word)) {
    return forward_in_doubt(ctx, p, flow, last_hop);
  }
  count(p->cpu, MR_COUNTER_FLOW_HITS);
  account(p, flow);
  // The gateway may have a new MAC address, or the client another router: replies go that way from
  // now on.
  if (UNLIKELY(last_hop_at(flow->last_hop) != last_hop)) {
    flow->last_hop = learn_last_hop(p, last_hop);
  }
  p->target = target;
  return SEND_TO_TARGET;
}

// ---- towards a client

INLINE int send_to_client(struct xdp_md* ctx, struct packet* p, const struct mr_listener* listener,
                          uint16_t vip_port_be, struct mr_flow_record* flow, _Bool is_v4) {
  uint8_t mac[8];
  const uint64_t hop = client_hop(p, is_v4);
  if (hop == NO_HOP) return drop_by_call(p, MR_DROP_NEXT_HOP_UNRESOLVED);
  store64(mac, hop);
  const uint8_t nic = (uint8_t)(hop >> LAST_HOP_NIC_SHIFT);
  if (UNLIKELY(nic >= control.nic_count)) {
    p->listener = listener;
    p->listener_word = load64(&listener->slot) | (uint64_t)vip_port_be << 16;
    p->known_flow = flow;
    return send_by_vlan_to_client(ctx, p, 0);
  }
  return translate_to_client(ctx, p, listener, vip_port_be, flow, mac, nic, is_v4);
}

// A packet to no listener. It is a target's reply to a client if a flow says so.
INLINE int forward_to_client(struct xdp_md* ctx, struct packet* p, _Bool is_v4) {
  p->client = p->destination;
  p->client_port_protocol = p->destination_port_be | (uint32_t)p->protocol << 16;
  p->hash = flow_hash(p->client, p->client_port_protocol);
  struct mr_flow_record* flow = find_from_target(p);
  if (LIKELY(flow != 0)) {
    const uint32_t state = p->word >> STATE_SHIFT;
    const _Bool is_settled = state == mr_settled_state(p->protocol, p->tcp_flags);
    const uint32_t flags = flow->flags & (MR_FLOW_CONFIRMED | MR_FLOW_SHARED | MR_FLOW_NO_PORT);
    const struct mr_listener* listener = load_exact_listener(p, flow);
    if (LIKELY(listener != 0 && is_settled && flags == MR_FLOW_CONFIRMED &&
               !is_silent(p, flow, timeout_of_settled(listener, state)) &&
               load_state_word(flow) == p->word)) {
      count(p->cpu, MR_COUNTER_FLOW_HITS);
      account(p, flow);
      return send_to_client(ctx, p, listener, listener->port_be, flow, is_v4);
    }
  }
  const int done = reply_in_doubt(ctx, p, flow);
  if (done == UNSERVED) return handle_unserved(ctx, p);
  if (done != SEND_TO_TARGET || p->listener == 0) return done;
  return send_to_client(ctx, p, p->listener, vip_port_be_of(p, p->listener), p->known_flow, is_v4);
}

// ---- every packet

// An IP packet with an unusable part.
OUT_OF_LINE int drop_or_punt(struct xdp_md* ctx, struct packet* p) {
  const uint8_t reason = p->reason;
  if (is_vip(p->root_index, p->destination.low, p->destination.high)) return drop(p, reason);
  if (reason == MR_DROP_FRAGMENT && is_fragment_of_target(ctx, p)) return drop(p, reason);
  return punt(ctx, p);
}

INLINE int handle_fragment(struct xdp_md* ctx, struct packet* p) {
  const uint8_t* frame = packet_start(ctx);
  if (!has_room(frame, MR_ETH_BYTES, packet_end(ctx))) return drop(p, MR_DROP_MALFORMED_L2);
  if (!open_fragment(ctx, p)) return drop_or_punt(ctx, p);
  frame = packet_start(ctx);
  if (!has_room(frame, MR_ETH_BYTES, packet_end(ctx))) return drop(p, MR_DROP_MALFORMED_L2);
  return pass_fragment(ctx, p, last_hop_word(frame + MR_ETH_SOURCE, p->nic));
}

// Sets `is_fragment` and nothing else for what handle_fragment() handles.
INLINE int handle_ip(struct xdp_md* ctx, struct packet* p, _Bool is_v4, _Bool* is_fragment) {
  const uint8_t* frame = packet_start(ctx);
  const uint8_t* end = packet_end(ctx);
  if (!has_room(frame, MR_ETH_BYTES, end)) return drop_by_call(p, MR_DROP_MALFORMED_L2);
  const enum shape shape = is_v4 ? parse_ipv4(p, frame, end) : parse_ipv6(p, frame, end);
  int done = SEND_TO_TARGET;
  if (UNLIKELY(shape != SHAPE_TRANSPORT)) {
    if (shape == SHAPE_DROP) return drop_by_call(p, p->reason);
    if (shape == SHAPE_FRAGMENT) {
      *is_fragment = 1;
      return XDP_DROP;
    }
    if (shape != SHAPE_ICMP) return drop_or_punt(ctx, p);
    done = pass_error(ctx, p);
    if (done == NOT_OURS) return handle_icmp(ctx, p);
  } else {
    if (UNLIKELY((frame[0] & 1) != 0)) {  // RFC 1812 section 5.3.4: never forward these
      p->reason = MR_DROP_OTHER_MAC;
      return drop_or_punt(ctx, p);
    }
    const uint64_t last_hop = last_hop_word(frame + MR_ETH_SOURCE, p->nic);
    p->listener = find_listener(p);
    if (p->listener == 0) return forward_to_client(ctx, p, is_v4);
    done = find_target(ctx, p, last_hop);
  }
  return done == SEND_TO_TARGET ? send_to_target(ctx, p, is_v4) : done;
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
#pragma clang loop unroll(disable)
  for (uint32_t i = 0; i < MR_NIC_MEMBERS_MAX; ++i) {
    const uint64_t member = *(volatile uint64_t*)&control.members[i];
    if (member == 0) break;
    if ((uint32_t)member == ifindex) return (uint32_t)(member >> 32);
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
  if (!has_room(frame, MR_ETH_BYTES, end)) return drop(&p, MR_DROP_MALFORMED_L2);
  if (nic >= control.nic_count || nic >= MR_NIC_COUNT_MAX) return punt_untagged(&p);
  uint16_t type = load16(frame + MR_ETH_TYPE);
  if (UNLIKELY(type == bpf_htons(MR_ETH_TYPE_VLAN))) {
    const int left = look_at_tag(ctx, &p);
    if (left != IS_OURS) return left;
    frame = packet_start(ctx);
    if (!has_room(frame, MR_ETH_BYTES, packet_end(ctx))) return drop(&p, MR_DROP_MALFORMED_L2);
    type = load16(frame + MR_ETH_TYPE);
  }
  if (UNLIKELY(!is_addressed_to(frame, nic_mac(nic))) &&
      !is_further_mac(p.root_index, load64(frame) << 16 >> 16 | (uint64_t)p.nic << 48)) {
    return leave_foreign(ctx, &p);
  }
  _Bool is_fragment = 0;  // a constant wherever it is asked, so that it costs no instruction
  int done = XDP_DROP;
  if (LIKELY(type == bpf_htons(MR_ETH_TYPE_IPV4))) {
    done = handle_ip(ctx, &p, 1, &is_fragment);
  } else if (type == bpf_htons(MR_ETH_TYPE_IPV6)) {
    done = handle_ip(ctx, &p, 0, &is_fragment);
  } else if (type == bpf_htons(MR_ETH_TYPE_ARP)) {
    return handle_arp(ctx, &p);
  } else {
    return punt_untagged(&p);  // a tag of a VLAN is taken off IP and ARP alone
  }
  return UNLIKELY(is_fragment) ? handle_fragment(ctx, &p) : done;
}

SEC("xdp")
int nlb_xdp(struct xdp_md* ctx) { return balance(ctx); }

// Reads both clocks as near to each other as possible, for the daemon (BPF_PROG_TEST_RUN). The
// difference becomes control.clock_offset_ns.
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
