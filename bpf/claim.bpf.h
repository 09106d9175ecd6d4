// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Finds a record for a new flow, and makes room for it (rules/flow_rule.h says what a flow is
// worth). Only the records in reach of the client's hash are looked at.
//
// Two CPUs may look for a place for the same flow at once. Both walk the same records in the same
// order, so they meet. A record that one of them claims is BUSY with the client's port until it is
// filled. The other CPU waits for that and goes on with the record.
#pragma once

#include "bpf/flows.bpf.h"
#include "dataplane/rules/forwarding_rule.h"

// ---- clients whose flows found no room

INLINE uint64_t* no_room_word(uint32_t half, uint32_t hash) {
  const uint32_t index = (half & 1) * MR_XDP_NO_ROOM_WORDS + hash % MR_XDP_NO_ROOM_BITS / 64;
  return bpf_map_lookup_elem(&no_room, &index);
}
INLINE void remember_no_room(uint32_t hash) {
  uint64_t* word = no_room_word(read32(&control.no_room_newer), hash);
  if (word != 0) __sync_fetch_and_or(word, 1ULL << (hash & 63));
}
INLINE _Bool found_no_room(uint32_t hash) {
  const uint64_t* first = no_room_word(0, hash);
  const uint64_t* second = no_room_word(1, hash);
  return first != 0 && second != 0 && ((*first | *second) >> (hash & 63) & 1) != 0;
}

// ---- places

// {index of a record, its state word above}; NO_PLACE when there is none. With IS_KNOWN, the record
// is the flow itself, which another CPU has entered.
static const uint64_t NO_PLACE = ~0ULL;
static const uint64_t IS_KNOWN = 1ULL << 31;  // no table has so many records
// Likewise: the client's port has a flow to another listener, which another CPU may have entered
// after find_to_listener() looked.
static const uint64_t HAS_SIBLING = 1ULL << 30;

enum {
  CLAIM_ATTEMPTS = 16,  // times some 50 ns: another CPU fills a record in less
  // Flows that have spoken within this time are not given up: their answers are on the way.
  GIVE_UP_SILENT_TICKS = 1000000000u >> MR_TICK_SHIFT,
};

INLINE uint64_t place_of(uint32_t index, uint32_t word) {
  return index | (uint64_t)(word + unknown_zero()) << 32;
}

// The place of the client's flow to a listener: a record that it has already (or perhaps, if that
// is BUSY), or the first record that is not a flow. `client` begins with {port and protocol},
// `limits` is {hash, number of records}.
VERIFIED_ONCE uint64_t find_place(uint64_t low, uint64_t high, uint64_t client, uint64_t limits,
                                  uint64_t listener_word) {
  const uint32_t port_protocol = (uint32_t)client;
  uint64_t place = NO_PLACE;
  uint64_t siblings = 0;
#pragma clang loop unroll(disable)
  for (uint32_t probe = 0; probe < MR_XDP_PROBE_MAX; ++probe) {
    if (probe >= (uint32_t)(limits >> 32)) break;
    const uint32_t index = ((uint32_t)limits + probe) & control.flow_mask;
    struct mr_flow_record* flow = bpf_map_lookup_elem(&flows, &index);
    if (flow == 0) break;
    const uint32_t word = load_state_word(flow);
    const uint32_t state = word >> STATE_SHIFT;
    const _Bool is_empty = word == 0 || state == MR_XDP_FLOW_REUSABLE;
    if (is_empty && place == NO_PLACE) place = place_of(index, word);
    if (word == 0) break;
    if ((word & KEY_MASK) != port_protocol || state == MR_XDP_FLOW_REUSABLE) continue;
    const _Bool is_of_client =
        load64(flow->client_addr.bytes) == low && load64(flow->client_addr.bytes + 8) == high;
    const _Bool is_own = is_of_client && listener_word_of(flow) == listener_word;
    // While the record is BUSY its address may still be that of the flow before.
    if (is_own || state == MR_XDP_FLOW_BUSY) return place_of(index, word) | siblings;
    if (is_of_client) siblings = HAS_SIBLING | unknown_zero();
  }
  return place | siblings;
}

