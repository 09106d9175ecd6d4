// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Fragments of UDP datagrams: core/forwarder_fragment.cc for the other engine. Warm.
//
// The first fragment names the ports of the others, by a map that all CPUs share. With its ports a
// fragment is a packet of its flow like any other, but it never takes the short way.
#pragma once

#include "bpf/exit.bpf.h"
#include "bpf/passing.bpf.h"
#include "bpf/replies.bpf.h"
#include "bpf/rewrite.bpf.h"
#include "dataplane/rules/fragment_rule.h"

struct datagram_key {
  struct addr_words source;
  struct addr_words destination;
  uint64_t id;
};
struct datagram_ports {
  uint32_t ports;  // as they lie in the UDP header
  uint32_t tick;   // of the first fragment
};
// Both are handed to the map in the CPU's own memory, since the stack is short.
struct datagram {
  struct datagram_key key;
  struct datagram_ports ports;
};
_Static_assert(sizeof(struct datagram) <= sizeof(((struct mr_xdp_cpu*)0)->scratch), "fits");

// Datagrams whose fragments are under way. The kernel takes all memory at once (2 MiB) and gives up
// one that was not used for long. It keeps up to 128 free entries for each CPU. The map is the
// program's own: where another program takes its place, fragments under way are lost.
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 16384);
  __type(key, struct datagram_key);
  __type(value, struct datagram_ports);
} datagrams SEC(".maps");

// What the headers of a fragment say, as core/fragment.h.
struct fragment {
  struct mr_fragment_place place;
  uint32_t id;
  uint32_t header_bytes;  // of IP and fragment header
  uint8_t protocol;
};

enum {
  HEADERS_MASK = 63,  // for verifiers that forget how many bytes headers have
};

INLINE _Bool read_fragment(struct xdp_md* ctx, const struct packet* p, struct fragment* fragment) {
  const uint8_t* ip = packet_start(ctx) + MR_ETH_BYTES;
  const uint8_t* end = packet_end(ctx);
  if (p->is_v4) {
    if (!has_room(ip, MR_IPV4_BYTES, end)) return 0;
    fragment->place = mr_fragment_place_v4(bpf_ntohs(load16(ip + MR_IPV4_FRAGMENT)));
    fragment->id = load16(ip + MR_IPV4_ID);
    fragment->header_bytes = MR_IPV4_BYTES;
    fragment->protocol = ip[MR_IPV4_PROTOCOL];
    return 1;
  }
  const uint8_t* header = ip + MR_IPV6_BYTES;
  if (!has_room(header, MR_IPV6_FRAGMENT_BYTES, end)) return 0;
  if (ip[MR_IPV6_NEXT_HEADER] != MR_PROTOCOL_FRAGMENT) {  // a whole packet in a VLAN
    fragment->place = (struct mr_fragment_place){0};
    fragment->id = 0;
    fragment->header_bytes = MR_IPV6_BYTES;
    fragment->protocol = p->protocol;
    return 1;
  }
  fragment->place = mr_fragment_place_v6(bpf_ntohs(load16(header + MR_IPV6_FRAGMENT_WORD)));
  fragment->id = load32(header + MR_IPV6_FRAGMENT_ID);
  fragment->header_bytes = MR_IPV6_BYTES + MR_IPV6_FRAGMENT_BYTES;
  fragment->protocol = header[0];
  return p->ip_bytes >= fragment->header_bytes;
}

// Whether later fragments go another way than those whose first one was not seen.
INLINE _Bool is_worth_knowing(struct packet* p) {
  find_listener_by_call(p);
  if (p->listener != 0) return 1;
  const uint32_t vip_flags = find_vip_flags(p->root_index, p->destination);
  if (vip_flags != MR_TABLE_EMPTY) return (vip_flags & MR_VIP_PUNTS) != 0;
  return has_target(p, p->source, p->source_port_be, MR_PROTOCOL_UDP);
}

