// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// One packet on its way through the program, and its verdicts. Every packet ends in exactly one of
// drop(), punt(), forward() and reply(), which count it.
#pragma once

#include <bpf/bpf_endian.h>

#include "bpf/maps.bpf.h"
#include "dataplane/rules/address_rule.h"
#include "dataplane/rules/header_rule.h"
#include "dataplane/rules/port_rule.h"

INLINE uint32_t l4_offset(_Bool is_v4) {
  return MR_ETH_BYTES + (is_v4 ? MR_IPV4_BYTES : MR_IPV6_BYTES);
}

// The compiler splits loads from addresses that it can't prove aligned into bytes. Packets are
// unaligned anyway, and every machine that this runs on can load unaligned words.
INLINE uint16_t load16(const void* at) { return *(const uint16_t*)at; }
INLINE uint32_t load32(const void* at) { return *(const uint32_t*)at; }
INLINE uint64_t load64(const void* at) { return *(const uint64_t*)at; }
INLINE void store16(void* at, uint16_t value) { *(uint16_t*)at = value; }
INLINE void store32(void* at, uint32_t value) { *(uint32_t*)at = value; }
INLINE void store64(void* at, uint64_t value) { *(uint64_t*)at = value; }

// IPv4 addresses are v4-mapped: low is 0, high has ::ffff: and the address.
struct addr_words {
  uint64_t low;
  uint64_t high;
};
INLINE struct addr_words v4_words(uint32_t addr_be) {
  return (struct addr_words){0, mr_v4_mapped_high(addr_be)};
}
INLINE struct addr_words words_at(const void* at) {
  return (struct addr_words){load64(at), load64((const uint8_t*)at + 8)};
}
INLINE _Bool is_same_addr(struct addr_words a, struct addr_words b) {
  return ((a.low ^ b.low) | (a.high ^ b.high)) == 0;
}
// Of a v4-mapped address.
INLINE uint32_t v4_of(const struct mr_addr* addr) { return load32(addr->bytes + 12); }

enum shape {
  SHAPE_TRANSPORT,   // IPv4 or IPv6 with TCP or UDP, every header whole
  SHAPE_DROP,        // nobody's packet: `reason` says why
  SHAPE_SUSPICIOUS,  // an IP packet with an unusable part: drop if to a VIP, else punt
  SHAPE_ICMP,        // ICMP or ICMPv6, header whole
  SHAPE_FRAGMENT,    // of whatever protocol: open_fragment() finds out
};

// Three fields are at the start of a word, because the verifier remembers their values there until
// something else in the word is written. Where it knows a packet's protocol, it need not look at
// what becomes of others.
struct packet {
  struct mr_xdp_cpu* cpu;
  uint8_t protocol __attribute__((aligned(8)));
  uint8_t nic;
  uint32_t cpu_index;
  const struct mr_xdp_root* root;
  uint8_t tcp_flags __attribute__((aligned(8)));  // 0 for UDP
  uint32_t root_index;                            // in control.roots
  struct addr_words source;
  struct addr_words destination;
  struct addr_words own;  // source of an ICMP error of the node's own
  uint8_t is_v4 __attribute__((aligned(8)));
  uint32_t frame_bytes;
  uint32_t ip_bytes;  // L3 length as the IP header states it, <= frame_bytes - MR_ETH_BYTES
  uint16_t source_port_be;
  uint16_t destination_port_be;
  uint8_t reason;  // enum mr_drop_reason, with SHAPE_DROP and SHAPE_SUSPICIOUS
  uint32_t tick;
  // The client's half of the flow, in either direction.
  struct addr_words client;
  uint32_t client_port_protocol;  // port_be | protocol << 16, as the record holds them
  uint32_t hash;
  uint32_t word;      // of the flow that was found, when it was
  uint32_t sequence;  // of a TCP segment; this and has_payload are set for what is tracked
  // Where a packet to a VIP goes.
  const struct mr_target* target;
  uint32_t target_slot;
  const struct mr_listener* listener;
  uint64_t listener_word;  // {slot, port if the listener has several, id}, as in a record
  struct mr_flow_record* known_flow;  // of this client to this listener, see start_flow()
  uint16_t ip_delta;                  // first of two that are read and written as one word
  uint16_t l4_delta;
  _Bool has_sibling;  // the client's port may have a flow to another listener
  _Bool has_payload;  // a TCP segment with data
  uint16_t last_hop;  // of a packet to a client: index of its neighbour
};
INLINE uint32_t* deltas_of(struct packet* p) { return (uint32_t*)&p->ip_delta; }

