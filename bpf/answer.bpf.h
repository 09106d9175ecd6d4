// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Turning a frame into the engine's own answer to it, in place: core/answer.h for the other engine.
#pragma once

#include "bpf/rewrite.bpf.h"

enum {
  OWN_HOPS = 64,
  NEIGHBOUR_HOPS = 255,
};

INLINE void swap32(uint8_t* a, uint8_t* b) {
  const uint32_t first = load32(a);
  store32(a, load32(b));
  store32(b, first);
}

INLINE void swap_addrs_v6(uint8_t* ip) {
  const uint64_t low = load64(ip + 8);
  const uint64_t high = load64(ip + 16);
  store64(ip + 8, load64(ip + 24));
  store64(ip + 16, load64(ip + 32));
  store64(ip + 24, low);
  store64(ip + 32, high);
}

// Back to the neighbour that sent the frame.
INLINE void turn_link_header(uint8_t* frame, const struct packet* p) {
  write_link_header(frame, frame + 6, nic_mac(p->nic));
}

// Makes the frame `bytes` long; false when that fails. Packet pointers are stale afterwards.
INLINE _Bool cut_frame(struct xdp_md* ctx, uint32_t now_bytes, uint32_t bytes) {
  if (now_bytes == bytes) return 1;
  return bpf_xdp_adjust_tail(ctx, (int)bytes - (int)now_bytes) == 0;
}

// ---- ARP (RFC 826)

enum {
  ARP_BYTES = 28,
};
// Ethernet and IPv4, lengths, operation: the eight fixed bytes as one word.
static const uint64_t ARP_REQUEST = bpf_cpu_to_be64(0x0001080006040001ULL);
static const uint64_t ARP_REPLY = bpf_cpu_to_be64(0x0001080006040002ULL);

OUT_OF_LINE int handle_arp(struct xdp_md* ctx, struct packet* p) {
  uint8_t* frame = packet_start(ctx);
  uint8_t* body = frame + ETH_BYTES;
  if (!has_room(body, ARP_BYTES, packet_end(ctx)) || load64(body) != ARP_REQUEST) {
    return punt(p);
  }
  const struct addr_words asked = v4_words(load32(body + 24));
  if (!is_vip(p->root_index, asked.low, asked.high)) return punt(p);
  store64(body, ARP_REPLY);
  // The sender's half becomes the target's.
  const uint32_t sender_mac = load32(body + 8);
  const uint16_t sender_mac_end = load16(body + 12);
  const uint32_t sender = load32(body + 14);
  const uint8_t* mac = nic_mac(p->nic);
  store32(body + 8, load32(mac));
  store16(body + 12, load16(mac + 4));
  store32(body + 14, load32(body + 24));
  store32(body + 18, sender_mac);
  store16(body + 22, sender_mac_end);
  store32(body + 24, sender);
  write_link_header(frame, body + 18, mac);
  return reply(p);
}

// ---- neighbour discovery (RFC 4861)

enum {
  SOLICITATION = 135,
  ADVERTISEMENT = 136,
  NEIGHBOUR_BYTES = 24,
  ADVERTISEMENT_BYTES = (NEIGHBOUR_BYTES + 8),
  TARGET_LINK_LAYER_OPTION = 2,
  SOLICITED = 0x40,
  OVERRIDE = 0x20,
};

// Valid by section 7.1.1. Options beyond SUM_BYTES_MAX: not answered.
INLINE _Bool is_solicitation(struct xdp_md* ctx, const struct packet* p, const uint8_t* ip) {
  const uint8_t* icmp = ip + IP6_BYTES;
  const uint32_t bytes = p->ip_bytes - IP6_BYTES;
  if (icmp[0] != SOLICITATION || icmp[1] != 0 || bytes < NEIGHBOUR_BYTES || bytes > SUM_BYTES_MAX ||
      ip[7] != NEIGHBOUR_HOPS || icmp[8] == 0xff) {
    return 0;
  }
  const uint64_t addrs = sum_of_words(p->source) + sum_of_words(p->destination);
  return fold(sum_of_packet(ctx, ETH_BYTES + IP6_BYTES, bytes) +
              sum_of_pseudo_header(addrs, IPPROTO_ICMPV6, bytes)) == 0xffff;
}

