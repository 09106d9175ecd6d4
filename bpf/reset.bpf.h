// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Turns TCP segments of flows that are over into a RST, in place. The RST is an answer to the
// sender, or tells the other side: core/answer.h for the other engine.
#pragma once

#include "bpf/answer.bpf.h"
#include "dataplane/rules/reset_rule.h"

// Writes a RST in the place of a segment with this header. The ports are in place; `addr_sum` is
// that of the addresses.
INLINE void write_reset(uint8_t* l4, struct mr_reset reset, uint64_t addr_sum) {
  store32(l4 + MR_TCP_SEQUENCE, bpf_htonl(reset.sequence));
  store32(l4 + MR_TCP_ACKNOWLEDGEMENT, bpf_htonl(reset.acknowledgement));
  l4[MR_TCP_DATA_OFFSET] = MR_TCP_BYTES / 4 << 4;
  l4[MR_TCP_FLAGS] = reset.tcp_flags;
  store16(l4 + MR_TCP_WINDOW, 0);
  store32(l4 + MR_TCP_CHECKSUM, 0);  // and the urgent pointer
  const uint64_t sum = (uint64_t)load32(l4) + load32(l4 + 4) + load32(l4 + 8) + load32(l4 + 12) +
                       mr_sum_of_pseudo_header(addr_sum, MR_PROTOCOL_TCP, MR_TCP_BYTES);
  store16(l4 + MR_TCP_CHECKSUM, (uint16_t)~mr_fold(sum));
}

INLINE struct mr_segment segment_at(const struct packet* p, const uint8_t* l4) {
  const uint32_t header_bytes =
      (p->is_v4 ? MR_IPV4_BYTES : MR_IPV6_BYTES) + mr_tcp_header_bytes(l4[MR_TCP_DATA_OFFSET]);
  const struct mr_segment segment = {
      .sequence = bpf_ntohl(load32(l4 + MR_TCP_SEQUENCE)),
      .acknowledgement = bpf_ntohl(load32(l4 + MR_TCP_ACKNOWLEDGEMENT)),
      .tcp_flags = p->tcp_flags,
      .occupied = mr_occupied_numbers(p->ip_bytes - header_bytes, p->tcp_flags)};
  return segment;
}

INLINE void answer_segment(struct packet* p, uint8_t* l4) {
  const struct mr_reset reset = mr_answering_reset(segment_at(p, l4));
  const uint16_t source_port = load16(l4 + MR_L4_SOURCE_PORT);
  store16(l4 + MR_L4_SOURCE_PORT, load16(l4 + MR_L4_DESTINATION_PORT));
  store16(l4 + MR_L4_DESTINATION_PORT, source_port);
  write_reset(l4, reset, sum_of_words(p->source) + sum_of_words(p->destination));
}

// Makes the frame end with its TCP header, without options.
INLINE void shorten_ip(uint8_t* ip, _Bool is_v4) {
  if (is_v4) {
    store16(ip + MR_IPV4_TOTAL_LENGTH, bpf_htons(MR_IPV4_BYTES + MR_TCP_BYTES));
    write_ipv4_checksum(ip);
  } else {
    store16(ip + MR_IPV6_PAYLOAD_LENGTH, bpf_htons(MR_TCP_BYTES));
  }
}

OUT_OF_LINE int turn_into_reset(struct xdp_md* ctx, struct packet* p) {
  const _Bool is_v4 = p->is_v4;
  uint8_t* frame = packet_start(ctx);
  uint8_t* ip = frame + MR_ETH_BYTES;
  uint8_t* l4 = frame + l4_offset(is_v4);
  if (!has_room(l4, MR_TCP_BYTES, packet_end(ctx))) return drop(p, MR_DROP_BAD_L4);
  answer_segment(p, l4);
  if (is_v4) {
    swap32(ip + MR_IPV4_SOURCE, ip + MR_IPV4_DESTINATION);
    ip[MR_IPV4_TTL] = MR_OWN_HOPS;
  } else {
    swap_addrs_v6(ip);
    ip[MR_IPV6_HOP_LIMIT] = MR_OWN_HOPS;
  }
  shorten_ip(ip, is_v4);
  turn_link_header(frame, p);
  if (!cut_frame(ctx, p->frame_bytes, l4_offset(is_v4) + MR_TCP_BYTES)) {
    return drop(p, MR_DROP_BAD_L4);
  }
  return reply(ctx, p);
}

INLINE void count_own_reset(struct packet* p, uint32_t listener_slot) {
  count(p->cpu, MR_COUNTER_RST_SENT);
  struct mr_listener_stats* stats = listener_stats_of(p->cpu_index, listener_slot);
  if (stats != 0) stats->balancer_resets += 1;
}

// Turns a TCP segment of a connection that is over here into the RST that its sender would send to
// its receiver. The caller forwards it; `p` then describes the RST. mr_passing_reset() says which
// number the receiver believes. False when there is no room, which can't be.
OUT_OF_LINE _Bool become_reset(struct xdp_md* ctx, struct packet* p) {
  const _Bool is_v4 = p->is_v4;
  uint8_t* frame = packet_start(ctx);
  uint8_t* l4 = frame + l4_offset(is_v4);
  if (!has_room(l4, MR_TCP_BYTES, packet_end(ctx))) return 0;
  write_reset(l4, mr_passing_reset(segment_at(p, l4)),
              sum_of_words(p->source) + sum_of_words(p->destination));
  shorten_ip(frame + MR_ETH_BYTES, is_v4);
  const uint32_t bytes = l4_offset(is_v4) + MR_TCP_BYTES;
  if (!cut_frame(ctx, p->frame_bytes, bytes)) return 0;
  p->frame_bytes = bytes;
  p->ip_bytes = bytes - MR_ETH_BYTES;
  p->tcp_flags = MR_TCP_RST;
  return 1;
}

// Answers a TCP segment of a flow that is over; a RST itself gets no answer.
OUT_OF_LINE int answer_with_reset(struct xdp_md* ctx, struct packet* p, uint32_t listener_slot) {
  if ((p->tcp_flags & MR_TCP_RST) != 0) return drop(p, MR_DROP_UNWANTED_RST);
  if (!take(p, &p->cpu->resets_left)) return drop(p, MR_DROP_RATE_LIMITED);
  count_own_reset(p, listener_slot);
  return turn_into_reset(ctx, p);
}