INLINE uint16_t asked_port_be_of(uint64_t listener_word) { return (uint16_t)(listener_word >> 16); }
INLINE uint32_t listener_id_of(uint64_t listener_word) { return (uint32_t)(listener_word >> 32); }
// The port of the VIP that the packet's flow is to.
INLINE uint16_t vip_port_be_of(const struct packet* p, const struct mr_listener* listener) {
  return mr_vip_port_be_of(asked_port_be_of(p->listener_word), listener->port_be);
}

// This CPU's counters of a listener or target; null when it is not counted one by one. Of a
// listener the word of a flow will do for the slot.
INLINE struct mr_listener_stats* listener_stats_of(uint32_t cpu_index, uint64_t listener_word) {
  const uint32_t slot = (uint16_t)listener_word;
  if (slot >= control.listener_slots) return 0;
  const uint32_t index = cpu_index * control.listener_slots + slot;
  return bpf_map_lookup_elem(&listener_stats, &index);
}
INLINE struct mr_target_stats* target_stats_of(uint32_t cpu_index, uint32_t slot) {
  if (slot >= control.target_slots) return 0;
  const uint32_t index = cpu_index * control.target_slots + slot;
  return bpf_map_lookup_elem(&target_stats, &index);
}

INLINE void show_verdict(struct packet* p, uint8_t nic, uint8_t reason) {
  if (!is_under_test) return;
  p->cpu->test_nic = nic;
  p->cpu->test_reason = reason;
}

INLINE int drop(struct packet* p, enum mr_drop_reason reason) {
  if ((uint32_t)reason < MR_DROP_REASON_COUNT) p->cpu->stats.drops[reason] += 1;
  show_verdict(p, 0, (uint8_t)reason);
  return XDP_DROP;
}

// Likewise by a call, where the code around it is there once for each family and mode.
OUT_OF_LINE int drop_by_call(struct packet* p, uint32_t reason) {
  return drop(p, (enum mr_drop_reason)reason);
}

INLINE _Bool came_in_vlan(const struct packet* p) { return p->nic >= MR_NIC_COUNT_MAX; }
INLINE uint8_t nic_it_came_by(const struct packet* p) {
  return came_in_vlan(p) ? p->cpu->vlan_nic : p->nic;
}

// Puts a tag, as it lies in a frame, between MAC addresses and type. False when there is no room.
// Inline, since the kernel allows calls to be eight functions deep, and a wrapper takes one of
// them.
INLINE int put_tag(struct xdp_md* ctx, uint32_t tag) {
  if (bpf_xdp_adjust_head(ctx, -(int)MR_VLAN_BYTES) != 0) return 0;
  uint8_t* frame = packet_start(ctx);
  if (frame + MR_ETH_BYTES + MR_VLAN_BYTES > packet_end(ctx)) return 0;
  const uint64_t first = load64(frame + MR_VLAN_BYTES);
  const uint32_t second = load32(frame + MR_VLAN_BYTES + 8);
  store64(frame, first);
  store32(frame + 8, second);
  store32(frame + MR_ETH_TYPE, tag);
  return 1;
}

// A packet without a tag of a VLAN is the kernel's.
INLINE int punt_untagged(struct packet* p) {
  count(p->cpu, MR_COUNTER_PUNTED_PACKETS);
  show_verdict(p, p->nic, 0);
  return XDP_PASS;
}

// The packet is the kernel's, as it came.
OUT_OF_LINE int punt(struct xdp_md* ctx, struct packet* p) {
  if (came_in_vlan(p) && !put_tag(ctx, p->cpu->vlan_tag)) return drop(p, MR_DROP_TOO_BIG);
  count(p->cpu, MR_COUNTER_PUNTED_PACKETS);
  show_verdict(p, nic_it_came_by(p), 0);
  return XDP_PASS;
}

