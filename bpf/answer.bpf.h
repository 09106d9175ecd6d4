// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Turning a frame into the engine's own answer to it, in place: core/answer.h for the other engine.
#pragma once

#include "bpf/checksum.bpf.h"
#include "bpf/config.bpf.h"
#include "dataplane/rules/forwarding_rule.h"
#include "dataplane/rules/fragment_rule.h"

INLINE void swap32(uint8_t* a, uint8_t* b) {
  const uint32_t first = load32(a);
  store32(a, load32(b));
  store32(b, first);
}

INLINE void swap_addrs_v6(uint8_t* ip) {
  const uint64_t low = load64(ip + MR_IPV6_SOURCE);
  const uint64_t high = load64(ip + MR_IPV6_SOURCE + 8);
  copy_addr_v6(ip + MR_IPV6_SOURCE, ip + MR_IPV6_DESTINATION);
  store_addr_v6(ip + MR_IPV6_DESTINATION, low, high);
}

INLINE void store_mac(uint8_t* at, const uint8_t* mac) {
  store32(at, load32(mac));
  store16(at + 4, load16(mac + 4));
}

// Back to the neighbour that sent the frame.
INLINE void turn_link_header(uint8_t* frame, const struct packet* p) {
  write_link_header(frame, frame + MR_ETH_SOURCE, own_mac(p));
}

// Makes the frame `bytes` long; false when that fails. Packet pointers are stale afterwards.
INLINE _Bool cut_frame(struct xdp_md* ctx, uint32_t now_bytes, uint32_t bytes) {
  if (now_bytes == bytes) return 1;
  return bpf_xdp_adjust_tail(ctx, (int)bytes - (int)now_bytes) == 0;
}

// ---- ARP (RFC 826)

OUT_OF_LINE int handle_arp(struct xdp_md* ctx, struct packet* p) {
  uint8_t* frame = packet_start(ctx);
  uint8_t* body = frame + MR_ETH_BYTES;
  if (!has_room(body, MR_ARP_BYTES, packet_end(ctx)) ||
      load64(body) != bpf_cpu_to_be64(MR_ARP_REQUEST)) {
    return punt(ctx, p);
  }
  const uint32_t asked_be = load32(body + MR_ARP_TARGET_IP);
  const struct addr_words asked = v4_words(asked_be);
  if (!is_vip(p->root_index, asked.low, asked.high)) return punt(ctx, p);
  store64(body, bpf_cpu_to_be64(MR_ARP_REPLY));
  // The sender's half of the request becomes the target's half of the answer.
  const uint32_t sender_be = load32(body + MR_ARP_SENDER_IP);
  const uint8_t* mac = own_mac(p);
  store_mac(body + MR_ARP_TARGET_MAC, body + MR_ARP_SENDER_MAC);
  store32(body + MR_ARP_TARGET_IP, sender_be);
  store_mac(body + MR_ARP_SENDER_MAC, mac);
  store32(body + MR_ARP_SENDER_IP, asked_be);
  write_link_header(frame, body + MR_ARP_TARGET_MAC, mac);
  return reply(ctx, p);
}

// ---- neighbour discovery (RFC 4861)

// Valid by section 7.1.1. Options beyond SUM_BYTES_MAX: not answered.
INLINE _Bool is_solicitation(struct xdp_md* ctx, const struct packet* p, const uint8_t* ip) {
  const uint8_t* icmp = ip + MR_IPV6_BYTES;
  const uint32_t bytes = p->ip_bytes - MR_IPV6_BYTES;
  if (icmp[0] != MR_ICMPV6_NEIGHBOUR_SOLICITATION || icmp[1] != 0 || bytes < MR_NEIGHBOUR_BYTES ||
      bytes > SUM_BYTES_MAX || ip[MR_IPV6_HOP_LIMIT] != MR_NEIGHBOUR_HOPS ||
      icmp[MR_NEIGHBOUR_TARGET] == 0xff) {
    return 0;
  }
  const uint64_t addrs = sum_of_words(p->source) + sum_of_words(p->destination);
  return mr_fold(sum_of_packet(ctx, MR_ETH_BYTES + MR_IPV6_BYTES, bytes) +
                 mr_sum_of_pseudo_header(addrs, MR_PROTOCOL_ICMPV6, bytes)) == 0xffff;
}

