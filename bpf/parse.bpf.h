// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// From a frame to the fields that balancing needs: core/parse.h for the other engine, with the same
// checks in the same order. Checks that only the verifier needs are marked.
#pragma once

#include "bpf/packet.bpf.h"
#include "dataplane/rules/checksum_rule.h"

INLINE enum shape refuse(struct packet* p, enum shape shape, enum mr_drop_reason reason) {
  p->reason = (uint8_t)reason;
  return shape;
}

// TCP or UDP of `bytes` bytes at `l4`.
INLINE enum shape parse_transport(struct packet* p, const uint8_t* l4, uint32_t bytes,
                                  const uint8_t* end) {
  if (p->protocol == MR_PROTOCOL_TCP) {
    if (bytes < MR_TCP_BYTES || l4 + MR_TCP_BYTES > end) {  // the latter for the verifier
      return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_BAD_L4);
    }
    const uint32_t header_bytes = mr_tcp_header_bytes(l4[MR_TCP_DATA_OFFSET]);
    if (!mr_fits_l4(header_bytes, MR_TCP_BYTES, bytes)) {
      return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_BAD_L4);
    }
    p->tcp_flags = l4[MR_TCP_FLAGS];
    if (!mr_are_sane_tcp_flags(p->tcp_flags)) {
      return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_BAD_TCP_FLAGS);
    }
  } else {
    if (bytes < MR_UDP_BYTES || l4 + MR_UDP_BYTES > end) {
      return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_BAD_L4);
    }
    const uint32_t udp_bytes = bpf_ntohs(load16(l4 + MR_UDP_LENGTH));
    if (!mr_fits_l4(udp_bytes, MR_UDP_BYTES, bytes)) {
      return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_BAD_L4);
    }
    p->tcp_flags = 0;
  }
  const uint32_t ports = load32(l4);
  p->source_port_be = (uint16_t)ports;
  p->destination_port_be = (uint16_t)(ports >> 16);
  return SHAPE_TRANSPORT;
}

INLINE _Bool is_martian_v6(const struct packet* p) {
  return mr_is_martian_v6(mr_embeds_v4(p->source.low, p->source.high),
                          mr_embeds_v4(p->destination.low, p->destination.high), p->source.low,
                          is_same_addr(p->source, p->destination));
}

INLINE enum shape parse_odd_ipv4(struct packet* p, uint8_t version_and_length) {
  const uint32_t header_bytes = (version_and_length & 0x0f) * 4u;
  if (version_and_length >> 4 != 4 || header_bytes < MR_IPV4_BYTES || p->ip_bytes < header_bytes) {
    return refuse(p, SHAPE_DROP, MR_DROP_BAD_IP_HEADER);
  }
  return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_IP_OPTIONS);
}

INLINE enum shape parse_ipv4(struct packet* p, const uint8_t* frame, const uint8_t* end) {
  const uint8_t* ip = frame + MR_ETH_BYTES;
  if (ip + MR_IPV4_BYTES > end) return refuse(p, SHAPE_DROP, MR_DROP_BAD_IP_HEADER);
  p->ip_bytes = bpf_ntohs(load16(ip + MR_IPV4_TOTAL_LENGTH));
  if (p->ip_bytes < MR_IPV4_BYTES || p->ip_bytes > p->frame_bytes - MR_ETH_BYTES) {
    return refuse(p, SHAPE_DROP, MR_DROP_BAD_IP_HEADER);
  }
  const uint32_t source = load32(ip + MR_IPV4_SOURCE);
  const uint32_t destination = load32(ip + MR_IPV4_DESTINATION);
  p->is_v4 = 1;
  p->protocol = ip[MR_IPV4_PROTOCOL];
  p->source = v4_words(source);
  p->destination = v4_words(destination);
  if (UNLIKELY(ip[0] != MR_IPV4_NO_OPTIONS)) return parse_odd_ipv4(p, ip[0]);
  if (!mr_ipv4_checksum_holds(load64(ip), load64(ip + 8), load32(ip + 16))) {
    return refuse(p, SHAPE_DROP, MR_DROP_BAD_IP_CHECKSUM);
  }
  // open_fragment() looks for martians among them.
  if ((load16(ip + MR_IPV4_FRAGMENT) & bpf_htons(MR_IPV4_FRAGMENT_MASK)) != 0) {
    return SHAPE_FRAGMENT;
  }
  if (mr_is_martian_v4((uint8_t)source, source == destination)) {
    return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_MARTIAN);
  }
  if (LIKELY(mr_is_transport(p->protocol))) {
    return parse_transport(p, ip + MR_IPV4_BYTES, p->ip_bytes - MR_IPV4_BYTES, end);
  }
  if (p->protocol == MR_PROTOCOL_ICMP && p->ip_bytes >= MR_IPV4_BYTES + MR_ICMP_BYTES) {
    return SHAPE_ICMP;
  }
  return refuse(p, SHAPE_SUSPICIOUS, mr_reason_of_protocol(p->protocol));
}

INLINE enum shape parse_ipv6(struct packet* p, const uint8_t* frame, const uint8_t* end) {
  const uint8_t* ip = frame + MR_ETH_BYTES;
  if (ip + MR_IPV6_BYTES > end || ip[0] >> 4 != 6) {
    return refuse(p, SHAPE_DROP, MR_DROP_BAD_IP_HEADER);
  }
  const uint32_t payload_bytes = bpf_ntohs(load16(ip + MR_IPV6_PAYLOAD_LENGTH));
  if (payload_bytes > p->frame_bytes - MR_ETH_BYTES - MR_IPV6_BYTES) {
    return refuse(p, SHAPE_DROP, MR_DROP_BAD_IP_HEADER);
  }
  p->ip_bytes = MR_IPV6_BYTES + payload_bytes;
  p->is_v4 = 0;
  p->protocol = ip[MR_IPV6_NEXT_HEADER];
  p->source = words_at(ip + MR_IPV6_SOURCE);
  p->destination = words_at(ip + MR_IPV6_DESTINATION);
  if (p->protocol == MR_PROTOCOL_ICMPV6 && payload_bytes >= MR_ICMP_BYTES) {
    // Duplicate address detection comes from ::, and only that may.
    const _Bool may_be_probe = (p->source.low | p->source.high) == 0 &&
                               !mr_embeds_v4(p->destination.low, p->destination.high);
    if (is_martian_v6(p) && !may_be_probe) return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_MARTIAN);
    return SHAPE_ICMP;
  }
  if (is_martian_v6(p)) return refuse(p, SHAPE_SUSPICIOUS, MR_DROP_MARTIAN);
  if (LIKELY(mr_is_transport(p->protocol))) {
    return parse_transport(p, ip + MR_IPV6_BYTES, payload_bytes, end);
  }
  if (p->protocol == MR_PROTOCOL_FRAGMENT) return SHAPE_FRAGMENT;
  return refuse(p, SHAPE_SUSPICIOUS, mr_reason_of_next_header(p->protocol));
}
