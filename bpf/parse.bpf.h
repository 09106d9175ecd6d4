// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// From a frame to the fields that balancing needs: core/parse.h for the other engine, same checks
// in the same order. What the verifier wants besides is marked.
#pragma once

#include "bpf/packet.bpf.h"

// False for what can't occur in good faith: SYN with FIN or RST, and anything but SYN or RST
// without ACK (null, xmas, lone FIN).
INLINE _Bool are_sane_tcp_flags(uint8_t flags) {
  if ((flags & (TCP_SYN_BIT | TCP_RST_BIT | TCP_ACK_BIT)) == 0) return 0;
  return (flags & TCP_SYN_BIT) == 0 || (flags & (TCP_FIN_BIT | TCP_RST_BIT)) == 0;
}

INLINE enum shape refuse(struct packet* p, enum shape shape, enum mr_drop_reason reason) {
  p->reason = (uint8_t)reason;
  return shape;
}

// TCP or UDP of `bytes` bytes at `l4`.
INLINE enum shape parse_transport(struct packet* p, const uint8_t* l4, uint32_t bytes,
                                  const uint8_t* end) {
  if (p->protocol == IPPROTO_TCP) {
    if (bytes < TCP_BYTES || l4 + TCP_BYTES > end) {  // the latter for the verifier
      return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_BAD_L4);
    }
    const uint32_t header_bytes = (l4[12] >> 4) * 4u;
    if (header_bytes < TCP_BYTES || header_bytes > bytes) {
      return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_BAD_L4);
    }
    p->tcp_flags = l4[TCP_FLAGS_OFFSET];
    if (!are_sane_tcp_flags(p->tcp_flags)) {
      return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_BAD_TCP_FLAGS);
    }
  } else {
    if (bytes < UDP_BYTES || l4 + UDP_BYTES > end) {
      return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_BAD_L4);
    }
    const uint32_t udp_bytes = bpf_ntohs(load16(l4 + 4));
    if (udp_bytes < UDP_BYTES || udp_bytes > bytes) {
      return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_BAD_L4);
    }
    p->tcp_flags = 0;
  }
  const uint32_t ports = load32(l4);
  p->source_port_be = (uint16_t)ports;
  p->destination_port_be = (uint16_t)(ports >> 16);
  return SHAPE_TRANSPORT;
}

INLINE _Bool is_martian_v4(uint32_t source, uint32_t destination) {
  const uint8_t first = (uint8_t)source;
  return first == 0 || first == 127 || first >= 224 || source == destination;
}

// v4-mapped or v4-compatible, :: and ::1 among them.
INLINE _Bool embeds_v4(struct addr_words addr) {
  const uint32_t third = (uint32_t)addr.high;
  return addr.low == 0 && (third == 0 || third == V4_MAPPED);
}

INLINE _Bool is_martian_v6(const struct packet* p) {
  return embeds_v4(p->source) || embeds_v4(p->destination) || (p->source.low & 0xff) == 0xff ||
         is_same_addr(p->source, p->destination);
}

INLINE enum shape parse_odd_ipv4(struct packet* p, uint8_t version_and_length) {
  const uint32_t header_bytes = (version_and_length & 0x0f) * 4u;
  if (version_and_length >> 4 != 4 || header_bytes < IP4_BYTES || p->ip_bytes < header_bytes) {
    return refuse(p, SHAPE_DROP, MR_DROP_BAD_IP_HEADER);
  }
  return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_IP_OPTIONS);
}

// core/checksum.h says why this is the 16-bit sum's test.
INLINE _Bool ipv4_checksum_holds(const uint8_t* ip) {
  const uint64_t inverse = 0xfffefffefffeffffULL;  // of 0xffff modulo 2^64
  const uint64_t multiples = 0xffffffffffffffffULL / 0xffff;
  const uint64_t second = load64(ip + 8);
  const uint64_t third = load32(ip + 16);
  uint64_t sum = load64(ip) + second;
  sum += sum < second;
  sum += third;
  sum += sum < third;
  return sum * inverse <= multiples;
}

