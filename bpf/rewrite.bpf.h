// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Changing a frame on its way: destination translation, its reversal, encapsulation, the new link
// header. `is_v4` is a constant wherever these are used: each family has its own straight code.
#pragma once

#include "bpf/answer.bpf.h"
#include "bpf/checksum.bpf.h"
#include "bpf/config.bpf.h"
#include "dataplane/rules/forwarding_rule.h"

INLINE void update_l4_checksum(uint8_t* l4, const uint8_t* end, uint8_t protocol, uint16_t delta) {
  if (protocol == MR_PROTOCOL_TCP) {
    if (!has_room(l4, MR_TCP_BYTES, end)) return;
    store16(l4 + MR_TCP_CHECKSUM, mr_updated_checksum(load16(l4 + MR_TCP_CHECKSUM), delta));
    return;
  }
  store16(l4 + MR_UDP_CHECKSUM, mr_updated_udp_checksum(load16(l4 + MR_UDP_CHECKSUM), delta));
}

// Decrements TTL or hop limit, found to be at least 2, and writes source or destination.
INLINE void rewrite_ip(uint8_t* ip, _Bool is_v4, _Bool is_source, const struct mr_addr* addr,
                       uint16_t delta) {
  if (is_v4) {
    ip[MR_IPV4_TTL] -= 1;
    const uint16_t translated = mr_updated_checksum(load16(ip + MR_IPV4_CHECKSUM), delta);
    store16(ip + MR_IPV4_CHECKSUM, mr_updated_checksum(translated, MR_TTL_DELTA));
    store32(ip + (is_source ? MR_IPV4_SOURCE : MR_IPV4_DESTINATION), v4_of(addr));
    return;
  }
  ip[MR_IPV6_HOP_LIMIT] -= 1;
  copy_addr_v6(ip + (is_source ? MR_IPV6_SOURCE : MR_IPV6_DESTINATION), addr->bytes);
}

INLINE int translate_to_target(struct xdp_md* ctx, struct packet* p, const struct mr_target* target,
                               _Bool is_v4) {
  uint8_t* frame = packet_start(ctx);
  const uint8_t* end = packet_end(ctx);
  uint8_t* l4 = frame + l4_offset(is_v4);
  if (!has_room(l4, MR_UDP_BYTES, end)) return drop(p, MR_DROP_BAD_L4);
  if (UNLIKELY(hops_left(frame, is_v4) < 2)) return answer_expired(ctx, p);
  rewrite_ip(frame + MR_ETH_BYTES, is_v4, 0, &target->addr, p->ip_delta);
  store16(l4 + MR_L4_DESTINATION_PORT, target->port_be);
  update_l4_checksum(l4, end, p->protocol, p->l4_delta);
  write_link_header(frame, target->next_hop.mac, nic_mac(target->next_hop.nic));
  return forward(p, target->next_hop.nic, p->frame_bytes);
}

INLINE int redirect_to_target(struct xdp_md* ctx, struct packet* p,
                              const struct mr_target* target) {
  uint8_t* frame = packet_start(ctx);
  if (!has_room(frame, MR_ETH_BYTES, packet_end(ctx))) return drop(p, MR_DROP_MALFORMED_L2);
  write_link_header(frame, target->next_hop.mac, nic_mac(target->next_hop.nic));
  return forward(p, target->next_hop.nic, p->frame_bytes);
}

// ---- encapsulation

// UDP without a checksum. GUE's over IPv6 is derived from it.
INLINE _Bool lacks_checksum(struct xdp_md* ctx, const struct packet* p) {
  if (p->protocol != MR_PROTOCOL_UDP) return 0;
  const uint8_t* udp = packet_start(ctx) + l4_offset(0);
  return !has_room(udp, MR_UDP_BYTES, packet_end(ctx)) || load16(udp + MR_UDP_CHECKSUM) == 0;
}

INLINE void write_outer_ipv4(uint8_t* ip, const struct packet* p, const struct mr_target* target,
                             uint8_t tos, uint32_t forwarding) {
  const uint32_t bytes = p->ip_bytes + mr_outer_bytes(forwarding, 1);
  ip[0] = MR_IPV4_NO_OPTIONS;
  ip[MR_IPV4_TOS] = tos;
  store16(ip + MR_IPV4_TOTAL_LENGTH, bpf_htons((uint16_t)bytes));
  store32(ip + MR_IPV4_ID, bpf_htonl(MR_IPV4_DONT_FRAGMENT));  // id 0: RFC 6864 needs none then
  ip[MR_IPV4_TTL] = MR_OWN_HOPS;
  ip[MR_IPV4_PROTOCOL] = mr_outer_protocol(forwarding, 1);
  store32(ip + MR_IPV4_SOURCE, v4_of(&p->root->encap_source_v4));
  store32(ip + MR_IPV4_DESTINATION, v4_of(&target->addr));
  write_ipv4_checksum(ip);
}