INLINE void write_advertisement(uint8_t* ip, uint32_t bytes, uint8_t flags) {
  uint8_t* icmp = ip + IP6_BYTES;
  store32(ip, bpf_htonl(0x60000000));
  store16(ip + 4, bpf_htons((uint16_t)bytes));
  ip[6] = IPPROTO_ICMPV6;
  ip[7] = NEIGHBOUR_HOPS;
  icmp[0] = ADVERTISEMENT;
  icmp[1] = 0;
  store16(icmp + 2, 0);
  store32(icmp + 4, flags);
}

// ff02::1 and its MAC address.
INLINE void address_to_all_nodes(uint8_t* frame, const struct packet* p) {
  const uint8_t mac[6] = {0x33, 0x33, 0, 0, 0, 1};
  store64(frame + ETH_BYTES + 24, bpf_cpu_to_be64(0xff02000000000000ULL));
  store64(frame + ETH_BYTES + 32, bpf_cpu_to_be64(1));
  write_link_header(frame, mac, nic_mac(p->nic));
}

OUT_OF_LINE int answer_solicitation(struct xdp_md* ctx, struct packet* p) {
  uint8_t* frame = packet_start(ctx);
  const uint8_t* end = packet_end(ctx);
  uint8_t* ip = frame + ETH_BYTES;
  uint8_t* icmp = ip + IP6_BYTES;
  // As in the other engine: with an option there is room for ours; without one a probe for
  // duplicate addresses can't be answered in place.
  const _Bool is_probe = (p->source.low | p->source.high) == 0;
  const _Bool has_option = p->frame_bytes >= ETH_BYTES + IP6_BYTES + ADVERTISEMENT_BYTES;
  if (!has_room(icmp, NEIGHBOUR_BYTES, end) || (is_probe && !has_option)) {
    return drop(p, MR_DROP_BAD_L4);
  }
  const uint32_t bytes = has_option ? ADVERTISEMENT_BYTES : NEIGHBOUR_BYTES;
  if (is_probe) {
    address_to_all_nodes(frame, p);
  } else {
    store64(ip + 24, load64(ip + 8));
    store64(ip + 32, load64(ip + 16));
    turn_link_header(frame, p);
  }
  store64(ip + 8, load64(icmp + 8));
  store64(ip + 16, load64(icmp + 16));
  write_advertisement(ip, bytes, is_probe ? OVERRIDE : SOLICITED | OVERRIDE);
  if (has_option) {
    uint8_t* option = icmp + NEIGHBOUR_BYTES;
    if (!has_room(option, 8, end)) return drop(p, MR_DROP_BAD_L4);
    const uint8_t* mac = nic_mac(p->nic);
    option[0] = TARGET_LINK_LAYER_OPTION;
    option[1] = 1;
    store32(option + 2, load32(mac));
    store16(option + 6, load16(mac + 4));
  }
  const uint64_t addrs = sum_of_words(words_at(ip + 8)) + sum_of_words(words_at(ip + 24));
  const uint64_t sum = sum_of_packet(ctx, ETH_BYTES + IP6_BYTES, bytes) +
                       sum_of_pseudo_header(addrs, IPPROTO_ICMPV6, bytes);
  store16(icmp + 2, (uint16_t)~fold(sum));
  if (!cut_frame(ctx, p->frame_bytes, ETH_BYTES + IP6_BYTES + bytes)) {
    return drop(p, MR_DROP_BAD_L4);
  }
  return reply(p);
}

// ---- echo (RFC 792, RFC 4443 section 4.1)

enum {
  ECHO_REQUEST_V4 = 8,
  ECHO_REQUEST_V6 = 128,
  ECHO_REPLY_V6 = 129,
};

INLINE int answer_echo(struct xdp_md* ctx, struct packet* p) {
  const _Bool is_v4 = p->is_v4;
  uint8_t* frame = packet_start(ctx);
  uint8_t* ip = frame + ETH_BYTES;
  uint8_t* icmp = frame + l4_offset(is_v4);
  if (!has_room(icmp, ICMP_BYTES, packet_end(ctx))) return drop(p, MR_DROP_BAD_L4);
  const uint8_t type = icmp[0];
  icmp[0] = is_v4 ? 0 : ECHO_REPLY_V6;
  // Swapping the addresses leaves the pseudo-header's sum as it was; only the type changes.
  const uint16_t updated =
      updated_checksum(load16(icmp + 2), checksum_delta(type, is_v4 ? 0 : ECHO_REPLY_V6));
  store16(icmp + 2, updated == 0 ? 0xffff : updated);
  if (is_v4) {
    swap32(ip + 12, ip + 16);
    ip[8] = OWN_HOPS;
    write_ipv4_checksum(ip);
  } else {
    // Again, for verifiers that forget which family l4_offset() was for (Linux 6.1).
    if (!has_room(ip, IP6_BYTES, packet_end(ctx))) return drop(p, MR_DROP_BAD_L4);
    swap_addrs_v6(ip);
    ip[7] = OWN_HOPS;
  }
  turn_link_header(frame, p);
  return reply(p);
}