INLINE enum shape parse_ipv4(struct packet* p, const uint8_t* frame, const uint8_t* end) {
  const uint8_t* ip = frame + ETH_BYTES;
  if (ip + IP4_BYTES > end) return refuse(p, SHAPE_DROP, MR_DROP_BAD_IP_HEADER);
  p->ip_bytes = bpf_ntohs(load16(ip + 2));
  if (p->ip_bytes < IP4_BYTES || p->ip_bytes > p->frame_bytes - ETH_BYTES) {
    return refuse(p, SHAPE_DROP, MR_DROP_BAD_IP_HEADER);
  }
  const uint32_t source = load32(ip + 12);
  const uint32_t destination = load32(ip + 16);
  p->is_v4 = 1;
  p->protocol = ip[9];
  p->source = v4_words(source);
  p->destination = v4_words(destination);
  if (UNLIKELY(ip[0] != 0x45)) return parse_odd_ipv4(p, ip[0]);
  if (!ipv4_checksum_holds(ip)) return refuse(p, SHAPE_DROP, MR_DROP_BAD_IP_CHECKSUM);
  if ((load16(ip + 6) & bpf_htons(0x3fff)) != 0) {  // more fragments, or an offset
    return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_FRAGMENT);
  }
  if (is_martian_v4(source, destination)) return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_MARTIAN);
  if (LIKELY(p->protocol == IPPROTO_TCP || p->protocol == IPPROTO_UDP)) {
    return parse_transport(p, ip + IP4_BYTES, p->ip_bytes - IP4_BYTES, end);
  }
  if (p->protocol != IPPROTO_ICMP) {
    return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_UNSUPPORTED_PROTOCOL);
  }
  if (p->ip_bytes < IP4_BYTES + ICMP_BYTES) return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_BAD_L4);
  return SHAPE_ICMP;
}

INLINE enum mr_drop_reason reason_for_next_header(uint8_t next_header) {
  switch (next_header) {
    case IPPROTO_FRAGMENT:
      return MR_DROP_FRAGMENT;
    case IPPROTO_HOPOPTS:
    case IPPROTO_ROUTING:
    case IPPROTO_ESP:
    case IPPROTO_AH:
    case IPPROTO_NONE:
    case IPPROTO_DSTOPTS:
      return MR_DROP_IPV6_EXTENSION;
    case IPPROTO_ICMPV6:
      return MR_DROP_BAD_L4;
    default:
      return MR_DROP_UNSUPPORTED_PROTOCOL;
  }
}

INLINE enum shape parse_ipv6(struct packet* p, const uint8_t* frame, const uint8_t* end) {
  const uint8_t* ip = frame + ETH_BYTES;
  if (ip + IP6_BYTES > end || ip[0] >> 4 != 6) {
    return refuse(p, SHAPE_DROP, MR_DROP_BAD_IP_HEADER);
  }
  const uint32_t payload_bytes = bpf_ntohs(load16(ip + 4));
  if (payload_bytes > p->frame_bytes - ETH_BYTES - IP6_BYTES) {
    return refuse(p, SHAPE_DROP, MR_DROP_BAD_IP_HEADER);
  }
  p->ip_bytes = IP6_BYTES + payload_bytes;
  p->is_v4 = 0;
  p->protocol = ip[6];
  p->source = words_at(ip + 8);
  p->destination = words_at(ip + 24);
  if (p->protocol == IPPROTO_ICMPV6 && payload_bytes >= ICMP_BYTES) {
    // Duplicate address detection comes from ::, and only that may.
    const _Bool is_unspecified = (p->source.low | p->source.high) == 0;
    if (is_martian_v6(p) && !is_unspecified) return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_MARTIAN);
    return SHAPE_ICMP;
  }
  if (is_martian_v6(p)) return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_MARTIAN);
  if (LIKELY(p->protocol == IPPROTO_TCP || p->protocol == IPPROTO_UDP)) {
    return parse_transport(p, ip + IP6_BYTES, payload_bytes, end);
  }
  return refuse(p, SHAPE_SUSPICIOUS, reason_for_next_header(p->protocol));
}