INLINE void write_outer_ipv6(uint8_t* ip, const struct packet* p, const struct mr_target* target,
                             uint32_t version_class_label, uint32_t forwarding) {
  const uint32_t payload_bytes = p->ip_bytes + mr_outer_bytes(forwarding, 0) - MR_IPV6_BYTES;
  store32(ip, version_class_label);
  store16(ip + MR_IPV6_PAYLOAD_LENGTH, bpf_htons((uint16_t)payload_bytes));
  ip[MR_IPV6_NEXT_HEADER] = mr_outer_protocol(forwarding, 0);
  ip[MR_IPV6_HOP_LIMIT] = MR_OWN_HOPS;
  copy_addr_v6(ip + MR_IPV6_SOURCE, p->root->encap_source_v6.bytes);
  copy_addr_v6(ip + MR_IPV6_DESTINATION, target->addr.bytes);
}

INLINE uint16_t gue_checksum_v6(const struct packet* p, const struct mr_target* target,
                                const uint8_t* inner, const uint8_t* udp) {
  const uint16_t bytes_be = load16(udp + MR_UDP_LENGTH);
  const struct mr_inner_v6 header = {.first_word = load32(inner),
                                     .next_header = inner[MR_IPV6_NEXT_HEADER],
                                     .hop_limit = inner[MR_IPV6_HOP_LIMIT]};
  return mr_gue_checksum_v6(sum_of_addr(&p->root->encap_source_v6) + sum_of_addr(&target->addr),
                            (uint64_t)load32(udp) + bytes_be, bytes_be, header);
}

// Puts the whole packet behind new headers to the target (RFC 2003, RFC 2473; GUE variant 1). The
// caller made sure that it fits.
INLINE int encapsulate(struct xdp_md* ctx, struct packet* p, const struct mr_target* target,
                       _Bool is_v4, uint32_t forwarding) {
  const int32_t overhead = (int32_t)mr_outer_bytes(forwarding, is_v4);
  const int32_t padding = (int32_t)(p->frame_bytes - MR_ETH_BYTES - p->ip_bytes);
  if (padding > 0 && bpf_xdp_adjust_tail(ctx, -padding) != 0) return drop(p, MR_DROP_TOO_BIG);
  if (bpf_xdp_adjust_head(ctx, -overhead) != 0) return drop(p, MR_DROP_TOO_BIG);
  uint8_t* frame = packet_start(ctx);
  uint8_t* ip = frame + MR_ETH_BYTES;
  uint8_t* inner = ip + overhead;
  if (!has_room(inner, (is_v4 ? MR_IPV4_BYTES : MR_IPV6_BYTES), packet_end(ctx))) {
    return drop(p, MR_DROP_BAD_IP_HEADER);
  }
  uint8_t* udp = inner - MR_UDP_BYTES;
  if (forwarding == MR_FORWARDING_GUE) {
    store16(udp + MR_L4_SOURCE_PORT, mr_gue_source_port_be(p->client.low, p->client.high,
                                                           (uint16_t)p->client_port_protocol));
    store16(udp + MR_L4_DESTINATION_PORT, target->encap_port_be);
    store16(udp + MR_UDP_LENGTH, bpf_htons((uint16_t)(p->ip_bytes + MR_UDP_BYTES)));
    store16(udp + MR_UDP_CHECKSUM, is_v4 ? 0 : gue_checksum_v6(p, target, inner, udp));
  }
  if (is_v4) {
    write_outer_ipv4(ip, p, target, inner[MR_IPV4_TOS], forwarding);
  } else {
    write_outer_ipv6(ip, p, target, load32(inner), forwarding);
  }
  write_link_header(frame, target->next_hop.mac, nic_mac(target->next_hop.nic));
  store16(frame + MR_ETH_TYPE, is_v4 ? bpf_htons(MR_ETH_TYPE_IPV4) : bpf_htons(MR_ETH_TYPE_IPV6));
  return forward(p, target->next_hop.nic, MR_ETH_BYTES + (uint32_t)overhead + p->ip_bytes);
}

INLINE int translate_to_client(struct xdp_md* ctx, struct packet* p,
                               const struct mr_listener* listener, const uint8_t* mac, uint8_t nic,
                               _Bool is_v4) {
  uint8_t* frame = packet_start(ctx);
  const uint8_t* end = packet_end(ctx);
  uint8_t* l4 = frame + l4_offset(is_v4);
  if (!has_room(l4, MR_UDP_BYTES, end)) return drop(p, MR_DROP_BAD_L4);
  if (UNLIKELY(hops_left(frame, is_v4) < 2)) return answer_expired(ctx, p);
  rewrite_ip(frame + MR_ETH_BYTES, is_v4, 1, &listener->vip_addr, mr_negated_delta(p->ip_delta));
  store16(l4 + MR_L4_SOURCE_PORT, listener->port_be);
  update_l4_checksum(l4, end, p->protocol, mr_negated_delta(p->l4_delta));
  write_link_header(frame, mac, nic_mac(nic));
  return forward(p, nic, p->frame_bytes);
}
