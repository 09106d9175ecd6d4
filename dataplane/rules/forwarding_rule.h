// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// What follows from how a group forwards (enum mr_forwarding): what is written into a packet, what
// is put around it, and which of the answers this node sees.
#ifndef MILLRACE_RULES_FORWARDING_RULE_H_
#define MILLRACE_RULES_FORWARDING_RULE_H_

#include "dataplane/contract/config_abi.h"
#include "dataplane/rules/checksum_rule.h"
#include "dataplane/rules/header_rule.h"

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#endif

// The packet's destination is translated to the target's address and port.
MR_RULE bool mr_translates(uint32_t forwarding) { return forwarding == MR_FORWARDING_NAT; }

// Answers of the target pass this node. (Else the target holds the VIP and answers directly.)
MR_RULE bool mr_sees_replies(uint32_t forwarding) { return mr_translates(forwarding); }

// The packet travels inside another one.
MR_RULE bool mr_encapsulates(uint32_t forwarding) {
  return forwarding == MR_FORWARDING_IPIP || forwarding == MR_FORWARDING_GUE;
}

// Whether a packet from the target itself is refused: the client's address is kept, so the target
// would get packets from its own address.
MR_RULE bool mr_refuses_own_client(uint32_t forwarding) { return mr_translates(forwarding); }

// ---- translation

struct mr_nat_deltas {
  uint16_t ip;  // to add to the IPv4 header's checksum (mr_updated_checksum())
  uint16_t l4;  // likewise to TCP's or UDP's
};

// For the way from client to target; the way back takes mr_negated_delta(). Sums are those of the
// addresses.
MR_RULE struct mr_nat_deltas mr_nat_deltas_of(uint64_t vip_sum, uint16_t vip_port_be,
                                              uint64_t target_sum, uint16_t target_port_be) {
  const struct mr_nat_deltas deltas = {
      mr_checksum_delta(vip_sum, target_sum),
      mr_checksum_delta(vip_sum + vip_port_be, target_sum + target_port_be)};
  return deltas;
}

// ---- encapsulation: RFC 2003, RFC 2473, RFC 4213, draft-ietf-intarea-gue-09 variant 1
//
// The outer packet has the family of the target's address, the inner one that of the VIP. The two
// need not be the same.

// Bytes that an encapsulating `forwarding` puts around a packet of either family.
MR_RULE uint32_t mr_outer_bytes(uint32_t forwarding, bool outer_is_v4) {
  return (outer_is_v4 ? MR_IPV4_BYTES : MR_IPV6_BYTES) +
         (forwarding == MR_FORWARDING_GUE ? MR_UDP_BYTES : 0);
}

// mr_target.variant. `has_port`: the target has a port of its own.
MR_RULE uint8_t mr_variant_of(uint32_t forwarding, bool target_is_v4, bool has_port) {
  if (mr_encapsulates(forwarding)) {
    return (uint8_t)(target_is_v4 ? MR_VARIANT_OUTER_V4 : MR_VARIANT_OUTER_V6);
  }
  return (uint8_t)(mr_translates(forwarding) && !has_port ? MR_VARIANT_ANY_PORT : MR_VARIANT_NONE);
}

// What the outer IP header names.
MR_RULE uint8_t mr_outer_protocol(uint32_t forwarding, bool inner_is_v4) {
  if (forwarding == MR_FORWARDING_GUE) return (uint8_t)MR_PROTOCOL_UDP;
  return (uint8_t)(inner_is_v4 ? MR_PROTOCOL_IPV4_IN_IP : MR_PROTOCOL_IPV6_IN_IP);
}

// TOS or traffic class of an IPv6 header's first word as it lies in memory. The outer packet has
// the inner one's, ECN included (RFC 6040 section 4.1, normal mode).
MR_RULE uint8_t mr_class_of_v6(uint32_t first_word) {
  return (uint8_t)(__builtin_bswap32(first_word) >> 20);
}