INLINE void set_ports(struct packet* p, uint32_t ports) {
  p->source_port_be = (uint16_t)ports;
  p->destination_port_be = (uint16_t)(ports >> 16);
}

// Of which datagram the fragment is: in the CPU's own memory.
INLINE struct datagram* ask_for_datagram(const struct packet* p, uint32_t id) {
  struct datagram* datagram = (struct datagram*)p->cpu->scratch;
  datagram->key.source = p->source;
  datagram->key.destination = p->destination;
  datagram->key.id = id;
  return datagram;
}

// Finds out the ports. False when the fragment is not forwarded, for p->reason if it is to a VIP.
OUT_OF_LINE _Bool open_fragment(struct xdp_md* ctx, struct packet* p) {
  struct fragment fragment;
  if (p->is_v4 &&
      mr_is_martian_v4((uint8_t)(p->source.high >> 32), is_same_addr(p->source, p->destination))) {
    p->reason = MR_DROP_MARTIAN;
    return 0;
  }
  p->reason = MR_DROP_FRAGMENT;
  if (!read_fragment(ctx, p, &fragment) || fragment.protocol != MR_PROTOCOL_UDP) return 0;
  const uint32_t data_bytes = p->ip_bytes - fragment.header_bytes;
  const enum mr_fragment_kind kind = mr_fragment_kind_of(fragment.place, data_bytes, p->is_v4);
  if (kind == MR_FRAGMENT_UNFIT) return 0;
  p->protocol = MR_PROTOCOL_UDP;
  p->tcp_flags = 0;
  const uint8_t* frame = packet_start(ctx);
  if (!has_room(frame, MR_ETH_BYTES, packet_end(ctx))) return 0;
  const _Bool is_multicast = (frame[0] & 1) != 0;  // RFC 1812 section 5.3.4: never forward these
  if (kind == MR_FRAGMENT_LATER) {
    if (is_multicast) p->reason = MR_DROP_OTHER_MAC;
    if (is_multicast || !passes(p)) return 0;
    const struct datagram* datagram = ask_for_datagram(p, fragment.id);
    const struct datagram_ports* known = bpf_map_lookup_elem(&datagrams, &datagram->key);
    if (known == 0) return 0;
    const uint32_t tick = read32(&known->tick);
    const uint32_t ports = read32(&known->ports);
    // Another CPU may enter another datagram in its place meanwhile.
    if (p->tick - tick >= MR_FRAGMENT_TICKS || read32(&known->tick) != tick) return 0;
    set_ports(p, ports);
    return 1;
  }
  const uint8_t* udp = packet_start(ctx) + MR_ETH_BYTES + (fragment.header_bytes & HEADERS_MASK);
  if (!has_room(udp, MR_UDP_BYTES, packet_end(ctx))) return 0;
  const uint32_t ports = load32(udp);
  if (!mr_fits_fragment(bpf_ntohs(load16(udp + MR_UDP_LENGTH)), kind, data_bytes)) {
    p->reason = MR_DROP_BAD_L4;
    return 0;
  }
  set_ports(p, ports);
  if (is_multicast) p->reason = MR_DROP_OTHER_MAC;
  if (is_multicast || !passes(p)) return 0;
  if (kind == MR_FRAGMENT_FIRST && is_worth_knowing(p)) {
    struct datagram* datagram = ask_for_datagram(p, fragment.id);
    datagram->ports.ports = ports;
    datagram->ports.tick = p->tick;
    bpf_map_update_elem(&datagrams, &datagram->key, &datagram->ports, BPF_ANY);
  }
  return 1;
}

// ---- towards a target