INLINE void write_advertisement(uint8_t* ip, uint32_t bytes, uint8_t flags) {
  uint8_t* icmp = ip + MR_IPV6_BYTES;
  store32(ip, bpf_htonl(MR_IPV6_VERSION));
  store16(ip + MR_IPV6_PAYLOAD_LENGTH, bpf_htons((uint16_t)bytes));
  ip[MR_IPV6_NEXT_HEADER] = MR_PROTOCOL_ICMPV6;
  ip[MR_IPV6_HOP_LIMIT] = MR_NEIGHBOUR_HOPS;
  icmp[0] = MR_ICMPV6_NEIGHBOUR_ADVERTISEMENT;
  icmp[1] = 0;
  store16(icmp + MR_ICMP_CHECKSUM, 0);
  store32(icmp + MR_ICMP_REST, flags);
}

// ff02::1 and its MAC address.
INLINE void address_to_all_nodes(uint8_t* frame, const struct packet* p) {
  const uint8_t mac[6] = {0x33, 0x33, 0, 0, 0, 1};
  store_addr_v6(frame + MR_ETH_BYTES + MR_IPV6_DESTINATION, bpf_cpu_to_be64(0xff02000000000000ULL),
                bpf_cpu_to_be64(1));
  write_link_header(frame, mac, own_mac(p));
}

OUT_OF_LINE int answer_solicitation(struct xdp_md* ctx, struct packet* p) {
  uint8_t* frame = packet_start(ctx);
  const uint8_t* end = packet_end(ctx);
  uint8_t* ip = frame + MR_ETH_BYTES;
  uint8_t* icmp = ip + MR_IPV6_BYTES;
  // As in the other engine: with an option there is room for ours; without one a probe for
  // duplicate addresses can't be answered in place.
  const _Bool is_probe = (p->source.low | p->source.high) == 0;
  const _Bool has_option = p->frame_bytes >= MR_ETH_BYTES + MR_IPV6_BYTES + MR_ADVERTISEMENT_BYTES;
  if (!has_room(icmp, MR_NEIGHBOUR_BYTES, end) || (is_probe && !has_option)) {
    return drop(p, MR_DROP_BAD_L4);
  }
  const uint32_t bytes = has_option ? MR_ADVERTISEMENT_BYTES : MR_NEIGHBOUR_BYTES;
  if (is_probe) {
    address_to_all_nodes(frame, p);
  } else {
    copy_addr_v6(ip + MR_IPV6_DESTINATION, ip + MR_IPV6_SOURCE);
    turn_link_header(frame, p);
  }
  copy_addr_v6(ip + MR_IPV6_SOURCE, icmp + MR_NEIGHBOUR_TARGET);
  write_advertisement(
      ip, bytes, is_probe ? MR_NEIGHBOUR_OVERRIDE : MR_NEIGHBOUR_SOLICITED | MR_NEIGHBOUR_OVERRIDE);
  if (has_option) {
    uint8_t* option = icmp + MR_NEIGHBOUR_BYTES;
    if (!has_room(option, MR_LINK_ADDRESS_OPTION_BYTES, end)) return drop(p, MR_DROP_BAD_L4);
    option[0] = MR_LINK_ADDRESS_OPTION;
    option[1] = 1;
    store_mac(option + 2, own_mac(p));
  }
  const uint64_t addrs = sum_of_words(words_at(ip + MR_IPV6_SOURCE)) +
                         sum_of_words(words_at(ip + MR_IPV6_DESTINATION));
  const uint64_t sum = sum_of_packet(ctx, MR_ETH_BYTES + MR_IPV6_BYTES, bytes) +
                       mr_sum_of_pseudo_header(addrs, MR_PROTOCOL_ICMPV6, bytes);
  store16(icmp + MR_ICMP_CHECKSUM, (uint16_t)~mr_fold(sum));
  if (!cut_frame(ctx, p->frame_bytes, MR_ETH_BYTES + MR_IPV6_BYTES + bytes)) {
    return drop(p, MR_DROP_BAD_L4);
  }
  return reply(ctx, p);
}

// ---- echo (RFC 792, RFC 4443 section 4.1)

