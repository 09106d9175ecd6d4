// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Flows of one client port that lead to one target, address and port, through several listeners. A
// packet of the target fits all of them, and mr_reply_rank() says which gets it. The verifier
// checks the loops in here once. Such functions take numbers only, so the question is handed over
// in the CPU's own memory.
#pragma once

#include "bpf/claim.bpf.h"
#include "bpf/track.bpf.h"
#include "dataplane/rules/known_rule.h"

struct query {
  struct addr_words client;
  struct addr_words target;
  uint64_t listener_word;
  uint32_t client_port_protocol;
  uint32_t hash;
  uint32_t tick;
  uint32_t root_index;
  uint32_t target_port_be;
};
_Static_assert(sizeof(struct query) <= sizeof(((struct mr_xdp_cpu*)0)->scratch), "fits");

// Asks about the flows of the packet's client to the target with this address and port.
INLINE void ask_about(struct packet* p, struct addr_words target, uint16_t port_be) {
  struct query* query = (struct query*)p->cpu->scratch;
  query->client = p->client;
  query->target = target;
  query->client_port_protocol = p->client_port_protocol;
  query->hash = p->hash;
  query->tick = p->tick;
  query->root_index = p->root_index;
  query->target_port_be = port_be;
  query->listener_word = p->listener_word;
}

INLINE _Bool is_of_query(const struct query* query, struct mr_flow_record* flow, uint32_t word) {
  return ((load64(flow->client_addr.bytes) ^ query->client.low) |
          (load64(flow->client_addr.bytes + 8) ^ query->client.high) |
          ((word & KEY_MASK) ^ query->client_port_protocol)) == 0 &&
         word >> STATE_SHIFT < MR_FLOW_STATE_COUNT;
}

INLINE _Bool is_sibling(const struct query* query, struct mr_flow_record* flow, uint32_t word) {
  if (!is_of_query(query, flow, word)) return 0;
  const struct mr_xdp_root* root = &control.roots[query->root_index & 1];
  const struct mr_target* target = target_at(root, flow->target_slot);
  return target != 0 &&
         ((load64(target->addr.bytes) ^ query->target.low) |
          (load64(target->addr.bytes + 8) ^ query->target.high) | (target->id ^ flow->target_id)) ==
             0 &&
         target_port_be(query->root_index, flow->target_slot, listener_word_of(flow)) ==
             query->target_port_be;
}

// Marks the flows through other listeners: they lead to the same target as the flow through
// query->listener_word, which the client has just used. Nonzero if there are any.
VERIFIED_ONCE int mark_siblings(uint32_t cpu_index) {
  struct mr_xdp_cpu* cpu = bpf_map_lookup_elem(&cpus, &cpu_index);
  if (cpu == 0) return 0;
  const struct query* query = (const struct query*)cpu->scratch;
  int found = 0;
#pragma clang loop unroll(disable)
  for (uint32_t probe = 0; probe < MR_XDP_PROBE_MAX; ++probe) {
    struct mr_flow_record* flow = record_at(query->hash + probe);
    if (flow == 0) break;
    const uint32_t word = load_state_word(flow);
    if (word == 0) break;
    if (listener_word_of(flow) == query->listener_word) continue;
    if (!is_sibling(query, flow, word)) continue;
    clear_flags(flow, MR_FLOW_ASKED);
    set_flags(flow, MR_FLOW_SHARED);
    found = 1;
  }
  return found;
}

enum {
  NO_RECORD = 0xffffffffu,
};

// The index of the client's flow to query->listener_word, or NO_RECORD.
VERIFIED_ONCE uint32_t find_asked(uint32_t cpu_index) {
  struct mr_xdp_cpu* cpu = bpf_map_lookup_elem(&cpus, &cpu_index);
  if (cpu == 0) return NO_RECORD;
  const struct query* query = (const struct query*)cpu->scratch;
#pragma clang loop unroll(disable)
  for (uint32_t probe = 0; probe < MR_XDP_PROBE_MAX; ++probe) {
    struct mr_flow_record* flow = record_at(query->hash + probe);
    if (flow == 0) break;
    const uint32_t word = load_state_word(flow);
    if (word == 0) break;
    if (is_of_query(query, flow, word) && listener_word_of(flow) == query->listener_word) {
      return (query->hash + probe) & control.flow_mask;
    }
  }
  return NO_RECORD;
}

