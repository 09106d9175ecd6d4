// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// The flow table (dataplane/contract/xdp_abi.h): shared by all CPUs, because the two directions of
// a flow may arrive on different ones. Array map and open addressing instead of the kernel's hash
// maps: a hit costs 1.5 array lookups of 1 ns instead of 32, and one line of memory.
#pragma once

#include "bpf/config.bpf.h"

// {port_be, protocol, state} of a record as one word, which is what programs compare and swap.
INLINE uint32_t* state_word(struct mr_flow_record* flow) {
  return (uint32_t*)&flow->client_port_be;
}
INLINE uint32_t load_state_word(struct mr_flow_record* flow) {
  return *(volatile uint32_t*)state_word(flow);
}
enum {
  STATE_SHIFT = 24,
  KEY_MASK = 0xffffffu,
};

// {last_hop, flags} likewise: flags are set and cleared atomically, since the other direction may
// be setting its own.
INLINE uint32_t* flags_word(struct mr_flow_record* flow) { return (uint32_t*)&flow->last_hop; }
enum {
  FLAGS_SHIFT = 16,
};

INLINE uint32_t flow_hash(struct addr_words addr, uint32_t port_protocol) {
  return mr_xdp_flow_hash(&control, addr.low, addr.high, port_protocol);
}

INLINE struct mr_flow_record* record_at(uint32_t index) {
  index &= control.flow_mask;
  return bpf_map_lookup_elem(&flows, &index);
}

INLINE _Bool is_of_client(const struct packet* p, struct mr_flow_record* flow, uint32_t word) {
  return ((load64(flow->client_addr.bytes) ^ p->client.low) |
          (load64(flow->client_addr.bytes + 8) ^ p->client.high) |
          ((word & KEY_MASK) ^ p->client_port_protocol)) == 0 &&
         word >> STATE_SHIFT < MR_FLOW_STATE_COUNT;
}

// Sends for the first record that the packet's client may have, to be written, and does not wait:
// a store to a field that is 0 always. There is no prefetch in BPF.
INLINE void fetch_record(struct packet* p) {
  struct mr_flow_record* flow = record_at(p->hash);
  if (flow != 0) *(volatile uint32_t*)&flow->reserved = 0;
}

// The flow of the packet's client to `listener_id`, or null.
INLINE struct mr_flow_record* find_to_listener(struct packet* p, uint32_t listener_id) {
#pragma clang loop unroll(disable)
  for (uint32_t probe = 0; probe < MR_XDP_PROBE_MAX; ++probe) {
    struct mr_flow_record* flow = record_at(p->hash + probe);
    if (flow == 0) return 0;
    const uint32_t word = load_state_word(flow);
    if (is_of_client(p, flow, word) && flow->listener_id == listener_id) return flow;
    if (word == 0) return 0;
  }
  return 0;
}

// True when the packet goes to the client of `flow` and comes from its target.
INLINE _Bool is_reply_of(const struct packet* p, struct mr_flow_record* flow, uint32_t word) {
  if (!is_of_client(p, flow, word)) return 0;
  const struct mr_target* target = target_at(p->root, flow->target_slot);
  return target != 0 && target->id == flow->target_id && target->port_be == p->source_port_be &&
         is_same_addr(words_at(target->addr.bytes), p->source);
}

// The flow that a reply belongs to, or null.
INLINE struct mr_flow_record* find_from_target(struct packet* p) {
#pragma clang loop unroll(disable)
  for (uint32_t probe = 0; probe < MR_XDP_PROBE_MAX; ++probe) {
    struct mr_flow_record* flow = record_at(p->hash + probe);
    if (flow == 0) return 0;
    const uint32_t word = load_state_word(flow);
    if (is_reply_of(p, flow, word)) return flow;
    if (word == 0) return 0;
  }
  return 0;
}

// Claims a record for the packet's client, with this packet accounted, or null. The caller fills
// in the rest and then calls publish().
// Two CPUs that insert the same flow at once make two records of it: the first one found counts,
// the other ages out.
INLINE struct mr_flow_record* claim(struct packet* p, uint32_t probe_max) {
  const uint32_t busy = p->client_port_protocol | (uint32_t)MR_XDP_FLOW_BUSY << STATE_SHIFT;
#pragma clang loop unroll(disable)
  for (uint32_t probe = 0; probe < MR_XDP_PROBE_MAX; ++probe) {
    if (probe >= probe_max) return 0;
    struct mr_flow_record* flow = record_at(p->hash + probe);
    if (flow == 0) return 0;
    const uint32_t word = load_state_word(flow);
    if (word != 0 && word >> STATE_SHIFT != MR_XDP_FLOW_REUSABLE) continue;
    if (__sync_val_compare_and_swap(state_word(flow), word, busy) != word) continue;
    store64(flow->client_addr.bytes, p->client.low);
    store64(flow->client_addr.bytes + 8, p->client.high);
    flow->bytes = p->ip_bytes;
    flow->packets = 1;
    flow->last_seen_tick = p->tick;
    *flags_word(flow) = 0;
    return flow;
  }
  return 0;
}

INLINE void publish(struct packet* p, struct mr_flow_record* flow, uint32_t state) {
  const uint32_t busy = p->client_port_protocol | (uint32_t)MR_XDP_FLOW_BUSY << STATE_SHIFT;
  // A compare-and-swap for its ordering: what was filled in is visible before.
  __sync_val_compare_and_swap(state_word(flow), busy,
                              p->client_port_protocol | state << STATE_SHIFT);
}