// Gives the packet the target as its destination (or the VIP as its source), and one that has a
// transport header the port as well.
OUT_OF_LINE int translate_any(struct xdp_md* ctx, const struct packet* p, _Bool is_source) {
  struct fragment fragment;
  uint8_t* ip = packet_start(ctx) + MR_ETH_BYTES;
  const struct mr_listener* listener = p->listener;
  const struct mr_target* target = p->target;
  if (is_source ? listener == 0 : target == 0) return 0;  // for the verifier
  const struct mr_addr* addr = is_source ? &listener->vip_addr : &target->addr;
  const uint16_t port_be = is_source
                               ? vip_port_be_of(p, listener)
                               : mr_target_port_be_of(target->port_be, p->destination_port_be);
  if (!read_fragment(ctx, p, &fragment)) return 0;
  const uint16_t ip_delta = is_source ? mr_negated_delta(p->ip_delta) : p->ip_delta;
  const uint16_t l4_delta = is_source ? mr_negated_delta(p->l4_delta) : p->l4_delta;
  if (p->is_v4) {
    if (!has_room(ip, MR_IPV4_BYTES, packet_end(ctx))) return 0;
    rewrite_ip(ip, 1, is_source, addr, ip_delta);
  } else {
    if (!has_room(ip, MR_IPV6_BYTES, packet_end(ctx))) return 0;
    rewrite_ip(ip, 0, is_source, addr, ip_delta);
  }
  uint8_t* l4 = ip + (fragment.header_bytes & HEADERS_MASK);
  if (fragment.place.offset_bytes != 0 || !has_room(l4, MR_UDP_BYTES, packet_end(ctx))) return 0;
  store16(l4 + (is_source ? MR_L4_SOURCE_PORT : MR_L4_DESTINATION_PORT), port_be);
  update_l4_checksum(l4, packet_end(ctx), p->protocol, l4_delta, is_source ? p->known_flow : 0);
  return 0;
}

// As send_to_target(), for all ways that a group forwards: of fragments, and of packets that leave
// in a VLAN.
OUT_OF_LINE int send_by_vlan_to_target(struct xdp_md* ctx, struct packet* p, _Bool is_fragment) {
  const struct mr_target* target = p->target;
  const uint8_t* frame = packet_start(ctx);
  if (target == 0 || !has_room(frame, MR_ETH_BYTES + MR_IPV4_BYTES, packet_end(ctx))) {
    return drop(p, MR_DROP_NO_TARGET);  // for the verifier
  }
  if ((target->next_hop.flags & MR_NEXT_HOP_RESOLVED) == 0) {
    struct mr_target_stats* stats = target_stats_of(p->cpu_index, p->target_slot);
    if (stats != 0) stats->unresolved_packets += 1;
    return drop(p, MR_DROP_NEXT_HOP_UNRESOLVED);
  }
  if (!has_exit(p->root_index, target->next_hop.nic)) return drop(p, MR_DROP_NO_NIC);
  const uint8_t forwarding = target->forwarding;
  const _Bool encapsulates = mr_encapsulates(forwarding);
  const _Bool outer_is_v4 = target->variant == MR_VARIANT_OUTER_V4;
  const struct mr_addr* source =
      outer_is_v4 ? &p->root->encap_source_v4.addr : &p->root->encap_source_v6.addr;
  if (encapsulates && (load64(source->bytes) | load64(source->bytes + 8)) == 0) {
    return drop(p, MR_DROP_NO_ENCAP_SOURCE);
  }
  if (mr_translates(forwarding) && hops_left(frame, p->is_v4) < 2) return answer_expired(ctx, p);
  const uint32_t outer_bytes = encapsulates ? mr_outer_bytes(forwarding, outer_is_v4) : 0;
  const uint32_t mtu = mr_inner_mtu(target->mtu, outer_bytes);
  if (p->ip_bytes > mtu && (encapsulates || control.has_merged_frames == 0)) {
    return answer_too_big(ctx, p, mtu);
  }
  const uint64_t forwarded = forwarded_count(p);
  int done = XDP_DROP;
  if (!encapsulates) {
    if (mr_translates(forwarding)) translate_any(ctx, p, 0);
    done = redirect_to_target(ctx, p, target);
  } else if (is_fragment && forwarding == MR_FORWARDING_GUE && !outer_is_v4) {
    done = encapsulate_summed(ctx, p);
  } else if (outer_is_v4 != p->is_v4) {
    done = send_by_variant(ctx, p);
  } else {
    done = encapsulate_by_mode(ctx, p, target, outer_is_v4, outer_is_v4);
  }
  if (forwarded_count(p) == forwarded) return done;  // dropped or answered
  if (is_fragment) count(p->cpu, MR_COUNTER_FRAGMENTS_FORWARDED);
  if (target->next_hop.nic < control.nic_count) return done;
  return send_counted(ctx, p, load64(target->next_hop.mac));
}