// The rank of a flow; higher is better.
INLINE uint32_t rank_of(const struct query* query, struct mr_flow_record* flow, uint32_t state,
                        _Bool opens) {
  const struct mr_xdp_root* root = &control.roots[query->root_index & 1];
  const struct mr_listener* listener = listener_at(root, flow->listener_slot);
  const uint32_t flags = flags_of(flow);
  const _Bool is_late = listener == 0 || listener->id != flow->listener_id ||
                        mr_is_silent(query->tick, flow->last_seen_tick,
                                     listener->timeout_ticks[mr_timeout_index(state, flags)]);
  return mr_reply_rank(state, flags, flow->protocol, is_late, opens);
}

// Ends all of the flows but those that are opening.
VERIFIED_ONCE int forget_past(uint32_t cpu_index) {
  struct mr_xdp_cpu* cpu = bpf_map_lookup_elem(&cpus, &cpu_index);
  if (cpu == 0) return 0;
  const struct query* query = (const struct query*)cpu->scratch;
  uint64_t forgotten = unknown_zero();
#pragma clang loop unroll(disable)
  for (uint32_t probe = 0; probe < MR_XDP_PROBE_MAX; ++probe) {
    struct mr_flow_record* flow = record_at(query->hash + probe);
    if (flow == 0) break;
    const uint32_t word = load_state_word(flow);
    if (word == 0) break;
    if (word >> STATE_SHIFT == MR_FLOW_SYN || !is_sibling(query, flow, word)) continue;
    forgotten += change_state(flow, word + unknown_zero(), MR_XDP_FLOW_GONE);
  }
  cpu->stats.counters[MR_COUNTER_FLOW_REMOVED] += forgotten;
  return 0;
}

// What best_of_shared() learns of a record: {rank of the flow, tick of its last packet} with
// IS_SHARED; 0 for another flow; NO_MORE behind the client's last record.
static const uint64_t IS_SHARED = 1ULL << 63;
static const uint64_t NO_MORE = 1;
VERIFIED_ONCE uint64_t look_at_shared(uint32_t cpu_index, uint32_t index, uint32_t opens) {
  struct mr_xdp_cpu* cpu = bpf_map_lookup_elem(&cpus, &cpu_index);
  if (cpu == 0) return NO_MORE;
  const struct query* query = (const struct query*)cpu->scratch;
  struct mr_flow_record* flow = record_at(index);
  if (flow == 0) return NO_MORE;
  const uint32_t word = load_state_word(flow);
  if (word == 0) return NO_MORE;
  if (!is_sibling(query, flow, word)) return 0;
  const uint32_t rank = rank_of(query, flow, word >> STATE_SHIFT, opens != 0);
  return IS_SHARED | (uint64_t)rank << 32 | flow->last_seen_tick;
}

// The index of the flow that a packet of the target belongs to, or NO_RECORD. If the target accepts
// a connection (`opens`), that is the flow that is opening, and the others are over. Otherwise the
// flow that lives counts, then the one that the client used last.
VERIFIED_ONCE uint32_t best_of_shared(uint32_t cpu_index, uint32_t opens) {
  struct mr_xdp_cpu* cpu = bpf_map_lookup_elem(&cpus, &cpu_index);
  if (cpu == 0) return NO_RECORD;
  const struct query* query = (const struct query*)cpu->scratch;
  uint32_t best = NO_RECORD;
  uint32_t best_rank = 0;
  uint32_t best_tick = 0;
#pragma clang loop unroll(disable)
  for (uint32_t probe = 0; probe < MR_XDP_PROBE_MAX; ++probe) {
    const uint32_t index = (query->hash + probe) & control.flow_mask;
    const uint64_t seen = look_at_shared(cpu_index, index, opens);
    if (seen == NO_MORE) break;
    if (seen == 0) continue;
    const uint32_t rank = (uint32_t)((seen & ~IS_SHARED) >> 32);
    const _Bool is_later = rank == best_rank && (int32_t)((uint32_t)seen - best_tick) > 0;
    if (best != NO_RECORD && rank <= best_rank && !is_later) continue;
    best = index;
    best_rank = rank;
    best_tick = (uint32_t)seen;
  }
  struct mr_flow_record* flow = best == NO_RECORD || opens == 0 ? 0 : record_at(best);
  if (flow != 0 && load_state_word(flow) >> STATE_SHIFT == MR_FLOW_SYN) forget_past(cpu_index);
  return best;
}
