// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Changing a frame on its way: destination translation, its reversal, encapsulation, the new link
// header. `is_v4` is a constant wherever these are used: each family has its own straight code.
#pragma once

#include "bpf/answer.bpf.h"
#include "bpf/checksum.bpf.h"
#include "bpf/config.bpf.h"
#include "dataplane/rules/forwarding_rule.h"

// `replying`: the flow whose target sent the packet, or null.
INLINE void update_l4_checksum(uint8_t* l4, const uint8_t* end, uint8_t protocol, uint16_t delta,
                               struct mr_flow_record* replying) {
  if (protocol == MR_PROTOCOL_TCP) {
    if (!has_room(l4, MR_TCP_BYTES, end)) return;
    if (replying != 0) replying->target_ack_be = load32(l4 + MR_TCP_ACKNOWLEDGEMENT);
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
  if (!has_room(l4, MR_UDP_BYTES, end)) return drop_by_call(p, MR_DROP_BAD_L4);
  if (UNLIKELY(hops_left(frame, is_v4) < 2)) return answer_expired(ctx, p);
  rewrite_ip(frame + MR_ETH_BYTES, is_v4, 0, &target->addr, p->ip_delta);
  store16(l4 + MR_L4_DESTINATION_PORT, target->port_be);
  update_l4_checksum(l4, end, p->protocol, p->l4_delta, 0);
  write_link_header(frame, target->next_hop.mac, nic_mac(target->next_hop.nic));
  return forward(p, target->next_hop.nic, p->frame_bytes);
}

INLINE int redirect_to_target(struct xdp_md* ctx, struct packet* p,
                              const struct mr_target* target) {
  uint8_t* frame = packet_start(ctx);
  if (!has_room(frame, MR_ETH_BYTES, packet_end(ctx))) return drop_by_call(p, MR_DROP_MALFORMED_L2);
  write_link_header(frame, target->next_hop.mac, nic_mac(target->next_hop.nic));
  return forward(p, target->next_hop.nic, p->frame_bytes);
}

// ---- encapsulation

INLINE uint32_t flow_entropy(const struct packet* p) {
  return mr_flow_entropy(p->client.low, p->client.high, (uint16_t)p->client_port_protocol);
}

// The outer headers of one packet. Constants wherever it is used, but for the pointer; and for
// `inner_is_v4` in encapsulate_summed(), whose packets are rare.
struct outer {
  _Bool is_v4;
  _Bool inner_is_v4;
  uint32_t forwarding;
  _Bool is_summed;  // encapsulate_summed() writes gue's checksum
  const uint8_t* inner;
};

INLINE void write_outer_ipv4(uint8_t* ip, const struct packet* p, const struct mr_target* target,
                             const struct outer* outer) {
  const uint32_t bytes = p->ip_bytes + mr_outer_bytes(outer->forwarding, 1);
  ip[0] = MR_IPV4_NO_OPTIONS;
  ip[MR_IPV4_TOS] =
      outer->inner_is_v4 ? outer->inner[MR_IPV4_TOS] : mr_class_of_v6(load32(outer->inner));
  store16(ip + MR_IPV4_TOTAL_LENGTH, bpf_htons((uint16_t)bytes));
  store32(ip + MR_IPV4_ID, bpf_htonl(MR_IPV4_DONT_FRAGMENT));  // id 0: RFC 6864 needs none then
  ip[MR_IPV4_TTL] = MR_OWN_HOPS;
  ip[MR_IPV4_PROTOCOL] = mr_outer_protocol(outer->forwarding, outer->inner_is_v4);
  store32(ip + MR_IPV4_SOURCE, v4_of(&p->root->encap_source_v4.addr));
  store32(ip + MR_IPV4_DESTINATION, v4_of(&target->addr));
  write_ipv4_checksum(ip);
}

INLINE void write_outer_ipv6(uint8_t* ip, const struct packet* p, const struct mr_target* target,
                             const struct outer* outer) {
  const uint32_t payload_bytes = p->ip_bytes + mr_outer_bytes(outer->forwarding, 0) - MR_IPV6_BYTES;
  store32(ip, outer->inner_is_v4 ? mr_first_word_v6(outer->inner[MR_IPV4_TOS], flow_entropy(p))
                                 : load32(outer->inner));
  store16(ip + MR_IPV6_PAYLOAD_LENGTH, bpf_htons((uint16_t)payload_bytes));
  ip[MR_IPV6_NEXT_HEADER] = mr_outer_protocol(outer->forwarding, outer->inner_is_v4);
  ip[MR_IPV6_HOP_LIMIT] = MR_OWN_HOPS;
  copy_addr_v6(ip + MR_IPV6_SOURCE, p->root->encap_source_v6.addr.bytes);
  copy_addr_v6(ip + MR_IPV6_DESTINATION, target->addr.bytes);
}

INLINE uint16_t gue_checksum_v6(const struct packet* p, const struct mr_target* target,
                                const struct outer* outer, const uint8_t* udp) {
  const uint8_t* inner = outer->inner;
  const uint64_t inner_sum =
      outer->inner_is_v4
          ? mr_inner_sum_v4(
                (uint64_t)load32(inner + MR_IPV4_SOURCE) + load32(inner + MR_IPV4_DESTINATION),
                p->protocol, p->ip_bytes - MR_IPV4_BYTES)
          : mr_inner_sum_v6(load32(inner), inner[MR_IPV6_NEXT_HEADER], inner[MR_IPV6_HOP_LIMIT]);
  const uint16_t bytes_be = load16(udp + MR_UDP_LENGTH);
  return mr_gue_checksum_v6(
      sum_of_addr(&p->root->encap_source_v6.addr) + sum_of_addr(&target->addr),
      (uint64_t)load32(udp) + bytes_be, bytes_be, inner_sum);
}

// Gives a packet that was put behind new headers a source of its flow's own (mr_encap_source).
OUT_OF_LINE int spread_source(struct xdp_md* ctx, const struct packet* p, uint32_t spread_be,
                              _Bool is_v4, _Bool has_checksum) {
  uint8_t* ip = packet_start(ctx) + MR_ETH_BYTES;
  // For the verifier. A fragment may have one byte behind the two IP headers.
  if (!has_room(ip, MR_IPV4_BYTES + MR_IPV4_BYTES, packet_end(ctx))) return 0;
  uint8_t* field = ip + (is_v4 ? MR_IPV4_SOURCE : MR_IPV6_SOURCE + 12);
  const uint32_t before = load32(field);
  const uint32_t after = before | (flow_entropy(p) & spread_be);
  store32(field, after);
  if (!has_checksum) return 0;
  uint8_t* checksum = ip + (is_v4 ? MR_IPV4_CHECKSUM : MR_IPV6_BYTES + MR_UDP_CHECKSUM);
  if (!has_room(checksum, sizeof(uint16_t), packet_end(ctx))) return 0;  // for the verifier
  const uint16_t sum = mr_recomputed_checksum(load16(checksum), before, after);
  store16(checksum, is_v4 ? sum : mr_written_udp_checksum(sum));
  return 0;
}

// Puts the whole packet behind new headers to the target (RFC 2003, RFC 2473, RFC 4213; GUE variant
// 1). The caller made sure that it fits.
INLINE int encapsulate(struct xdp_md* ctx, struct packet* p, const struct mr_target* target,
                       struct outer outer) {
  const int32_t overhead = (int32_t)mr_outer_bytes(outer.forwarding, outer.is_v4);
  const int32_t padding = (int32_t)(p->frame_bytes - MR_ETH_BYTES - p->ip_bytes);
  if (padding > 0 && bpf_xdp_adjust_tail(ctx, -padding) != 0)
    return drop_by_call(p, MR_DROP_TOO_BIG);
  if (bpf_xdp_adjust_head(ctx, -overhead) != 0) return drop_by_call(p, MR_DROP_TOO_BIG);
  uint8_t* frame = packet_start(ctx);
  uint8_t* ip = frame + MR_ETH_BYTES;
  outer.inner = ip + overhead;
  if (!has_room(outer.inner, (outer.inner_is_v4 ? MR_IPV4_BYTES : MR_IPV6_BYTES),
                packet_end(ctx))) {
    return drop_by_call(p, MR_DROP_BAD_IP_HEADER);
  }
  if (outer.forwarding == MR_FORWARDING_GUE) {
    uint8_t* udp = ip + overhead - MR_UDP_BYTES;
    store16(udp + MR_L4_SOURCE_PORT, mr_gue_source_port_be(flow_entropy(p)));
    store16(udp + MR_L4_DESTINATION_PORT, target->encap_port_be);
    store16(udp + MR_UDP_LENGTH, bpf_htons((uint16_t)(p->ip_bytes + MR_UDP_BYTES)));
    store16(udp + MR_UDP_CHECKSUM,
            outer.is_v4 || outer.is_summed ? 0 : gue_checksum_v6(p, target, &outer, udp));
  }
  if (outer.is_v4) {
    write_outer_ipv4(ip, p, target, &outer);
  } else {
    write_outer_ipv6(ip, p, target, &outer);
  }
  write_link_header(frame, target->next_hop.mac, nic_mac(target->next_hop.nic));
  store16(frame + MR_ETH_TYPE,
          outer.is_v4 ? bpf_htons(MR_ETH_TYPE_IPV4) : bpf_htons(MR_ETH_TYPE_IPV6));
  const uint32_t spread_be =
      outer.is_v4 ? p->root->encap_source_v4.spread_be : p->root->encap_source_v6.spread_be;
  if (UNLIKELY(spread_be != 0)) {
    spread_source(ctx, p, spread_be, outer.is_v4,
                  outer.is_v4 || outer.forwarding == MR_FORWARDING_GUE);
  }
  return forward(p, target->next_hop.nic, MR_ETH_BYTES + (uint32_t)overhead + p->ip_bytes);
}

// The sum of more bytes than sum_of_packet() takes. First what is left over by the steps, then the
// steps, then an odd last byte. Each part finds its place anew, so that the verifier need not
// follow every way through the parts before it.
enum {
  LONG_SUM_BYTES_MAX = 16384,  // jumbo frames, in the generic mode
  LONG_SUM_STEP = 32,
};
VERIFIED_ONCE uint64_t sum_of_long_packet(struct xdp_md* ctx, uint32_t offset, uint32_t bytes) {
  const uint8_t* end = packet_end(ctx);
  const uint8_t* start = packet_start(ctx) + (offset & 0xff);
  const uint32_t left_over = bytes & (LONG_SUM_STEP - 2);
  uint64_t sum = sum_of_packet(ctx, offset, left_over);
  const uint8_t* at = start + left_over;
#pragma clang loop unroll(disable)
  for (uint32_t i = 0; i < LONG_SUM_BYTES_MAX / LONG_SUM_STEP; ++i) {
    if (i >= bytes / LONG_SUM_STEP || at + LONG_SUM_STEP > end) break;
    sum += (uint64_t)load32(at) + load32(at + 4) + load32(at + 8) + load32(at + 12);
    sum += (uint64_t)load32(at + 16) + load32(at + 20) + load32(at + 24) + load32(at + 28);
    at += LONG_SUM_STEP;
  }
  if ((bytes & 1) == 0) return sum;
  const uint8_t* last = start + ((bytes - 1) & (LONG_SUM_BYTES_MAX - 1));
  return last + 1 > end ? sum : sum + *last;
}

INLINE void write_outer_checksum(struct xdp_md* ctx, const struct packet* p) {
  const uint32_t bytes = MR_UDP_BYTES + p->ip_bytes;
  const uint8_t* ip = packet_start(ctx) + MR_ETH_BYTES;
  uint8_t* udp = packet_start(ctx) + MR_ETH_BYTES + MR_IPV6_BYTES;
  if (!has_room(udp, MR_UDP_BYTES, packet_end(ctx))) return;
  store16(udp + MR_UDP_CHECKSUM, 0);
  const uint64_t addrs = sum_of_words(words_at(ip + MR_IPV6_SOURCE)) +
                         sum_of_words(words_at(ip + MR_IPV6_DESTINATION));
  const uint64_t sum = mr_sum_of_pseudo_header(addrs, MR_PROTOCOL_UDP, bytes) +
                       sum_of_long_packet(ctx, MR_ETH_BYTES + MR_IPV6_BYTES, bytes);
  store16(udp + MR_UDP_CHECKSUM, mr_written_udp_checksum((uint16_t)~mr_fold(sum)));
}

// By gue over IPv6, where the checksum does not follow from the inner one: a datagram has none, a
// fragment's covers more than the fragment. So the bytes are summed.
OUT_OF_LINE int encapsulate_summed(struct xdp_md* ctx, struct packet* p) {
  const struct mr_target* target = p->target;
  if (target == 0) return drop(p, MR_DROP_NO_TARGET);  // for the verifier
  const struct outer outer = {
      .inner_is_v4 = p->is_v4, .forwarding = MR_FORWARDING_GUE, .is_summed = 1};
  const uint64_t forwarded = forwarded_count(p);
  const int done = encapsulate(ctx, p, target, outer);
  if (forwarded_count(p) != forwarded) write_outer_checksum(ctx, p);
  return done;
}

// UDP (RFC 768).
INLINE _Bool lacks_checksum(struct xdp_md* ctx, const struct packet* p, _Bool is_v4) {
  if (p->protocol != MR_PROTOCOL_UDP) return 0;
  const uint8_t* udp = packet_start(ctx) + l4_offset(is_v4);
  return !has_room(udp, MR_UDP_BYTES, packet_end(ctx)) || load16(udp + MR_UDP_CHECKSUM) == 0;
}

INLINE int encapsulate_to_target(struct xdp_md* ctx, struct packet* p,
                                 const struct mr_target* target, struct outer outer) {
  const struct mr_addr* source =
      outer.is_v4 ? &p->root->encap_source_v4.addr : &p->root->encap_source_v6.addr;
  if ((load64(source->bytes) | load64(source->bytes + 8)) == 0) {
    return drop_by_call(p, MR_DROP_NO_ENCAP_SOURCE);
  }
  const uint32_t mtu = mr_inner_mtu(target->mtu, mr_outer_bytes(outer.forwarding, outer.is_v4));
  if (UNLIKELY(p->ip_bytes > mtu)) return answer_too_big(ctx, p, mtu);
  if (outer.forwarding == MR_FORWARDING_GUE && !outer.is_v4 &&
      UNLIKELY(lacks_checksum(ctx, p, outer.inner_is_v4))) {
    return encapsulate_summed(ctx, p);
  }
  return encapsulate(ctx, p, target, outer);
}

INLINE int encapsulate_by_mode(struct xdp_md* ctx, struct packet* p, const struct mr_target* target,
                               _Bool inner_is_v4, _Bool outer_is_v4) {
  struct outer outer = {.is_v4 = outer_is_v4, .inner_is_v4 = inner_is_v4};
  if (target->forwarding == MR_FORWARDING_GUE) {
    outer.forwarding = MR_FORWARDING_GUE;
    return encapsulate_to_target(ctx, p, target, outer);
  }
  outer.forwarding = MR_FORWARDING_IPIP;
  return encapsulate_to_target(ctx, p, target, outer);
}

INLINE int translate_addr_to_target(struct xdp_md* ctx, struct packet* p,
                                    const struct mr_target* target) {
  uint8_t* frame = packet_start(ctx);
  const uint8_t* end = packet_end(ctx);
  uint8_t* l4 = frame + l4_offset(p->is_v4);
  if (!has_room(l4, MR_UDP_BYTES, end)) return drop(p, MR_DROP_BAD_L4);
  if (hops_left(frame, p->is_v4) < 2) return answer_expired(ctx, p);
  // For the verifier of Linux 6.1, which forgets what the family says of the length.
  if (p->is_v4) {
    if (!has_room(frame, MR_ETH_BYTES + MR_IPV4_BYTES, packet_end(ctx))) return XDP_DROP;
    rewrite_ip(frame + MR_ETH_BYTES, 1, 0, &target->addr, p->ip_delta);
  } else {
    if (!has_room(frame, MR_ETH_BYTES + MR_IPV6_BYTES, packet_end(ctx))) return XDP_DROP;
    rewrite_ip(frame + MR_ETH_BYTES, 0, 0, &target->addr, p->ip_delta);
  }
  update_l4_checksum(l4, end, p->protocol, p->l4_delta, 0);
  write_link_header(frame, target->next_hop.mac, nic_mac(target->next_hop.nic));
  return forward(p, target->next_hop.nic, p->frame_bytes);
}

// To p->target, whose address is of another family than the VIP, or which takes any port.
OUT_OF_LINE int send_by_variant(struct xdp_md* ctx, struct packet* p) {
  const struct mr_target* target = p->target;
  if (target == 0) return drop(p, MR_DROP_NO_TARGET);  // for the verifier
  if (target->variant == MR_VARIANT_ANY_PORT) return translate_addr_to_target(ctx, p, target);
  return p->is_v4 ? encapsulate_by_mode(ctx, p, target, 1, 0)
                  : encapsulate_by_mode(ctx, p, target, 0, 1);
}

// `flow`: null if it has no record.
INLINE int translate_to_client(struct xdp_md* ctx, struct packet* p,
                               const struct mr_listener* listener, uint16_t vip_port_be,
                               struct mr_flow_record* flow, const uint8_t* mac, uint8_t nic,
                               _Bool is_v4) {
  uint8_t* frame = packet_start(ctx);
  const uint8_t* end = packet_end(ctx);
  uint8_t* l4 = frame + l4_offset(is_v4);
  if (!has_room(l4, MR_UDP_BYTES, end)) return drop_by_call(p, MR_DROP_BAD_L4);
  if (UNLIKELY(hops_left(frame, is_v4) < 2)) return answer_expired(ctx, p);
  rewrite_ip(frame + MR_ETH_BYTES, is_v4, 1, &listener->vip_addr, mr_negated_delta(p->ip_delta));
  store16(l4 + MR_L4_SOURCE_PORT, vip_port_be);
  update_l4_checksum(l4, end, p->protocol, mr_negated_delta(p->l4_delta), flow);
  write_link_header(frame, mac, nic_mac(nic));
  return forward(p, nic, p->frame_bytes);
}
