// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// The flow table (dataplane/contract/xdp_abi.h). All CPUs share it, because the two directions of a
// flow may arrive on different ones. It is an array map with open addressing instead of one of the
// kernel's hash maps: a hit costs 1.5 array lookups of 1 ns instead of 32, and one line of memory.
#pragma once

#include "bpf/config.bpf.h"
#include "dataplane/rules/flow_rule.h"

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
INLINE uint32_t flags_of(struct mr_flow_record* flow) {
  return *(volatile uint32_t*)flags_word(flow) >> FLAGS_SHIFT;
}
// Returns the flags as they were.
INLINE uint32_t set_flags(struct mr_flow_record* flow, uint32_t flags) {
  return __sync_fetch_and_or(flags_word(flow), flags << FLAGS_SHIFT) >> FLAGS_SHIFT;
}
INLINE void clear_flags(struct mr_flow_record* flow, uint32_t flags) {
  __sync_fetch_and_and(flags_word(flow), ~(flags << FLAGS_SHIFT));
}

// Both checksum deltas of a flow as one word. Volatile, so that the compiler does not move the read
// behind the next look at the state word.
INLINE uint32_t deltas_in(const struct mr_flow_record* flow) {
  return *(const volatile uint32_t*)&flow->ip_checksum_delta;
}

// {slot, asked port, id} of a flow's listener. Volatile for the same reason.
INLINE uint64_t listener_word_of(const struct mr_flow_record* flow) {
  return *(const volatile uint64_t*)&flow->listener_slot;
}

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

// Fetches the first record that the packet's client may have, without waiting for it. BPF has no
// prefetch, so this is a store to a byte that is always 0: the highest one of the target's slot.
MR_ABI_ASSERT(MR_TARGET_SLOTS_MAX <= 1u << 24, "fetch_record() writes to a byte that is 0");
INLINE void fetch_record(struct packet* p) {
  struct mr_flow_record* flow = record_at(p->hash);
  if (flow != 0) *((volatile uint8_t*)&flow->target_slot + 3) = 0;
}

// The flow of the packet's client to p->listener, or null. If it is null, p->has_sibling says
// whether the client's port has a flow to another listener. Another CPU may enter another flow in
// the record's place. So what is read of the flow holds only if its state word is still p->word
// afterwards.
INLINE struct mr_flow_record* find_to_listener(struct packet* p) {
  p->has_sibling = 0;
#pragma clang loop unroll(disable)
  for (uint32_t probe = 0; probe < MR_XDP_PROBE_MAX; ++probe) {
    struct mr_flow_record* flow = record_at(p->hash + probe);
    if (flow == 0) return 0;
    const uint32_t word = load_state_word(flow);
    if (is_of_client(p, flow, word)) {
      p->word = word;
      if (listener_word_of(flow) == p->listener_word) return flow;
      p->has_sibling = 1;
    }
    if (word == 0) return 0;
  }
  return 0;
}

// True when the packet goes to the client of `flow` and seems to come from its target: only
// is_any_reply_of() is sure of a flow with MR_FLOW_NO_PORT.
INLINE _Bool is_reply_of(const struct packet* p, struct mr_flow_record* flow, uint32_t word) {
  if (!is_of_client(p, flow, word)) return 0;
  const struct mr_target* target = target_at(p->root, flow->target_slot);
  if (target == 0 || target->id != flow->target_id) return 0;
  if (!is_same_addr(words_at(target->addr.bytes), p->source)) return 0;
  if (LIKELY(target->port_be == p->source_port_be)) return 1;
  return target->variant == MR_VARIANT_ANY_PORT &&
         asked_port_be_of(listener_word_of(flow)) == p->source_port_be;
}