// How early the flow is given up: higher goes first, 0 stays.
INLINE uint32_t rank_to_give_up(struct mr_flow_record* flow, uint32_t state, uint32_t tick) {
  if (state == MR_XDP_FLOW_GONE) return 4;
  if (state >= MR_FLOW_STATE_COUNT) return 0;
  const uint32_t flags = flags_of(flow);
  const uint32_t last_seen_tick = read32(&flow->last_seen_tick);
  if ((int32_t)(tick - last_seen_tick) < GIVE_UP_SILENT_TICKS) return 0;
  return MR_WORTH_CONFIRMED - mr_flow_worth_of(state, flags);
}

// The record to give up when all records in reach are flows.
VERIFIED_ONCE uint64_t find_to_give_up(uint32_t hash, uint32_t probe_max, uint32_t tick) {
  uint64_t place = NO_PLACE;
  uint32_t best = 0;
#pragma clang loop unroll(disable)
  for (uint32_t probe = 0; probe < MR_XDP_PROBE_MAX; ++probe) {
    if (probe >= probe_max) break;
    const uint32_t index = (hash + probe) & control.flow_mask;
    struct mr_flow_record* flow = bpf_map_lookup_elem(&flows, &index);
    if (flow == 0) break;
    const uint32_t word = load_state_word(flow);
    const uint32_t rank = rank_to_give_up(flow, word >> STATE_SHIFT, tick) + unknown_zero();
    if (rank <= best) continue;
    best = rank;
    place = place_of(index, word);
  }
  return place;
}

// Claims a record, which is BUSY from then on. Returns {index, word before}, or the record of a
// flow that IS_KNOWN, or NO_PLACE. `client` is {port and protocol, tick}, `limits` that of
// find_place().
VERIFIED_ONCE uint64_t claim_place(uint64_t low, uint64_t high, uint64_t client, uint64_t limits,
                                   uint64_t listener_word) {
  const uint32_t busy = (uint32_t)client | (uint32_t)MR_XDP_FLOW_BUSY << STATE_SHIFT;
#pragma clang loop unroll(disable)
  for (uint32_t attempt = 0; attempt < CLAIM_ATTEMPTS; ++attempt) {
    _Bool is_own = 1;
    uint64_t place = find_place(low, high, client, limits, listener_word);
    if (place == NO_PLACE) {
      place = find_to_give_up((uint32_t)limits, (uint32_t)(limits >> 32), (uint32_t)(client >> 32));
      is_own = 0;
    }
    if (place == NO_PLACE) return NO_PLACE;
    struct mr_flow_record* flow = record_at((uint32_t)place);
    if (flow == 0) return NO_PLACE;
    const uint32_t word = (uint32_t)(place >> 32);
    const uint32_t state = word >> STATE_SHIFT;
    if (word == busy) continue;  // being filled, perhaps with this very flow
    const _Bool is_flow = word != 0 && state < MR_FLOW_STATE_COUNT;
    if (is_own && is_flow && mr_may_go_on(state, flags_of(flow))) return place | IS_KNOWN;
    if (__sync_val_compare_and_swap(state_word(flow), word, busy) == word) return place;
  }
  return NO_PLACE;
}

// Counts what the record's former flow still has uncounted, which the sweep does otherwise. Only if
// the ids still match: the slot's next owner has not had these packets.
INLINE void fold_counts(const struct mr_xdp_root* root, uint32_t cpu_index,
                        struct mr_flow_record* flow, const struct mr_target* its_target) {
  const uint32_t packets = __sync_lock_test_and_set(&flow->packets, 0);
  const uint64_t bytes = __sync_lock_test_and_set(&flow->bytes, 0);
  const struct mr_listener* its_listener = listener_at(root, flow->listener_slot);
  struct mr_listener_stats* listener = listener_stats_of(cpu_index, flow->listener_slot);
  if (listener != 0 && its_listener != 0 && its_listener->id == flow->listener_id) {
    listener->packets += packets;
    listener->bytes += bytes;
  }
  struct mr_target_stats* target = target_stats_of(cpu_index, flow->target_slot);
  if (target != 0 && its_target != 0 && its_target->id == flow->target_id) {
    target->packets += packets;
    target->bytes += bytes;
  }
}

