// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Changing a frame on its way: destination translation, its reversal, encapsulation, the new link
// header. `is_v4` is a constant wherever these are used: each family has its own straight code.
#pragma once

#include "bpf/checksum.bpf.h"
#include "bpf/config.bpf.h"

// Delta of one TTL decrement: ~1 + 0.
enum {
  TTL_DELTA = 0xfffe,
};

// The end of `bytes` bytes at `at` is inside the packet: what the parser checked already, again for
// the verifier, which does not remember it by protocol.
INLINE _Bool has_room(const uint8_t* at, uint32_t bytes, const uint8_t* end) {
  return at + bytes <= end;
}

INLINE void update_l4_checksum(uint8_t* l4, const uint8_t* end, uint8_t protocol, uint16_t delta) {
  if (protocol == IPPROTO_TCP) {
    if (!has_room(l4, TCP_BYTES, end)) return;
    store16(l4 + 16, updated_checksum(load16(l4 + 16), delta));
    return;
  }
  const uint16_t before = load16(l4 + 6);
  // The sender computed none (RFC 768), over IPv6 too (RFC 6935): its receiver decides.
  if (before == 0) return;
  const uint16_t after = updated_checksum(before, delta);
  store16(l4 + 6, after == 0 ? 0xffff : after);  // RFC 768: zero would say so
}

INLINE uint8_t hops_left(const uint8_t* frame, _Bool is_v4) {
  return frame[ETH_BYTES + (is_v4 ? 8 : 7)];
}

// Decrements TTL or hop limit, found to be at least 2, and writes source or destination.
INLINE void rewrite_ip(uint8_t* ip, _Bool is_v4, _Bool is_source, const struct mr_addr* addr,
                       uint16_t delta) {
  if (is_v4) {
    ip[8] -= 1;
    store16(ip + 10, updated_checksum(load16(ip + 10), plus(delta, TTL_DELTA)));
    store32(ip + (is_source ? 12 : 16), v4_of(addr));
    return;
  }
  ip[7] -= 1;
  store64(ip + (is_source ? 8 : 24), load64(addr->bytes));
  store64(ip + (is_source ? 16 : 32), load64(addr->bytes + 8));
}

INLINE int translate_to_target(struct xdp_md* ctx, struct packet* p, const struct mr_target* target,
                               _Bool is_v4) {
  uint8_t* frame = packet_start(ctx);
  const uint8_t* end = packet_end(ctx);
  uint8_t* l4 = frame + l4_offset(is_v4);
  if (!has_room(l4, UDP_BYTES, end)) return drop(p, MR_DROP_BAD_L4);
  if (hops_left(frame, is_v4) < 2) return drop(p, MR_DROP_TTL_EXPIRED);
  rewrite_ip(frame + ETH_BYTES, is_v4, 0, &target->addr, p->ip_delta);
  store16(l4 + 2, target->port_be);
  update_l4_checksum(l4, end, p->protocol, p->l4_delta);
  write_link_header(frame, target->next_hop.mac, nic_mac(target->next_hop.nic));
  return forward(p, target->next_hop.nic, p->frame_bytes);
}

INLINE int redirect_to_target(struct xdp_md* ctx, struct packet* p,
                              const struct mr_target* target) {
  uint8_t* frame = packet_start(ctx);
  if (!has_room(frame, ETH_BYTES, packet_end(ctx))) return drop(p, MR_DROP_MALFORMED_L2);
  write_link_header(frame, target->next_hop.mac, nic_mac(target->next_hop.nic));
  return forward(p, target->next_hop.nic, p->frame_bytes);
}

// ---- encapsulation

// UDP without a checksum. GUE's over IPv6 is derived from it.
INLINE _Bool lacks_checksum(struct xdp_md* ctx, const struct packet* p) {
  if (p->protocol != IPPROTO_UDP) return 0;
  const uint8_t* udp = packet_start(ctx) + l4_offset(0);
  return !has_room(udp, UDP_BYTES, packet_end(ctx)) || load16(udp + 6) == 0;
}

INLINE uint32_t encap_overhead(_Bool is_v4, _Bool is_gue) {
  return (is_v4 ? IP4_BYTES : IP6_BYTES) + (is_gue ? UDP_BYTES : 0);
}

// Differs by flow, so that routers and the target's receive queues can spread flows.
INLINE uint16_t gue_source_port_be(const struct packet* p) {
  const uint64_t x =
      (p->client.low ^ p->client.high ^ (uint16_t)p->client_port_protocol) * 0x9e3779b97f4a7c15ULL;
  const uint32_t h = (uint32_t)(x ^ x >> 32);
  return bpf_htons((uint16_t)(0xc000 | (h >> 16 & 0x3fff)));
}

INLINE void write_outer_ipv4(uint8_t* ip, const struct packet* p, const struct mr_target* target,
                             uint8_t tos, _Bool is_gue) {
  const uint32_t bytes = p->ip_bytes + encap_overhead(1, is_gue);
  ip[0] = 0x45;
  ip[1] = tos;
  store16(ip + 2, bpf_htons((uint16_t)bytes));
  store32(ip + 4, bpf_htonl(0x4000));  // id 0, do not fragment: RFC 6864 needs no id then
  ip[8] = 64;
  ip[9] = is_gue ? IPPROTO_UDP : IPPROTO_IPIP;
  store32(ip + 12, v4_of(&p->root->encap_source_v4));
  store32(ip + 16, v4_of(&target->addr));
  write_ipv4_checksum(ip);
}

