// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// ICMP errors about packets of flows: core/forwarder_error.cc and core/quote.h for the other
// engine. Warm.
#pragma once

#include "bpf/exit.bpf.h"
#include "bpf/passing.bpf.h"
#include "bpf/replies.bpf.h"
#include "bpf/rewrite.bpf.h"

enum {
  NOT_OURS = -3,  // what pass_error() says of packets that are about no flow
};

// Makes `p` say what a packet would look like that answers the quoted one, because such a packet
// goes the same way as the error. False if the packet is no error about TCP or UDP, or quotes too
// little.
INLINE _Bool answer_quoted(struct xdp_md* ctx, struct packet* p, _Bool is_v4) {
  const uint8_t* frame = packet_start(ctx);
  const uint8_t* icmp = frame + l4_offset(is_v4);
  const uint8_t* ip = icmp + MR_ICMP_BYTES;
  const uint32_t header_bytes = is_v4 ? MR_IPV4_BYTES : MR_IPV6_BYTES;
  const uint8_t* l4 = ip + header_bytes;
  if (!has_room(l4, MR_L4_PORTS_BYTES, packet_end(ctx)) ||
      p->ip_bytes < header_bytes + MR_ICMP_BYTES + header_bytes + MR_L4_PORTS_BYTES ||
      (frame[0] & 1) != 0 || !mr_is_icmp_error(is_v4, icmp[0])) {
    return 0;
  }
  // No packet of a flow has options.
  if (is_v4 ? ip[0] != MR_IPV4_NO_OPTIONS : ip[0] >> 4 != 6) return 0;
  // A fragment that is not the first has no ports.
  if (is_v4 && (load16(ip + MR_IPV4_FRAGMENT) & bpf_htons(MR_IPV4_FRAGMENT_OFFSET)) != 0) return 0;
  const uint8_t protocol = ip[is_v4 ? MR_IPV4_PROTOCOL : MR_IPV6_NEXT_HEADER];
  if (!mr_is_transport(protocol)) return 0;
  const struct addr_words source =
      is_v4 ? v4_words(load32(ip + MR_IPV4_SOURCE)) : words_at(ip + MR_IPV6_SOURCE);
  // The error must go to whoever sent the quoted packet.
  if (!is_same_addr(source, p->destination)) return 0;
  p->source =
      is_v4 ? v4_words(load32(ip + MR_IPV4_DESTINATION)) : words_at(ip + MR_IPV6_DESTINATION);
  p->source_port_be = load16(l4 + MR_L4_DESTINATION_PORT);
  p->destination_port_be = load16(l4 + MR_L4_SOURCE_PORT);
  p->protocol = protocol;
  p->tcp_flags = 0;
  return 1;
}

// ---- translation (RFC 5508 section 4)

// What one's-complement sums over the message lose and gain when its fields change.
struct sum_change {
  uint64_t old_sum;
  uint64_t new_sum;
};

INLINE void change16(struct sum_change* change, uint8_t* at, uint16_t value) {
  change->old_sum += load16(at);
  change->new_sum += value;
  store16(at, value);
}

INLINE uint64_t sum_of_addr_at(const uint8_t* at, _Bool is_v4) {
  return sum_of_words(is_v4 ? v4_words(load32(at)) : words_at(at));
}
INLINE void write_addr(uint8_t* at, const struct mr_addr* addr, _Bool is_v4) {
  if (is_v4) {
    store32(at, v4_of(addr));
  } else {
    copy_addr_v6(at, addr->bytes);
  }
}

// The checksum of the quoted transport header, if it is quoted.
INLINE void change_l4_checksum(struct sum_change* change, const struct packet* p, uint8_t* l4,
                               uint32_t l4_bytes, const uint8_t* end, uint16_t delta) {
  if (p->protocol == MR_PROTOCOL_TCP) {
    uint8_t* field = l4 + MR_TCP_CHECKSUM;
    if (l4_bytes < MR_TCP_CHECKSUM + 2 || !has_room(field, 2, end)) return;
    change16(change, field, mr_updated_checksum(load16(field), delta));
    return;
  }
  uint8_t* field = l4 + MR_UDP_CHECKSUM;
  if (l4_bytes < MR_UDP_CHECKSUM + 2 || !has_room(field, 2, end)) return;
  change16(change, field, mr_updated_udp_checksum(load16(field), delta));
}