INLINE int answer_echo(struct xdp_md* ctx, struct packet* p) {
  const _Bool is_v4 = p->is_v4;
  uint8_t* frame = packet_start(ctx);
  uint8_t* ip = frame + MR_ETH_BYTES;
  uint8_t* icmp = frame + l4_offset(is_v4);
  if (!has_room(icmp, MR_ICMP_BYTES, packet_end(ctx))) return drop(p, MR_DROP_BAD_L4);
  const uint8_t type = icmp[0];
  icmp[0] = is_v4 ? MR_ICMPV4_ECHO_REPLY : MR_ICMPV6_ECHO_REPLY;
  // Swapping the addresses leaves the pseudo-header's sum as it was; only the type changes.
  store16(icmp + MR_ICMP_CHECKSUM,
          mr_checksum_of_type(load16(icmp + MR_ICMP_CHECKSUM), type,
                              is_v4 ? MR_ICMPV4_ECHO_REPLY : MR_ICMPV6_ECHO_REPLY));
  if (is_v4) {
    swap32(ip + MR_IPV4_SOURCE, ip + MR_IPV4_DESTINATION);
    ip[MR_IPV4_TTL] = MR_OWN_HOPS;
    write_ipv4_checksum(ip);
  } else {
    // Checked again, for verifiers that forget which family l4_offset() was for (Linux 6.1).
    if (!has_room(ip, MR_IPV6_BYTES, packet_end(ctx))) return drop(p, MR_DROP_BAD_L4);
    swap_addrs_v6(ip);
    ip[MR_IPV6_HOP_LIMIT] = MR_OWN_HOPS;
  }
  turn_link_header(frame, p);
  return reply(ctx, p);
}

// ---- ICMP errors of the node's own (RFC 792, RFC 1191; RFC 4443 sections 3.2 and 3.3)

// Whether the sender is told what became of its packet (mr_is_answered()). An IPv6 packet that is
// refused has no other header than a fragment's between IP and transport.
OUT_OF_LINE _Bool is_answered(struct xdp_md* ctx, const struct packet* p) {
  const uint8_t* ip = packet_start(ctx) + MR_ETH_BYTES;
  const uint8_t* end = packet_end(ctx);
  if (p->is_v4) {
    if (!has_room(ip, MR_IPV4_BYTES, end)) return 0;
    return mr_is_answered(mr_fragment_place_v4(bpf_ntohs(load16(ip + MR_IPV4_FRAGMENT))));
  }
  const uint8_t* header = ip + MR_IPV6_BYTES;
  if (!has_room(header, MR_IPV6_FRAGMENT_BYTES, end)) return 0;
  if (ip[MR_IPV6_NEXT_HEADER] != MR_PROTOCOL_FRAGMENT) return 1;
  return mr_is_answered(mr_fragment_place_v6(bpf_ntohs(load16(header + MR_IPV6_FRAGMENT_WORD))));
}

// From `p->own`. `head`: type and code as they lie in the message. Once for both families and all
// errors, since the program's instructions are counted.
OUT_OF_LINE int answer_with_error(struct xdp_md* ctx, struct packet* p, uint32_t head,
                                  uint32_t rest) {
  const _Bool is_v4 = p->is_v4;
  const uint32_t ip_header_bytes = is_v4 ? MR_IPV4_BYTES : MR_IPV6_BYTES;
  const uint32_t added_bytes = ip_header_bytes + MR_ICMP_BYTES;
  uint32_t quoted_bytes = ip_header_bytes + MR_QUOTED_L4_BYTES;
  if (quoted_bytes > p->ip_bytes) quoted_bytes = p->ip_bytes;
  if (bpf_xdp_adjust_head(ctx, -(int)added_bytes) != 0) return drop(p, MR_DROP_TOO_BIG);
  uint8_t* frame = packet_start(ctx);
  uint8_t* ip = frame + MR_ETH_BYTES;
  uint8_t* icmp = ip + ip_header_bytes;
  const uint8_t* link = frame + added_bytes;  // of the packet as it came
  // One length for both families: the shorter one quotes more than the difference.
  if (!has_room(frame, MR_IPV6_BYTES + MR_ICMP_BYTES + MR_ETH_BYTES, packet_end(ctx))) {
    return drop(p, MR_DROP_TOO_BIG);
  }
  write_link_header(frame, link + MR_ETH_SOURCE, own_mac(p));
  store16(frame + MR_ETH_TYPE, is_v4 ? bpf_htons(MR_ETH_TYPE_IPV4) : bpf_htons(MR_ETH_TYPE_IPV6));
  const uint32_t icmp_bytes = MR_ICMP_BYTES + quoted_bytes;
  store32(icmp, head);  // no checksum yet
  store32(icmp + MR_ICMP_REST, bpf_htonl(rest));
  uint64_t sum = 0;
  if (is_v4) {
    store32(ip, bpf_htonl(MR_IPV4_NO_OPTIONS << 24 | (MR_IPV4_BYTES + icmp_bytes)));
    store32(ip + MR_IPV4_ID, 0);
    store32(ip + MR_IPV4_TTL, bpf_htonl(MR_OWN_HOPS << 24 | MR_PROTOCOL_ICMP << 16));
    store32(ip + MR_IPV4_SOURCE, (uint32_t)(p->own.high >> 32));
    store32(ip + MR_IPV4_DESTINATION, (uint32_t)(p->source.high >> 32));
    write_ipv4_checksum(ip);
  } else {
    store32(ip, bpf_htonl(MR_IPV6_VERSION));
    store32(ip + MR_IPV6_PAYLOAD_LENGTH,
            bpf_htonl(icmp_bytes << 16 | MR_PROTOCOL_ICMPV6 << 8 | MR_OWN_HOPS));
    store_addr_v6(ip + MR_IPV6_SOURCE, p->own.low, p->own.high);
    store_addr_v6(ip + MR_IPV6_DESTINATION, p->source.low, p->source.high);
    const uint64_t addrs = sum_of_words(p->source) + sum_of_words(p->own);
    sum = mr_sum_of_pseudo_header(addrs, MR_PROTOCOL_ICMPV6, icmp_bytes);
  }
  sum += sum_of_packet(ctx, MR_ETH_BYTES + ip_header_bytes, icmp_bytes);
  store16(icmp + MR_ICMP_CHECKSUM, (uint16_t)~mr_fold(sum));
  const uint32_t frame_bytes = p->frame_bytes + added_bytes;
  if (!cut_frame(ctx, frame_bytes, MR_ETH_BYTES + ip_header_bytes + icmp_bytes)) {
    return drop(p, MR_DROP_TOO_BIG);
  }
  return reply(ctx, p);
}