// A number that all packets of a flow have, and that differs between flows.
MR_RULE uint32_t mr_flow_entropy(uint64_t client_low, uint64_t client_high,
                                 uint16_t client_port_be) {
  const uint64_t mixed = (client_low ^ client_high ^ client_port_be) * 0x9e3779b97f4a7c15ULL;
  return (uint32_t)(mixed ^ mixed >> 32);
}

// First word of an outer IPv6 header around an IPv4 packet, as it lies in memory. The flow label
// lets routers and nics tell flows apart (RFC 6438); the inner packet has none that could be used.
MR_RULE uint32_t mr_first_word_v6(uint8_t traffic_class, uint32_t flow_entropy) {
  return __builtin_bswap32(6u << 28 | (uint32_t)traffic_class << 20 | flow_entropy >> 12);
}

// The largest packet that a client may send, if packets of `target_mtu` bytes fit the way to the
// target (mr_target.mtu; without a limit it is what the outer length fields can say). Both sizes
// include the IP header.
MR_RULE uint32_t mr_inner_mtu(uint32_t target_mtu, uint32_t outer_bytes) {
  return target_mtu > outer_bytes ? target_mtu - outer_bytes : 0;
}

// The MTU that the client is told.
MR_RULE uint32_t mr_told_mtu(uint32_t inner_mtu, bool is_v4) {
  return !is_v4 && inner_mtu < MR_IPV6_MTU_MIN ? MR_IPV6_MTU_MIN : inner_mtu;
}

// Source port of the outer UDP header. All packets of a flow have the same. Different flows are
// spread over the ephemeral range (RFC 6335 section 6), so that routers and nics that hash ports
// tell flows apart.
MR_RULE uint16_t mr_gue_source_port_be(uint32_t flow_entropy) {
  return __builtin_bswap16((uint16_t)(0xc000u | (flow_entropy >> 16 & 0x3fffu)));
}

// ---- the checksum of gue's outer UDP header over IPv6
//
// RFC 6935 section 5 wants one. It is found without reading the payload (local checksum offload): a
// segment with a right checksum sums to the complement of its pseudo-header, which is known. A
// wrong inner checksum makes a wrong outer one, and the target drops the packet a layer earlier.
// The same happens to a UDP datagram shorter than the IP payload around it, which nobody sends.

// The sum of an inner IPv6 packet. Its addresses, length and next header are in the pseudo-header,
// too. So what is left is the header's first word, its hop limit, and the half of the next header's
// word that is not in the pseudo-header. All as they lie in memory.
MR_RULE uint64_t mr_inner_sum_v6(uint32_t first_word, uint8_t next_header, uint8_t hop_limit) {
  const uint32_t hops_and_next = (uint32_t)hop_limit << 8 | next_header;
  const uint16_t pseudo_next = (uint16_t)~__builtin_bswap16(next_header);
  return (uint64_t)first_word + hops_and_next + pseudo_next;
}

// The sum of an inner IPv4 packet. Its header, checksum included, sums to nothing. ICMP's checksum
// covers no pseudo-header, so a message sums to nothing as well. `addr_sum` is that of the inner
// addresses.
MR_RULE uint64_t mr_inner_sum_v4(uint64_t addr_sum, uint8_t protocol, uint32_t l4_bytes) {
  if (protocol == MR_PROTOCOL_ICMP) return 0;
  const uint64_t pseudo =
      addr_sum + __builtin_bswap16(protocol) + __builtin_bswap16((uint16_t)l4_bytes);
  return (uint16_t)~mr_fold(pseudo);
}

// `outer_addr_sum` is that of both outer addresses, `outer_udp_sum` that of the outer UDP header's
// ports and length, `inner_sum` one of the two above.
MR_RULE uint16_t mr_gue_checksum_v6(uint64_t outer_addr_sum, uint64_t outer_udp_sum,
                                    uint16_t outer_udp_bytes_be, uint64_t inner_sum) {
  const uint64_t outer = outer_addr_sum + outer_udp_sum + outer_udp_bytes_be +
                         __builtin_bswap16((uint16_t)MR_PROTOCOL_UDP);
  return mr_written_udp_checksum((uint16_t)~mr_fold(outer + inner_sum));
}

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif  // MILLRACE_RULES_FORWARDING_RULE_H_