// ---- "fragmentation needed" (RFC 792, RFC 1191) and "packet too big" (RFC 4443 section 3.2)

enum {
  QUOTED_L4_BYTES = 64u,
};

INLINE int turn_into_too_big(struct xdp_md* ctx, struct packet* p, uint32_t mtu, _Bool is_v4) {
  const uint32_t ip_header_bytes = is_v4 ? IP4_BYTES : IP6_BYTES;
  const uint32_t added_bytes = ip_header_bytes + ICMP_BYTES;
  uint32_t quoted_bytes = ip_header_bytes + QUOTED_L4_BYTES;
  if (quoted_bytes > p->ip_bytes) quoted_bytes = p->ip_bytes;
  if (bpf_xdp_adjust_head(ctx, -(int)added_bytes) != 0) return drop(p, MR_DROP_TOO_BIG);
  uint8_t* frame = packet_start(ctx);
  uint8_t* ip = frame + ETH_BYTES;
  uint8_t* icmp = ip + ip_header_bytes;
  const uint8_t* link = frame + added_bytes;  // of the packet as it came
  if (!has_room(link, ETH_BYTES, packet_end(ctx))) return drop(p, MR_DROP_TOO_BIG);
  write_link_header(frame, link + 6, nic_mac(p->nic));
  store16(frame + 12, is_v4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6));
  const uint32_t icmp_bytes = ICMP_BYTES + quoted_bytes;
  icmp[0] = is_v4 ? 3 : 2;
  icmp[1] = is_v4 ? 4 : 0;
  store16(icmp + 2, 0);
  store32(icmp + 4, bpf_htonl(mtu));  // IPv4: 16 unused bits, then 16 of MTU
  uint64_t sum = 0;
  if (is_v4) {
    store32(ip, bpf_htonl(0x45000000u | (IP4_BYTES + icmp_bytes)));
    store32(ip + 4, 0);
    store32(ip + 8, bpf_htonl(OWN_HOPS << 24 | IPPROTO_ICMP << 16));
    store32(ip + 12, (uint32_t)(p->destination.high >> 32));
    store32(ip + 16, (uint32_t)(p->source.high >> 32));
    write_ipv4_checksum(ip);
  } else {
    store32(ip, bpf_htonl(0x60000000));
    store32(ip + 4, bpf_htonl(icmp_bytes << 16 | IPPROTO_ICMPV6 << 8 | OWN_HOPS));
    store64(ip + 8, p->destination.low);
    store64(ip + 16, p->destination.high);
    store64(ip + 24, p->source.low);
    store64(ip + 32, p->source.high);
    const uint64_t addrs = sum_of_words(p->source) + sum_of_words(p->destination);
    sum = sum_of_pseudo_header(addrs, IPPROTO_ICMPV6, icmp_bytes);
  }
  sum += sum_of_packet(ctx, ETH_BYTES + ip_header_bytes, icmp_bytes);
  store16(icmp + 2, (uint16_t)~fold(sum));
  const uint32_t frame_bytes = p->frame_bytes + added_bytes;
  if (!cut_frame(ctx, frame_bytes, ETH_BYTES + ip_header_bytes + icmp_bytes)) {
    return drop(p, MR_DROP_TOO_BIG);
  }
  count(p->cpu, MR_COUNTER_TOO_BIG_SENT);
  return reply(p);
}

// Tells the client how large its packets may be for the way to `target`. Also when IPv4's "do not
// fragment" is not set: the node can't fragment, and silence would be a black hole.
OUT_OF_LINE int answer_too_big(struct xdp_md* ctx, struct packet* p, uint32_t mtu) {
  if (!take(p, &p->cpu->too_bigs_left)) return drop(p, MR_DROP_RATE_LIMITED);
  if (p->is_v4) return turn_into_too_big(ctx, p, mtu, 1);
  return turn_into_too_big(ctx, p, mtu < 1280 ? 1280 : mtu, 0);  // RFC 8200 section 5
}