// Tells the client how large its packets may be for the way to `target`. This is done even if
// IPv4's "do not fragment" is not set: the node can't fragment, and the packet would vanish in
// silence.
INLINE int answer_too_big(struct xdp_md* ctx, struct packet* p, uint32_t mtu) {
  if (!is_answered(ctx, p)) return drop(p, MR_DROP_TOO_BIG);
  if (!take(p, &p->cpu->too_bigs_left)) return drop(p, MR_DROP_RATE_LIMITED);
  const uint32_t head = p->is_v4 ? MR_ICMPV4_UNREACHABLE | MR_ICMPV4_FRAGMENTATION_NEEDED << 8
                                 : MR_ICMPV6_PACKET_TOO_BIG;
  p->own = p->destination;
  count(p->cpu, MR_COUNTER_TOO_BIG_SENT);
  return answer_with_error(ctx, p, head, mr_told_mtu(mtu, p->is_v4));
}

// For a packet that this node would forward as a router. Forwarder::answer_expired() says more.
OUT_OF_LINE int answer_expired(struct xdp_md* ctx, struct packet* p) {
  const struct mr_nic_addrs* own = &p->root->nic_addrs[p->nic % MR_NIC_COUNT_MAX];
  if (came_in_vlan(p)) {
    const struct mr_vlan* vlan = vlan_at(p->root, p->nic);
    if (vlan == 0) return drop(p, MR_DROP_NO_NIC);  // for the verifier
    own = &vlan->addrs;
  }
  p->own = words_at(p->is_v4 ? own->v4.bytes : own->v6.bytes);
  if ((p->own.low | p->own.high) == 0 || !is_answered(ctx, p)) return drop(p, MR_DROP_TTL_EXPIRED);
  if (!take(p, &p->cpu->expiries_left)) return drop(p, MR_DROP_RATE_LIMITED);
  const uint32_t head = p->is_v4 ? MR_ICMPV4_TIME_EXCEEDED : MR_ICMPV6_TIME_EXCEEDED;
  count(p->cpu, MR_COUNTER_TIME_EXCEEDED_SENT);
  return answer_with_error(ctx, p, head, 0);
}

// For a packet that would go to its target as it is, or translated. It then uses up a hop first.
OUT_OF_LINE int refuse_size(struct xdp_md* ctx, struct packet* p, uint32_t forwarding,
                            uint32_t mtu) {
  const uint8_t* frame = packet_start(ctx);
  if (!has_room(frame, MR_ETH_BYTES + MR_IPV4_BYTES, packet_end(ctx))) {
    return drop(p, MR_DROP_BAD_IP_HEADER);
  }
  if (mr_translates(forwarding) && hops_left(frame, p->is_v4) < 2) {
    return answer_expired(ctx, p);
  }
  return answer_too_big(ctx, p, mtu);
}