// Gives one end of the flow the name by which the error's receiver knows it: in the outer header,
// as the error's destination or source, and in the quoted packet. False when the packet may not go
// on.
INLINE _Bool rename_end(struct xdp_md* ctx, const struct packet* p, _Bool is_v4, _Bool is_to_target,
                        const struct mr_addr* addr, uint16_t port_be) {
  const uint32_t header_bytes = is_v4 ? MR_IPV4_BYTES : MR_IPV6_BYTES;
  const uint32_t source_at = is_v4 ? MR_IPV4_SOURCE : MR_IPV6_SOURCE;
  const uint32_t destination_at = is_v4 ? MR_IPV4_DESTINATION : MR_IPV6_DESTINATION;
  const uint8_t* end = packet_end(ctx);
  uint8_t* outer = packet_start(ctx) + MR_ETH_BYTES;
  uint8_t* icmp = outer + header_bytes;
  uint8_t* ip = icmp + MR_ICMP_BYTES;
  uint8_t* l4 = ip + header_bytes;
  if (!has_room(l4, MR_L4_PORTS_BYTES, end)) return 0;
  const uint64_t new_sum = sum_of_addr(addr);

  struct sum_change change = {0, 0};
  uint8_t* quoted_addr = ip + (is_to_target ? source_at : destination_at);
  const uint64_t old_sum = sum_of_addr_at(quoted_addr, is_v4);
  change.old_sum += old_sum;
  change.new_sum += new_sum;
  write_addr(quoted_addr, addr, is_v4);
  if (is_v4) {
    uint8_t* field = ip + MR_IPV4_CHECKSUM;
    change16(&change, field,
             mr_updated_checksum(load16(field), mr_checksum_delta(old_sum, new_sum)));
  }
  uint8_t* port = l4 + (is_to_target ? MR_L4_SOURCE_PORT : MR_L4_DESTINATION_PORT);
  const uint16_t l4_delta = mr_checksum_delta(old_sum + load16(port), new_sum + port_be);
  change16(&change, port, port_be);
  change_l4_checksum(&change, p, l4, p->ip_bytes - 2 * header_bytes - MR_ICMP_BYTES, end, l4_delta);

  uint8_t* outer_addr = outer + (is_to_target ? destination_at : source_at);
  const uint64_t outer_sum = sum_of_addr_at(outer_addr, is_v4);
  if (!is_v4) {  // ICMPv6 has a pseudo-header
    change.old_sum += outer_sum;
    change.new_sum += new_sum;
  }
  store16(icmp + MR_ICMP_CHECKSUM,
          mr_updated_checksum(load16(icmp + MR_ICMP_CHECKSUM),
                              mr_checksum_delta(change.old_sum, change.new_sum)));
  rewrite_ip(outer, is_v4, !is_to_target, addr, mr_checksum_delta(outer_sum, new_sum));
  return 1;
}

// The packet goes to the neighbour `hop`: its MAC address, then the nic.
OUT_OF_LINE int send_error(struct xdp_md* ctx, struct packet* p, _Bool is_to_target, uint64_t hop) {
  const struct mr_target* target = p->target;
  const struct mr_listener* listener = p->listener;
  if (is_to_target ? target == 0 : listener == 0) return drop(p, MR_DROP_ICMP);
  const struct mr_addr* addr = is_to_target ? &target->addr : &listener->vip_addr;
  const uint16_t port_be = is_to_target
                               ? mr_target_port_be_of(target->port_be, p->destination_port_be)
                               : vip_port_be_of(p, listener);
  if (!has_exit(p->root_index, hop >> LAST_HOP_NIC_SHIFT & 0xff)) return drop(p, MR_DROP_NO_NIC);
  uint8_t* frame = packet_start(ctx);
  if (!has_room(frame, MR_ETH_BYTES + MR_IPV4_BYTES, packet_end(ctx))) {
    return drop(p, MR_DROP_BAD_IP_HEADER);
  }
  if (hops_left(frame, p->is_v4) < 2) return drop(p, MR_DROP_TTL_EXPIRED);
  const _Bool is_done = p->is_v4 ? rename_end(ctx, p, 1, is_to_target, addr, port_be)
                                 : rename_end(ctx, p, 0, is_to_target, addr, port_be);
  if (!is_done) return drop(p, MR_DROP_BAD_L4);
  count(p->cpu, MR_COUNTER_ERRORS_PASSED);
  count_forwarded(p, p->frame_bytes);
  return send_counted(ctx, p, hop);
}

// ---- whose it is

// Chooses by lookup table, for a flow that another node has, or that found no room. Returns
// SEND_TO_TARGET or a verdict.
INLINE int choose_for_error(struct packet* p) {
  const _Bool is_to_itself = is_same_addr(p->source, p->destination);
  const _Bool is_bad = p->is_v4 ? mr_is_martian_v4(p->source.high >> 32 & 0xff, is_to_itself)
                                : mr_is_martian_v6(mr_embeds_v4(p->source.low, p->source.high), 0,
                                                   p->source.low, is_to_itself);
  if (is_bad || is_no_client(p, p->source.low, p->source.high)) return drop(p, MR_DROP_MARTIAN);
  if (!take(p, &p->cpu->errors_left)) return drop(p, MR_DROP_RATE_LIMITED);
  const uint32_t target_slot = (uint32_t)choose_for(p, mr_error_is_orphan(p->tick));
  const struct mr_target* target = target_at(p->root, target_slot);
  if (target == 0) return drop(p, MR_DROP_NO_TARGET);
  if (mr_refuses_own_client(target->forwarding) &&
      is_same_addr(words_at(target->addr.bytes), p->source)) {
    return drop(p, MR_DROP_MARTIAN);
  }
  p->target = target;
  p->target_slot = target_slot;
  return SEND_TO_TARGET;
}

