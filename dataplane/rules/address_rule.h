// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// What an address says of a packet. Addresses are two words, as loaded from memory: `low` has bytes
// 0 to 7, the first of them lowest. IPv4 addresses are v4-mapped (flow_abi.h).
#ifndef MILLRACE_RULES_ADDRESS_RULE_H_
#define MILLRACE_RULES_ADDRESS_RULE_H_

#include "dataplane/rules/rule.h"

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#endif

// The third 32-bit word of a v4-mapped address; the fourth is the IPv4 address.
#define MR_V4_MAPPED 0xffff0000u

MR_RULE uint64_t mr_v4_mapped_high(uint32_t addr_be) {
  return MR_V4_MAPPED | (uint64_t)addr_be << 32;
}

// v4-mapped or v4-compatible (RFC 4291 section 2.5.5), :: and ::1 among them. None of them is an
// address on the wire. In memory v4-mapped ones stand for IPv4, so a packet with one must not come
// in.
MR_RULE bool mr_embeds_v4(uint64_t low, uint64_t high) {
  const uint32_t third = (uint32_t)high;
  return low == 0 && (third == 0 || third == MR_V4_MAPPED);
}

// Whether no client can have the source of an IPv4 packet: 0/8, 127/8, multicast, class E,
// broadcast, and the packet's own destination (RFC 1122 section 3.2.1.3; LAND).
MR_RULE bool mr_is_martian_v4(uint32_t source_first_byte, bool is_to_itself) {
  return source_first_byte == 0 || source_first_byte == 127 || source_first_byte >= 224 ||
         is_to_itself;
}

// Likewise for IPv6: a source or destination that has an IPv4 address in it, a multicast source,
// and the packet's own destination.
MR_RULE bool mr_is_martian_v6(bool source_embeds_v4, bool destination_embeds_v4,
                              uint64_t source_low, bool is_to_itself) {
  return source_embeds_v4 || destination_embeds_v4 || (source_low & 0xff) == 0xff || is_to_itself;
}

// fe80::/10. Such an address means something on one link only, and nobody forwards it (RFC 4291
// section 2.5.6). It is no martian, because neighbours ask for VIPs from such addresses.
MR_RULE bool mr_is_link_local(uint64_t low) { return (low & 0xc0ff) == 0x80fe; }

// Whether no client can have the address, whatever the packet: IPv4's 0/8, 127/8, multicast, class
// E and broadcast; IPv6's multicast, link-local and those with an IPv4 address in them.
MR_RULE bool mr_is_no_clients(uint64_t low, uint64_t high) {
  const uint32_t first = (uint32_t)(high >> 32) & 0xff;
  if (low == 0 && (uint32_t)high == MR_V4_MAPPED) return mr_is_martian_v4(first, false);
  return mr_embeds_v4(low, high) || (low & 0xff) == 0xff || mr_is_link_local(low);
}

// Why a source begins no flow.
enum mr_source_fault {
  MR_SOURCE_FINE = 0,
  MR_SOURCE_VIP,         // a VIP, which asks nobody
  MR_SOURCE_NODE,        // the node's own address, forged: a flow from it would take the targets'
                         // answers to probes from the kernel
  MR_SOURCE_LINK_LOCAL,  // whom no answer reaches from another link
  MR_SOURCE_MARTIAN,
};

MR_RULE enum mr_source_fault mr_source_fault_of(uint64_t source_low, bool is_vip, bool is_node,
                                                bool is_martian) {
  if (is_vip | is_node) return is_vip ? MR_SOURCE_VIP : MR_SOURCE_NODE;
  if (mr_is_link_local(source_low)) return MR_SOURCE_LINK_LOCAL;
  return is_martian ? MR_SOURCE_MARTIAN : MR_SOURCE_FINE;
}

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif  // MILLRACE_RULES_ADDRESS_RULE_H_