// False when another CPU or the sweep changed the record meanwhile: theirs holds.
INLINE _Bool change_state(struct mr_flow_record* flow, uint32_t from_word, uint32_t state) {
  const uint32_t to_word = (from_word & KEY_MASK) | state << STATE_SHIFT;
  return __sync_val_compare_and_swap(state_word(flow), from_word, to_word) == from_word;
}

INLINE void account(struct packet* p, struct mr_flow_record* flow) {
  flow->last_seen_tick = p->tick;
  __sync_fetch_and_add(&flow->bytes, p->ip_bytes);
  __sync_fetch_and_add(&flow->packets, 1);
}

// Signed, so that CPUs whose jiffies differ by one age nothing by 52 days.
INLINE _Bool is_idle(const struct packet* p, const struct mr_flow_record* flow,
                     const struct mr_listener* listener, uint32_t state) {
  return (int32_t)(p->tick - flow->last_seen_tick) > (int32_t)listener->timeout_ticks[state & 7];
}

// ---- neighbours that clients' packets come from

enum {
  LAST_HOP_NIC_SHIFT = 48,
};
static const uint64_t LAST_HOP_IN_USE = 1ULL << 56;

INLINE uint64_t last_hop_word(const uint8_t* mac, uint8_t nic) {
  return load32(mac) | (uint64_t)load16(mac + 4) << 32 | (uint64_t)nic << LAST_HOP_NIC_SHIFT |
         LAST_HOP_IN_USE;
}

INLINE uint64_t last_hop_at(uint32_t index) {
  index %= MR_LAST_HOP_COUNT;
  const struct mr_xdp_last_hop* hop = bpf_map_lookup_elem(&last_hops, &index);
  return hop == 0 ? 0 : *(const volatile uint64_t*)&hop->word;
}

VERIFIED_ONCE uint32_t enter_last_hop(uint64_t word) {
#pragma clang loop unroll(disable)
  for (uint32_t probe = 0; probe < MR_XDP_LAST_HOP_PROBE_MAX; ++probe) {
    const uint32_t index = mr_xdp_last_hop_index(word, probe);
    if (index == 0) continue;
    struct mr_xdp_last_hop* hop = bpf_map_lookup_elem(&last_hops, &index);
    if (hop == 0) return 0;
    uint64_t known = *(volatile uint64_t*)&hop->word;
    if (known == 0) known = __sync_val_compare_and_swap(&hop->word, 0, word);
    if (known == 0 || known == word) return index;
  }
  return 0;
}

// Index of the neighbour, entered if new; 0 when there is no room.
INLINE uint16_t learn_last_hop(uint64_t word) {
  const uint32_t first = mr_xdp_last_hop_index(word, 0);
  return (uint16_t)(LIKELY(last_hop_at(first) == word) ? first : enter_last_hop(word));
}

// ---- TCP, as far as timeouts need it (RFC 9293 section 3.3.2, seen from the middle)

INLINE void count_reset(const struct packet* p, const struct mr_flow_record* flow,
                        _Bool from_client) {
  struct mr_listener_stats* listener = listener_stats_of(p, flow->listener_slot);
  if (listener != 0) {
    if (from_client) {
      listener->client_resets += 1;
    } else {
      listener->target_resets += 1;
    }
  }
  struct mr_target_stats* target = from_client ? 0 : target_stats_of(p, flow->target_slot);
  if (target != 0) target->target_resets += 1;
}

// A RST is believed only provisionally: if its sender speaks on, somebody else had forged it (RFC
// 5961).
OUT_OF_LINE int track_tcp(struct packet* p, struct mr_flow_record* flow, _Bool from_client) {
  if (flow == 0) return 0;
  const uint32_t word = load_state_word(flow);
  const uint32_t state = word >> STATE_SHIFT;
  const uint32_t own_fin = from_client ? MR_FLOW_FIN_CLIENT : MR_FLOW_FIN_TARGET;
  const uint32_t own_reset = from_client ? MR_FLOW_RST_CLIENT : MR_FLOW_RST_TARGET;
  if ((p->tcp_flags & TCP_RST_BIT) != 0) {
    __sync_fetch_and_or(flags_word(flow), own_reset << FLAGS_SHIFT);
    count_reset(p, flow, from_client);
    change_state(flow, word, MR_FLOW_CLOSED);
    return 0;
  }
  if ((p->tcp_flags & TCP_FIN_BIT) != 0) {
    const uint32_t before = __sync_fetch_and_or(flags_word(flow), own_fin << FLAGS_SHIFT);
    const uint32_t both = MR_FLOW_FIN_CLIENT | MR_FLOW_FIN_TARGET;
    const _Bool is_over = ((before >> FLAGS_SHIFT | own_fin) & both) == both;
    change_state(flow, word, is_over ? MR_FLOW_CLOSED : MR_FLOW_CLOSING);
    return 0;
  }
  if ((p->tcp_flags & TCP_SYN_BIT) != 0) return 0;
  if (state == MR_FLOW_CLOSED && (flow->flags & own_reset) != 0) {
    __sync_fetch_and_and(flags_word(flow), ~(own_reset << FLAGS_SHIFT));
    change_state(flow, word, MR_FLOW_ESTABLISHED);
    return 0;
  }
  if (state != MR_FLOW_SYN || !from_client) return 0;
  // Where replies go past the node the client's own ACK has to do as confirmation.
  const struct mr_target* target = target_at(p->root, flow->target_slot);
  const _Bool sees_replies = target != 0 && target->forwarding == MR_FORWARDING_NAT;
  if ((flow->flags & MR_FLOW_REPLY_SEEN) != 0 || !sees_replies) {
    change_state(flow, word, MR_FLOW_ESTABLISHED);
  }
  return 0;
}