// Likewise, also if the target takes any port.
INLINE _Bool is_any_reply_of(const struct packet* p, struct mr_flow_record* flow, uint32_t word) {
  if (!is_of_client(p, flow, word)) return 0;
  const struct mr_target* target = target_at(p->root, flow->target_slot);
  return target != 0 && target->id == flow->target_id && p->source_port_be != 0 &&
         is_same_addr(words_at(target->addr.bytes), p->source) &&
         target_port_be(p->root_index, flow->target_slot, listener_word_of(flow)) ==
             p->source_port_be;
}

// The first flow that a reply may belong to, or null. p->word is set likewise.
INLINE struct mr_flow_record* find_from_target(struct packet* p) {
#pragma clang loop unroll(disable)
  for (uint32_t probe = 0; probe < MR_XDP_PROBE_MAX; ++probe) {
    struct mr_flow_record* flow = record_at(p->hash + probe);
    if (flow == 0) return 0;
    const uint32_t word = load_state_word(flow);
    if (is_reply_of(p, flow, word)) {
      p->word = word;
      return flow;
    }
    if (word == 0) return 0;
  }
  return 0;
}

// False when another CPU or the sweep has changed the record meanwhile. Their change holds.
INLINE _Bool change_state(struct mr_flow_record* flow, uint32_t from_word, uint32_t state) {
  const uint32_t to_word = (from_word & KEY_MASK) | state << STATE_SHIFT;
  return __sync_val_compare_and_swap(state_word(flow), from_word, to_word) == from_word;
}

INLINE void count_packet(struct packet* p, struct mr_flow_record* flow) {
  __sync_fetch_and_add(&flow->bytes, p->ip_bytes);
  __sync_fetch_and_add(&flow->packets, 1);
}
INLINE void account(struct packet* p, struct mr_flow_record* flow) {
  flow->last_seen_tick = p->tick;
  count_packet(p, flow);
}

INLINE _Bool is_silent(const struct packet* p, const struct mr_flow_record* flow, uint32_t ticks) {
  return mr_is_silent(p->tick, read32(&flow->last_seen_tick), ticks);
}
INLINE _Bool is_idle(const struct packet* p, struct mr_flow_record* flow,
                     const struct mr_listener* listener, uint32_t state) {
  return is_silent(p, flow, listener->timeout_ticks[mr_timeout_index(state, flags_of(flow))]);
}

// ---- neighbours that clients' packets come from

enum {
  LAST_HOP_NIC_SHIFT = 48,
  LAST_HOP_FRESH_TICKS = 512,  // less than a round of the sweep
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

VERIFIED_ONCE uint32_t enter_last_hop(uint64_t word, uint32_t tick) {
#pragma clang loop unroll(disable)
  for (uint32_t probe = 0; probe < MR_XDP_LAST_HOP_PROBE_MAX; ++probe) {
    const uint32_t index = mr_xdp_last_hop_index(word, probe);
    if (index == 0) continue;
    struct mr_xdp_last_hop* hop = bpf_map_lookup_elem(&last_hops, &index);
    if (hop == 0) return 0;
    uint64_t known = *(volatile uint64_t*)&hop->word;
    if (known == 0) {
      hop->learned_tick = tick;  // before it is one: the sweep may look at once
      known = __sync_val_compare_and_swap(&hop->word, 0, word);
    }
    if (known != 0 && known != word) continue;
    hop->learned_tick = tick;
    return index;
  }
  return 0;
}

// Index of the neighbour, entered if new; 0 when there is no room. Its line is read by all CPUs, so
// it is written only about twice a second.
INLINE uint16_t learn_last_hop(const struct packet* p, uint64_t word) {
  const uint32_t first = mr_xdp_last_hop_index(word, 0);
  const struct mr_xdp_last_hop* hop = bpf_map_lookup_elem(&last_hops, &first);
  if (LIKELY(hop != 0 && first != 0 && *(const volatile uint64_t*)&hop->word == word &&
             p->tick - hop->learned_tick < LAST_HOP_FRESH_TICKS)) {
    return (uint16_t)first;
  }
  return (uint16_t)enter_last_hop(word, p->tick);
}