INLINE int fragment_to_target(struct xdp_md* ctx, struct packet* p, uint64_t last_hop) {
  p->client = p->source;
  p->client_port_protocol = p->source_port_be | (uint32_t)MR_PROTOCOL_UDP << 16;
  p->hash = flow_hash(p->client, p->client_port_protocol);
  p->has_sibling = 1;  // perhaps
  ask_about(p, p->source, 0);
  const uint32_t index = find_asked(p->cpu_index);
  struct mr_flow_record* flow = index == NO_RECORD ? 0 : record_at(index);
  const int done = forward_in_doubt(ctx, p, flow, last_hop);
  return done == SEND_TO_TARGET ? send_by_vlan_to_target(ctx, p, 1) : done;
}

// ---- towards a client

OUT_OF_LINE int send_by_vlan_to_client(struct xdp_md* ctx, struct packet* p, _Bool is_fragment) {
  const struct mr_listener* listener = p->listener;
  uint8_t* frame = packet_start(ctx);
  const uint64_t hop = client_hop(p, p->is_v4);
  if (hop == NO_HOP) return drop(p, MR_DROP_NEXT_HOP_UNRESOLVED);
  if (!has_exit(p->root_index, hop >> LAST_HOP_NIC_SHIFT & 0xff)) return drop(p, MR_DROP_NO_NIC);
  if (listener == 0 || !has_room(frame, MR_ETH_BYTES + MR_IPV4_BYTES, packet_end(ctx))) {
    return drop(p, MR_DROP_BAD_IP_HEADER);  // for the verifier
  }
  if (hops_left(frame, p->is_v4) < 2) return answer_expired(ctx, p);
  translate_any(ctx, p, 1);
  if (is_fragment) count(p->cpu, MR_COUNTER_FRAGMENTS_FORWARDED);
  count_forwarded(p, p->frame_bytes);
  return send_counted(ctx, p, hop);
}

INLINE int fragment_to_client(struct xdp_md* ctx, struct packet* p) {
  p->client = p->destination;
  p->client_port_protocol = p->destination_port_be | (uint32_t)MR_PROTOCOL_UDP << 16;
  p->hash = flow_hash(p->client, p->client_port_protocol);
  ask_about(p, p->source, p->source_port_be);
  const uint32_t best = best_of_shared(p->cpu_index, 0);
  struct mr_flow_record* flow = best == NO_RECORD ? 0 : record_at(best);
  if (flow != 0) {
    p->word = load_state_word(flow);
    if (!is_any_reply_of(p, flow, p->word)) flow = 0;
  }
  const int done = reply_in_doubt(ctx, p, flow);
  if (done == UNSERVED) return handle_unserved(ctx, p);
  return done == SEND_TO_TARGET ? send_by_vlan_to_client(ctx, p, 1) : done;
}

// A fragment with its ports.
INLINE int pass_fragment(struct xdp_md* ctx, struct packet* p, uint64_t last_hop) {
  find_listener_by_call(p);
  if (p->listener != 0) return fragment_to_target(ctx, p, last_hop);
  return fragment_to_client(ctx, p);
}