INLINE void write_outer_ipv6(uint8_t* ip, const struct packet* p, const struct mr_target* target,
                             uint32_t version_class_label, _Bool is_gue) {
  const uint32_t payload_bytes = p->ip_bytes + (is_gue ? UDP_BYTES : 0);
  store32(ip, version_class_label);
  store16(ip + 4, bpf_htons((uint16_t)payload_bytes));
  ip[6] = is_gue ? IPPROTO_UDP : IPPROTO_IPV6;
  ip[7] = 64;
  store64(ip + 8, load64(p->root->encap_source_v6.bytes));
  store64(ip + 16, load64(p->root->encap_source_v6.bytes + 8));
  store64(ip + 24, load64(target->addr.bytes));
  store64(ip + 32, load64(target->addr.bytes + 8));
}

// The outer UDP checksum over IPv6 at constant cost ("local checksum offload"): the inner
// transport's checksum makes its segment sum to the complement of its pseudo-header, so of the
// inner packet only the header is read. A wrong inner checksum makes a wrong outer one.
INLINE uint16_t gue_checksum_v6(const struct packet* p, const struct mr_target* target,
                                const uint8_t* inner, const uint8_t* udp) {
  const uint32_t inner_payload_bytes = p->ip_bytes - IP6_BYTES;
  const uint64_t inner_addrs = sum_of_words(p->source) + sum_of_words(p->destination);
  const uint64_t pseudo = sum_of_pseudo_header(inner_addrs, p->protocol, inner_payload_bytes);
  const uint64_t inner_sum =
      (uint64_t)load32(inner) + load32(inner + 4) + inner_addrs + (uint16_t)~fold(pseudo);
  const uint64_t outer_addrs = sum_of_addr(&p->root->encap_source_v6) + sum_of_addr(&target->addr);
  const uint64_t outer_pseudo =
      sum_of_pseudo_header(outer_addrs, IPPROTO_UDP, p->ip_bytes + UDP_BYTES);
  const uint16_t checksum =
      (uint16_t)~fold(inner_sum + outer_pseudo + load32(udp) + load16(udp + 4));
  return checksum == 0 ? 0xffff : checksum;
}

// The packet whole behind new headers to the target (RFC 2003, RFC 2473; GUE variant 1). It fits,
// as the caller made sure.
INLINE int encapsulate(struct xdp_md* ctx, struct packet* p, const struct mr_target* target,
                       _Bool is_v4, _Bool is_gue) {
  const int32_t overhead = (int32_t)encap_overhead(is_v4, is_gue);
  const int32_t padding = (int32_t)(p->frame_bytes - ETH_BYTES - p->ip_bytes);
  if (padding > 0 && bpf_xdp_adjust_tail(ctx, -padding) != 0) return drop(p, MR_DROP_TOO_BIG);
  if (bpf_xdp_adjust_head(ctx, -overhead) != 0) return drop(p, MR_DROP_TOO_BIG);
  uint8_t* frame = packet_start(ctx);
  uint8_t* ip = frame + ETH_BYTES;
  uint8_t* inner = ip + overhead;
  if (!has_room(inner, (is_v4 ? IP4_BYTES : IP6_BYTES), packet_end(ctx))) {
    return drop(p, MR_DROP_BAD_IP_HEADER);
  }
  uint8_t* udp = inner - UDP_BYTES;
  if (is_gue) {
    store16(udp, gue_source_port_be(p));
    store16(udp + 2, target->encap_port_be);
    store16(udp + 4, bpf_htons((uint16_t)(p->ip_bytes + UDP_BYTES)));
    store16(udp + 6, is_v4 ? 0 : gue_checksum_v6(p, target, inner, udp));
  }
  if (is_v4) {
    write_outer_ipv4(ip, p, target, inner[1], is_gue);
  } else {
    write_outer_ipv6(ip, p, target, load32(inner), is_gue);
  }
  write_link_header(frame, target->next_hop.mac, nic_mac(target->next_hop.nic));
  store16(frame + 12, is_v4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6));
  return forward(p, target->next_hop.nic, ETH_BYTES + (uint32_t)overhead + p->ip_bytes);
}

INLINE int translate_to_client(struct xdp_md* ctx, struct packet* p,
                               const struct mr_listener* listener, const uint8_t* mac, uint8_t nic,
                               _Bool is_v4) {
  uint8_t* frame = packet_start(ctx);
  const uint8_t* end = packet_end(ctx);
  uint8_t* l4 = frame + l4_offset(is_v4);
  if (!has_room(l4, UDP_BYTES, end)) return drop(p, MR_DROP_BAD_L4);
  if (hops_left(frame, is_v4) < 2) return drop(p, MR_DROP_TTL_EXPIRED);
  rewrite_ip(frame + ETH_BYTES, is_v4, 1, &listener->vip_addr, (uint16_t)~p->ip_delta);
  store16(l4, listener->port_be);
  update_l4_checksum(l4, end, p->protocol, (uint16_t)~p->l4_delta);
  write_link_header(frame, mac, nic_mac(nic));
  return forward(p, nic, p->frame_bytes);
}