// The error is about a reply. SEND_TO_TARGET: it goes to the target as a whole, as packets of the
// flow do.
OUT_OF_LINE int pass_to_target(struct xdp_md* ctx, struct packet* p) {
  const struct mr_listener* listener = p->listener;
  if (listener == 0) return drop(p, MR_DROP_ICMP);
  p->client = p->source;
  p->client_port_protocol = p->source_port_be | (uint32_t)p->protocol << 16;
  p->hash = flow_hash(p->client, p->client_port_protocol);
  ask_about(p, p->source, 0);
  const uint32_t index = find_asked(p->cpu_index);
  struct mr_flow_record* flow = index == NO_RECORD ? 0 : record_at(index);
  if (flow != 0 && !load_target(p, flow)) p->target = 0;
  if (p->target == 0) {
    const int done = choose_for_error(p);
    if (done != SEND_TO_TARGET) return done;
  }
  const struct mr_target* target = p->target;
  if (target == 0) return drop(p, MR_DROP_NO_TARGET);  // for the verifier
  if ((target->next_hop.flags & MR_NEXT_HOP_RESOLVED) != 0) {
    if (!has_exit(p->root_index, target->next_hop.nic)) return drop(p, MR_DROP_NO_NIC);
    const uint32_t outer_bytes =
        mr_encapsulates(target->forwarding)
            ? mr_outer_bytes(target->forwarding, target->variant == MR_VARIANT_OUTER_V4)
            : 0;
    // Nobody is told of an ICMP error (RFC 1122 section 3.2.2).
    if (p->ip_bytes > mr_inner_mtu(target->mtu, outer_bytes)) return drop(p, MR_DROP_TOO_BIG);
    if (mr_translates(target->forwarding)) {
      return send_error(ctx, p, 1, load64(target->next_hop.mac));
    }
    count(p->cpu, MR_COUNTER_ERRORS_PASSED);
  }
  p->protocol = p->is_v4 ? MR_PROTOCOL_ICMP : MR_PROTOCOL_ICMPV6;
  return SEND_TO_TARGET;
}

// The error is about a request that this node translated.
OUT_OF_LINE int pass_to_client(struct xdp_md* ctx, struct packet* p) {
  p->client = p->destination;
  p->client_port_protocol = p->destination_port_be | (uint32_t)p->protocol << 16;
  p->hash = flow_hash(p->client, p->client_port_protocol);
  ask_about(p, p->source, p->source_port_be);
  const uint32_t best = best_of_shared(p->cpu_index, 0);
  struct mr_flow_record* flow = best == NO_RECORD ? 0 : record_at(best);
  p->listener = flow == 0 ? 0 : load_listener(p, flow);
  if (p->listener == 0) {
    const int done = judge_flowless(ctx, p, 1);
    if (done != SEND_TO_TARGET) return done;
  }
  const uint64_t hop = client_hop(p, p->is_v4);
  return hop == NO_HOP ? drop(p, MR_DROP_NEXT_HOP_UNRESOLVED) : send_error(ctx, p, 0, hop);
}

// NOT_OURS: the error is about no flow. SEND_TO_TARGET: it goes to p->target as a whole.
OUT_OF_LINE int pass_error(struct xdp_md* ctx, struct packet* p) {
  const uint64_t from_low = p->source.low;
  const uint64_t from_high = p->source.high;
  const _Bool has_source = (from_low | from_high) != 0;
  if (!(p->is_v4 ? answer_quoted(ctx, p, 1) : answer_quoted(ctx, p, 0))) return NOT_OURS;
  p->target = 0;
  find_listener_by_call(p);
  if (p->listener != 0) {
    const _Bool is_forged = !has_source || is_no_client(p, from_low, from_high);
    return is_forged ? drop(p, MR_DROP_MARTIAN) : pass_to_target(ctx, p);
  }
  if (is_vip(p->root_index, p->destination.low, p->destination.high) || !passes(p) ||
      !has_target(p, p->source, p->source_port_be, p->protocol)) {
    return NOT_OURS;
  }
  return has_source ? pass_to_client(ctx, p) : drop(p, MR_DROP_MARTIAN);
}
