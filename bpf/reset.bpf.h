// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// TCP segments of flows that are over become a RST (RFC 9293 section 3.10.7.1, "If the state is
// CLOSED"), in place: an answer to their sender, or what tells the other side: core/answer.h for
// the other engine.
#pragma once

#include "bpf/answer.bpf.h"

// A RST in the place of a segment with this header; ports are in place, `addr_sum` is that of the
// addresses.
INLINE void write_reset(uint8_t* l4, uint32_t sequence_be, uint32_t acknowledgement_be,
                        uint8_t flags, uint64_t addr_sum) {
  store32(l4 + 4, sequence_be);
  store32(l4 + 8, acknowledgement_be);
  l4[12] = 5 << 4;
  l4[TCP_FLAGS_OFFSET] = flags;
  store16(l4 + 14, 0);  // window
  store32(l4 + 16, 0);  // checksum, urgent pointer
  const uint64_t sum = (uint64_t)load32(l4) + load32(l4 + 4) + load32(l4 + 8) + load32(l4 + 12) +
                       sum_of_pseudo_header(addr_sum, IPPROTO_TCP, TCP_BYTES);
  store16(l4 + 16, (uint16_t)~fold(sum));
}

// Sequence numbers that a segment takes: its data, and one each for SYN and FIN.
INLINE uint32_t occupied_by(const struct packet* p, const uint8_t* l4) {
  const uint32_t header_bytes = (p->is_v4 ? IP4_BYTES : IP6_BYTES) + (l4[12] >> 4) * 4u;
  return p->ip_bytes - header_bytes + ((p->tcp_flags & TCP_SYN_BIT) != 0) +
         ((p->tcp_flags & TCP_FIN_BIT) != 0);
}

INLINE void answer_segment(struct packet* p, uint8_t* l4) {
  const _Bool has_ack = (p->tcp_flags & TCP_ACK_BIT) != 0;
  const uint32_t next = bpf_htonl(bpf_ntohl(load32(l4 + 4)) + occupied_by(p, l4));
  const uint16_t source_port = load16(l4);
  store16(l4, load16(l4 + 2));
  store16(l4 + 2, source_port);
  write_reset(l4, has_ack ? load32(l4 + 8) : 0, has_ack ? 0 : next,
              has_ack ? TCP_RST_BIT : TCP_RST_BIT | TCP_ACK_BIT,
              sum_of_words(p->source) + sum_of_words(p->destination));
}

// The frame ends with its TCP header, without options.
INLINE void shorten_ip(uint8_t* ip, _Bool is_v4) {
  if (is_v4) {
    store16(ip + 2, bpf_htons(IP4_BYTES + TCP_BYTES));
    write_ipv4_checksum(ip);
  } else {
    store16(ip + 4, bpf_htons(TCP_BYTES));
  }
}

INLINE int turn_into_reset(struct xdp_md* ctx, struct packet* p) {
  const _Bool is_v4 = p->is_v4;
  uint8_t* frame = packet_start(ctx);
  uint8_t* ip = frame + ETH_BYTES;
  uint8_t* l4 = frame + l4_offset(is_v4);
  if (!has_room(l4, TCP_BYTES, packet_end(ctx))) return drop(p, MR_DROP_BAD_L4);
  answer_segment(p, l4);
  if (is_v4) {
    swap32(ip + 12, ip + 16);
    ip[8] = OWN_HOPS;
  } else {
    swap_addrs_v6(ip);
    ip[7] = OWN_HOPS;
  }
  shorten_ip(ip, is_v4);
  turn_link_header(frame, p);
  if (!cut_frame(ctx, p->frame_bytes, l4_offset(is_v4) + TCP_BYTES)) {
    return drop(p, MR_DROP_BAD_L4);
  }
  return reply(p);
}

INLINE void count_own_reset(struct packet* p, uint32_t listener_slot) {
  count(p->cpu, MR_COUNTER_RST_SENT);
  struct mr_listener_stats* stats = listener_stats_of(p, listener_slot);
  if (stats != 0) stats->balancer_resets += 1;
}

// Makes a TCP segment of a connection that is over here the RST that its sender would send to its
// receiver, for the caller to forward; `p` is then the RST's. core/answer.h says which number the
// receiver believes. False when there is no room, which can't be.
OUT_OF_LINE _Bool become_reset(struct xdp_md* ctx, struct packet* p) {
  const _Bool is_v4 = p->is_v4;
  uint8_t* frame = packet_start(ctx);
  uint8_t* l4 = frame + l4_offset(is_v4);
  if (!has_room(l4, TCP_BYTES, packet_end(ctx))) return 0;
  const _Bool may_be_keep_alive = occupied_by(p, l4) <= 1 && (p->tcp_flags & TCP_FIN_BIT) == 0;
  write_reset(l4, bpf_htonl(bpf_ntohl(load32(l4 + 4)) + may_be_keep_alive), 0, TCP_RST_BIT,
              sum_of_words(p->source) + sum_of_words(p->destination));
  shorten_ip(frame + ETH_BYTES, is_v4);
  const uint32_t bytes = l4_offset(is_v4) + TCP_BYTES;
  if (!cut_frame(ctx, p->frame_bytes, bytes)) return 0;
  p->frame_bytes = bytes;
  p->ip_bytes = bytes - ETH_BYTES;
  p->tcp_flags = TCP_RST_BIT;
  return 1;
}

// Answers a TCP segment of a flow that is over; a RST itself gets no answer.
OUT_OF_LINE int answer_with_reset(struct xdp_md* ctx, struct packet* p, uint32_t listener_slot) {
  if ((p->tcp_flags & TCP_RST_BIT) != 0) return drop(p, MR_DROP_UNWANTED_RST);
  if (!take(p, &p->cpu->resets_left)) return drop(p, MR_DROP_RATE_LIMITED);
  count_own_reset(p, listener_slot);
  return turn_into_reset(ctx, p);
}