// The packet goes back out of the nic, and in the VLAN, that it came in by.
OUT_OF_LINE int reply(struct xdp_md* ctx, struct packet* p) {
  const uint32_t tag = p->cpu->vlan_tag & bpf_htonl(0xffff0000u | MR_VLAN_ID_MASK);
  if (came_in_vlan(p) && !put_tag(ctx, tag)) return drop(p, MR_DROP_TOO_BIG);
  count(p->cpu, MR_COUNTER_REPLIED_PACKETS);
  show_verdict(p, nic_it_came_by(p), 0);
  return XDP_TX;
}

INLINE void count_forwarded(struct packet* p, uint32_t bytes) {
  p->cpu->stats.counters[MR_COUNTER_FORWARDED_PACKETS] += 1;
  p->cpu->stats.counters[MR_COUNTER_FORWARDED_BYTES] += bytes;
}

// Tells whether a packet has been rewritten whole. The action does not: for a next hop in a VLAN it
// is still to come.
INLINE uint64_t forwarded_count(const struct packet* p) {
  return p->cpu->stats.counters[MR_COUNTER_FORWARDED_PACKETS];
}

// The packet is rewritten, is `bytes` long and leaves by `nic`.
INLINE int forward(struct packet* p, uint8_t nic, uint32_t bytes) {
  count_forwarded(p, bytes);
  show_verdict(p, nic, 0);
  if (nic == p->nic) return XDP_TX;
  return (int)bpf_redirect_map(&tx_nics, nic, XDP_DROP);
}

// Starts the budgets of a new millisecond.
INLINE void renew_budgets(struct packet* p) {
  if (p->cpu->budget_tick == p->tick) return;
  p->cpu->budget_tick = p->tick;
  p->cpu->inserts_left = control.flow_inserts_per_ms;
  p->cpu->resets_left = control.replies_per_ms;
  p->cpu->echoes_left = control.replies_per_ms;
  p->cpu->too_bigs_left = control.replies_per_ms;
  p->cpu->expiries_left = control.replies_per_ms;
  p->cpu->errors_left = control.replies_per_ms;
  p->cpu->refusals_left = control.replies_per_ms;
}
// Takes one from `left`, a budget of this CPU's. Each kind of answer has its own budget, so that a
// flood of one kind does not silence the others.
INLINE _Bool take(struct packet* p, uint32_t* left) {
  renew_budgets(p);
  if (*left == 0) return 0;
  *left -= 1;
  return 1;
}

INLINE const uint8_t* nic_mac(uint32_t nic) { return control.nics[nic % MR_NIC_COUNT_MAX].mac; }

// The node's own where the packet came from.
OUT_OF_LINE const uint8_t* own_mac(const struct packet* p) {
  return came_in_vlan(p) ? p->cpu->vlan_mac : nic_mac(p->nic);
}

// `source` may lie in the same header: it is read before anything is written.
INLINE void write_link_header(uint8_t* frame, const uint8_t* destination, const uint8_t* source) {
  const uint32_t destination_low = load32(destination);
  const uint16_t destination_high = load16(destination + 4);
  const uint32_t source_low = load32(source);
  const uint16_t source_high = load16(source + 4);
  store32(frame + MR_ETH_DESTINATION, destination_low);
  store16(frame + MR_ETH_DESTINATION + 4, destination_high);
  store32(frame + MR_ETH_SOURCE, source_low);
  store16(frame + MR_ETH_SOURCE + 4, source_high);
}

// Whether `bytes` bytes at `at` end inside the packet. The parser has checked that already. The
// verifier does not remember it for each protocol, so it is checked again.
INLINE _Bool has_room(const uint8_t* at, uint32_t bytes, const uint8_t* end) {
  return at + bytes <= end;
}

INLINE uint8_t hops_left(const uint8_t* frame, _Bool is_v4) {
  return frame[MR_ETH_BYTES + (is_v4 ? MR_IPV4_TTL : MR_IPV6_HOP_LIMIT)];
}

// Takes two numbers, because the compiler copies a struct to an address that it can't prove aligned
// byte by byte.
INLINE void store_addr_v6(uint8_t* at, uint64_t low, uint64_t high) {
  store64(at, low);
  store64(at + 8, high);
}
INLINE void copy_addr_v6(uint8_t* at, const uint8_t* from) {
  store_addr_v6(at, load64(from), load64(from + 8));
}
