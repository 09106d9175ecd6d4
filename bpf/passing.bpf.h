// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Packets that belong to no flow: ICMP to a VIP, and fragments that targets send towards clients.
// Fragments are not translated. Left to the kernel, they would leave with the target's own address.
// Rare.
#pragma once

#include "bpf/answer.bpf.h"
#include "dataplane/rules/vip_rule.h"

enum {
  FRAGMENTED_DATAGRAMS = 64,
};

// Fragmented datagrams of targets under way, by a hash of their source, destination and id. Only
// the first fragment shows ports, so the others are treated as the first one was.
uint64_t fragmented[FRAGMENTED_DATAGRAMS];

INLINE uint64_t datagram_hash(const struct packet* p, uint32_t id) {
  uint64_t hash = (p->source.low ^ p->source.high) * 0x9e3779b97f4a7c15ULL;
  hash = (hash ^ hash >> 32 ^ p->destination.low ^ p->destination.high) * 0xd6e8feb86659fd93ULL;
  hash = (hash ^ hash >> 32 ^ id) * 0x9e3779b97f4a7c15ULL;
  return hash | 1;  // 0 is no datagram
}

INLINE _Bool has_target(const struct packet* p, struct addr_words addr, uint16_t port_be,
                        uint8_t protocol) {
  if (!mr_is_transport(protocol)) return 0;
  return find_reverse(p->root_index, addr.low, addr.high, port_be, protocol) != NO_TARGET;
}

// Whether the packet is for somebody else than this node.
INLINE _Bool passes(const struct packet* p) {
  return p->root->generation != 0 &&
         !is_local(p->root_index, p->destination.low, p->destination.high);
}

// A fragment that is to no VIP.
OUT_OF_LINE _Bool is_fragment_of_target(struct xdp_md* ctx, const struct packet* p) {
  const uint8_t* ip = packet_start(ctx) + MR_ETH_BYTES;
  const uint8_t* end = packet_end(ctx);
  // Linux 6.1 would take a value for known here that it saw on another way, and leave code out.
  const _Bool is_v4 = (p->is_v4 | unknown_zero()) != 0;
  const uint32_t l4_bytes = is_v4 ? MR_IPV4_BYTES : MR_IPV6_BYTES + MR_IPV6_FRAGMENT_BYTES;
  const uint8_t* l4 = 0;
  uint32_t id = 0;
  uint8_t protocol = 0;
  _Bool is_first = 0;
  if (!passes(p)) return 0;
  if (is_v4) {
    if (!has_room(ip, MR_IPV4_BYTES, end)) return 0;
    is_first = (bpf_ntohs(load16(ip + MR_IPV4_FRAGMENT)) & MR_IPV4_FRAGMENT_OFFSET) == 0;
    protocol = ip[MR_IPV4_PROTOCOL];
    id = load16(ip + MR_IPV4_ID) | (uint32_t)protocol << 16;
    l4 = ip + MR_IPV4_BYTES;
  } else {
    const uint8_t* header = ip + MR_IPV6_BYTES;
    if (!has_room(header, MR_IPV6_FRAGMENT_BYTES, end)) return 0;
    is_first = (bpf_ntohs(load16(header + MR_IPV6_FRAGMENT_WORD)) & MR_IPV6_FRAGMENT_OFFSET) == 0;
    id = load32(header + MR_IPV6_FRAGMENT_ID);
    protocol = header[0];
    l4 = header + MR_IPV6_FRAGMENT_BYTES;
  }
  const uint64_t hash = datagram_hash(p, id);
  uint64_t* entry = &fragmented[hash >> 58];
  if (!is_first) return read64(entry) == hash;
  if (!has_room(l4, MR_L4_PORTS_BYTES, end) || p->ip_bytes < l4_bytes + 2) return 0;
  if (!has_target(p, p->source, load16(l4), protocol)) return 0;
  *entry = hash;
  return 1;
}

OUT_OF_LINE int handle_icmp(struct xdp_md* ctx, struct packet* p) {
  const uint8_t* ip = packet_start(ctx) + MR_ETH_BYTES;
  const uint8_t* end = packet_end(ctx);
  if (!p->is_v4 && has_room(ip, MR_IPV6_BYTES + MR_NEIGHBOUR_BYTES, end) &&
      is_solicitation(ctx, p, ip)) {
    const struct addr_words asked = words_at(ip + MR_IPV6_BYTES + MR_NEIGHBOUR_TARGET);
    if (is_vip(p->root_index, asked.low, asked.high)) return answer_solicitation(ctx, p);
  }
  const uint32_t vip_flags = find_vip_flags(p->root_index, p->destination);
  if (vip_flags == MR_TABLE_EMPTY) return punt(ctx, p);
  const uint8_t* icmp = ip + (p->is_v4 ? MR_IPV4_BYTES : MR_IPV6_BYTES);
  if (!has_room(icmp, MR_ICMP_BYTES, end)) return drop(p, MR_DROP_BAD_L4);
  if (!mr_is_echo_request(p->is_v4, icmp[0], icmp[1])) return drop(p, MR_DROP_ICMP);
  if ((p->source.low | p->source.high) == 0) return drop(p, MR_DROP_MARTIAN);
  if (!mr_answers_echo(vip_flags)) return drop(p, MR_DROP_NO_ECHO);
  if (!take(p, &p->cpu->echoes_left)) return drop(p, MR_DROP_RATE_LIMITED);
  return answer_echo(ctx, p);
}
