// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Fragments of datagrams (RFC 791 section 3.2, RFC 8200 section 4.5): which of them are forwarded,
// and for how long the first one names the ports of the others.
#ifndef MILLRACE_RULES_FRAGMENT_RULE_H_
#define MILLRACE_RULES_FRAGMENT_RULE_H_

#include "dataplane/rules/header_rule.h"

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#endif

// How long a first fragment speaks for its datagram, in ticks: two seconds. A sender emits all
// fragments in one go, so what follows later than a queue delays it is of no use to anybody. The
// number of a datagram comes again, in IPv4 after 65,536 others; the shorter this is, the fewer
// fragments whose own first one was lost go the way of an older datagram (RFC 4963).
#define MR_FRAGMENT_TICKS (2000000000u >> MR_TICK_SHIFT)

// The largest datagram that can be put together, IPv4 header included.
#define MR_DATAGRAM_BYTES_MAX 65535u

// Where in its datagram a fragment lies.
struct mr_fragment_place {
  uint32_t offset_bytes;  // of its data
  bool has_more;          // fragments behind it
};

// `word`: the one at MR_IPV4_FRAGMENT, in host order.
MR_RULE struct mr_fragment_place mr_fragment_place_v4(uint32_t word) {
  const struct mr_fragment_place place = {(word & MR_IPV4_FRAGMENT_OFFSET) * 8u,
                                          (word & MR_IPV4_MORE_FRAGMENTS) != 0};
  return place;
}
// Likewise the one at MR_IPV6_FRAGMENT_WORD of the fragment header.
MR_RULE struct mr_fragment_place mr_fragment_place_v6(uint32_t word) {
  const struct mr_fragment_place place = {word & MR_IPV6_FRAGMENT_OFFSET,
                                          (word & MR_IPV6_MORE_FRAGMENTS) != 0};
  return place;
}

enum mr_fragment_kind {
  MR_FRAGMENT_ALONE,  // a whole datagram behind a fragment header (RFC 6946)
  MR_FRAGMENT_FIRST,  // names the ports
  MR_FRAGMENT_LATER,
  MR_FRAGMENT_UNFIT,  // nobody in good faith sends it
};

// Of UDP, with `data_bytes` behind the IP and fragment headers.
//
// A first fragment without the whole UDP header is unfit (RFC 1858 section 3). So is one at the
// offset right behind that header: the first one would have had nothing but the header, and every
// link carries more (RFC 791: 68 bytes). And so is what ends beyond the largest datagram, what is
// empty, and what others follow but not at a multiple of 8 bytes (RFC 8200 section 4.5).
MR_RULE enum mr_fragment_kind mr_fragment_kind_of(struct mr_fragment_place place,
                                                  uint32_t data_bytes, bool is_v4) {
  if (place.has_more && data_bytes % 8 != 0) return MR_FRAGMENT_UNFIT;
  if (place.offset_bytes == 0) {
    if (data_bytes < MR_UDP_BYTES) return MR_FRAGMENT_UNFIT;
    return place.has_more ? MR_FRAGMENT_FIRST : MR_FRAGMENT_ALONE;
  }
  const uint32_t header_bytes = is_v4 ? MR_IPV4_BYTES : 0u;  // IPv6's length leaves it out
  const uint32_t end = place.offset_bytes + data_bytes;
  if (place.offset_bytes == MR_UDP_BYTES || data_bytes == 0) return MR_FRAGMENT_UNFIT;
  return header_bytes + end > MR_DATAGRAM_BYTES_MAX ? MR_FRAGMENT_UNFIT : MR_FRAGMENT_LATER;
}

// Whether UDP's length fits what a fragment has of the datagram: more than a first one has.
MR_RULE bool mr_fits_fragment(uint32_t udp_bytes, enum mr_fragment_kind kind, uint32_t data_bytes) {
  return kind == MR_FRAGMENT_FIRST ? udp_bytes > data_bytes
                                   : mr_fits_l4(udp_bytes, MR_UDP_BYTES, data_bytes);
}

// Whether the sender is told that a packet was too big or had no hop left, or that nobody listens.
// Not for later fragments: the first one is answered (RFC 1122 section 3.2.2).
MR_RULE bool mr_is_answered(struct mr_fragment_place place) { return place.offset_bytes == 0; }

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif  // MILLRACE_RULES_FRAGMENT_RULE_H_