// Ends the flow that the claimed record `index` held before. `word` is its former state word.
// `is_own`: the record's client has claimed it, who opens the flow again.
VERIFIED_ONCE int end_former(uint32_t cpu_index, uint32_t root_index, uint32_t index, uint32_t word,
                             uint32_t is_own) {
  const struct mr_xdp_root* root = &control.roots[root_index & 1];
  struct mr_xdp_cpu* cpu = bpf_map_lookup_elem(&cpus, &cpu_index);
  struct mr_flow_record* flow = record_at(index);
  if (cpu == 0 || flow == 0) return 0;
  const struct mr_target* target = target_at(root, flow->target_slot);
  fold_counts(root, cpu_index, flow, target);
  const uint32_t state = word >> STATE_SHIFT;
  if (state == MR_XDP_FLOW_GONE) return 0;  // counted by who forgot it
  count(cpu, MR_COUNTER_FLOW_REMOVED);
  if (is_own != 0) return 0;
  count(cpu, MR_COUNTER_FLOW_GIVEN_UP);
  const _Bool has_replies = target != 0 && mr_sees_replies(target->forwarding);
  if (has_replies && mr_may_go_on(state, flags_of(flow))) {
    remember_no_room(flow_hash(words_at(flow->client_addr.bytes), word & KEY_MASK));
  }
  return 0;
}

// Claims a record for the packet's client and accounts this packet. The caller fills in the rest
// and calls publish(). Returns null if there is none. If another CPU has entered the flow,
// p->known_flow is set.
INLINE struct mr_flow_record* claim(struct packet* p, uint32_t probe_max) {
  const uint64_t place =
      claim_place(p->client.low, p->client.high, p->client_port_protocol | (uint64_t)p->tick << 32,
                  p->hash | (uint64_t)probe_max << 32, p->listener_word);
  if (place == NO_PLACE) return 0;
  p->has_sibling |= (place & HAS_SIBLING) != 0;
  struct mr_flow_record* flow = record_at((uint32_t)place);
  if (UNLIKELY((place & IS_KNOWN) != 0)) {
    p->known_flow = flow;
    return 0;
  }
  if (flow == 0) return 0;
  const uint32_t word = (uint32_t)(place >> 32);
  const _Bool was_empty = word == 0 || word >> STATE_SHIFT == MR_XDP_FLOW_REUSABLE;
  if (!was_empty) {
    const _Bool is_own = (word & KEY_MASK) == p->client_port_protocol &&
                         is_same_addr(words_at(flow->client_addr.bytes), p->client);
    end_former(p->cpu_index, p->root_index, (uint32_t)place, word, is_own);
  }
  store64(flow->client_addr.bytes, p->client.low);
  store64(flow->client_addr.bytes + 8, p->client.high);
  flow->bytes = p->ip_bytes;
  flow->packets = 1;
  flow->last_seen_tick = p->tick;
  *flags_word(flow) = 0;
  flow->target_ack_be = 0;
  return flow;
}

// Makes the record a flow from now on. By compare-and-swap, for its ordering: what was filled in is
// visible first.
INLINE void publish(struct packet* p, struct mr_flow_record* flow, uint32_t state) {
  const uint32_t busy = p->client_port_protocol | (uint32_t)MR_XDP_FLOW_BUSY << STATE_SHIFT;
  __sync_val_compare_and_swap(state_word(flow), busy,
                              p->client_port_protocol | state << STATE_SHIFT);
}
