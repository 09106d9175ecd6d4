// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// The end of flows, and TCP as far as timeouts need it (RFC 9293 section 3.3.2, seen from the
// middle). A single packet may be forged, so none ends a flow for good: once closed, a FIN is taken
// back by data behind it from its sender, a RST by whatever either side says later (RFC 5961).
// Before that, data behind a FIN is mostly data that was sent again, and the FIN holds.
//
// Other CPUs handle packets of the same flow. A step gives up when the word is no longer the one
// that it was decided by: the record may be another flow's.
#pragma once

#include "bpf/flows.bpf.h"

INLINE void forget_flow(struct packet* p, struct mr_flow_record* flow, uint32_t word) {
  if (change_state(flow, word, MR_XDP_FLOW_GONE)) count(p->cpu, MR_COUNTER_FLOW_REMOVED);
}

// A flow that was closed is none that ended for being idle; none is expired twice.
INLINE void note_expiry(struct packet* p, struct mr_flow_record* flow, uint32_t state) {
  clear_flags(flow, MR_FLOW_TOLD_CLIENT | MR_FLOW_TOLD_TARGET | MR_FLOW_CONFIRMED);
  flow->last_seen_tick = p->tick;
  if (state != MR_FLOW_CLOSED) count(p->cpu, MR_COUNTER_FLOW_EXPIRED);
}
// The record stays for a while so that late packets are told. False when it is no longer what
// `word` says.
INLINE _Bool expire_flow(struct packet* p, struct mr_flow_record* flow, uint32_t word) {
  if (!change_state(flow, word, MR_FLOW_EXPIRED)) return 0;
  note_expiry(p, flow, word >> STATE_SHIFT);
  return 1;
}

// Expires a flow that has been idle for too long. Another CPU may have ended it and entered another
// one with the same word since it was found idle: that one lives.
OUT_OF_LINE int expire_if_idle(struct packet* p, struct mr_flow_record* flow,
                               const struct mr_listener* listener, uint32_t word) {
  const uint32_t state = word >> STATE_SHIFT;
  if (flow == 0 || listener == 0) return 0;
  if (state == MR_FLOW_EXPIRED || !is_idle(p, flow, listener, state)) return 0;
  const uint32_t expired = (word & KEY_MASK) | MR_FLOW_EXPIRED << STATE_SHIFT;
  if (!change_state(flow, word, MR_FLOW_EXPIRED)) return 0;
  if (!is_idle(p, flow, listener, state)) {
    change_state(flow, expired, state);
    return 0;
  }
  note_expiry(p, flow, state);
  return 0;
}

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

// Where FINs leave a connection.
INLINE uint32_t state_by_fins(uint32_t flags) {
  if ((flags & FIN_FLAGS) == FIN_FLAGS) return MR_FLOW_CLOSED;
  return (flags & FIN_FLAGS) != 0 ? MR_FLOW_CLOSING : MR_FLOW_ESTABLISHED;
}

// What the packet changes about the flow.
struct step {
  uint32_t state;
  uint32_t sets;    // flags, before the state: what is CLOSED without a RST may be replaced
  uint32_t clears;  // after it
};

INLINE struct step step_of(const struct packet* p, uint32_t state, uint32_t flags,
                           _Bool from_client) {
  const uint32_t own_fin = from_client ? MR_FLOW_FIN_CLIENT : MR_FLOW_FIN_TARGET;
  struct step step = {.state = state};
  if ((p->tcp_flags & TCP_RST_BIT) != 0) {
    step.sets = from_client ? MR_FLOW_RST_CLIENT : MR_FLOW_RST_TARGET;
    step.state = MR_FLOW_CLOSED;
  } else if ((p->tcp_flags & TCP_FIN_BIT) != 0) {
    step.sets = own_fin;
    step.state = state_by_fins(flags | own_fin);
  } else if ((p->tcp_flags & TCP_SYN_BIT) != 0) {
    return step;
  } else if (state == MR_FLOW_SYN) {
    if (!from_client) return step;
    // Without an answer seen, it went past this node or is yet to come.
    step.state = MR_FLOW_ESTABLISHED;
    if ((flags & MR_FLOW_REPLY_SEEN) != 0) step.sets = MR_FLOW_CONFIRMED;
  } else if (state == MR_FLOW_CLOSED) {
    step.clears = flags & (p->has_payload ? RST_FLAGS | own_fin : RST_FLAGS);
    if (step.clears != 0) step.state = state_by_fins(flags & ~step.clears);
  }
  if (step.state == MR_FLOW_CLOSED) step.clears |= MR_FLOW_CONFIRMED;  // no longer protected
  return step;
}

// False when the record is no longer of the connection that `before` was of: it has ended since.
INLINE _Bool is_same_connection(uint32_t before, uint32_t now) {
  const uint32_t state = now >> STATE_SHIFT;
  return ((before ^ now) & KEY_MASK) == 0 && state < MR_FLOW_STATE_COUNT &&
         (state != MR_FLOW_SYN || before >> STATE_SHIFT == MR_FLOW_SYN);
}

// Takes the flow, found with `word`, where the packet leads it.
OUT_OF_LINE int track_tcp(struct packet* p, struct mr_flow_record* flow, uint32_t word,
                          _Bool from_client) {
  if (flow == 0) return 0;
  if ((p->tcp_flags & TCP_RST_BIT) != 0) count_reset(p, flow, from_client);
#pragma clang loop unroll(disable)
  for (uint32_t attempt = 0; attempt < 3; ++attempt) {
    const struct step step = step_of(p, word >> STATE_SHIFT, flags_of(flow), from_client);
    if ((step.sets | step.clears) == 0 && step.state == word >> STATE_SHIFT) return 0;
    if (load_state_word(flow) == word) {
      const uint32_t before = step.sets == 0 ? 0 : set_flags(flow, step.sets);
      // The other side's FIN may have come meanwhile.
      const _Bool is_fin = (step.sets & FIN_FLAGS) != 0;
      const uint32_t state = is_fin ? state_by_fins(before | step.sets) : step.state;
      if (change_state(flow, word, state)) {
        if (step.clears != 0) clear_flags(flow, step.clears);
        return 0;
      }
      if (!is_same_connection(word, load_state_word(flow))) {
        clear_flags(flow, step.sets & ~before);
        return 0;
      }
    }
    const uint32_t now = load_state_word(flow);
    if (!is_same_connection(word, now)) return 0;
    word = now;
  }
  return 0;
}
