// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// The end of flows, and their way from state to state (rules/step_rule.h).
//
// Other CPUs handle packets of the same flow. A step is given up when the state word is no longer
// the one that the step was decided by: the record may be another flow's.
#pragma once

#include "bpf/flows.bpf.h"
#include "dataplane/rules/step_rule.h"

INLINE void forget_flow(struct packet* p, struct mr_flow_record* flow, uint32_t word) {
  if (change_state(flow, word, MR_XDP_FLOW_GONE)) count(p->cpu, MR_COUNTER_FLOW_REMOVED);
}

// A flow that was closed does not count as one that ended because it was idle. No flow is expired
// twice.
INLINE void note_expiry(struct packet* p, struct mr_flow_record* flow, uint32_t state) {
  clear_flags(flow, MR_FLOW_OF_ITS_LIFE);
  flow->last_seen_tick = p->tick;
  if (!mr_is_over(state)) count(p->cpu, MR_COUNTER_FLOW_EXPIRED);
}

// The record stays for a while so that late packets are answered. False when it is no longer what
// `word` says.
INLINE _Bool expire_flow(struct packet* p, struct mr_flow_record* flow, uint32_t word) {
  if (!change_state(flow, word, MR_FLOW_EXPIRED)) return 0;
  note_expiry(p, flow, word >> STATE_SHIFT);
  return 1;
}

// Expires a flow that has been idle for too long. Since that was found, another CPU may have ended
// the flow and entered another one with the same word. That one stays.
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
  struct mr_listener_stats* listener = listener_stats_of(p->cpu_index, flow->listener_slot);
  if (listener != 0) {
    if (from_client) {
      listener->client_resets += 1;
    } else {
      listener->target_resets += 1;
    }
  }
  struct mr_target_stats* target =
      from_client ? 0 : target_stats_of(p->cpu_index, flow->target_slot);
  if (target != 0) target->target_resets += 1;
}

// False when the connection that `before` was of has ended since, so the record is another's.
INLINE _Bool is_same_connection(uint32_t before, uint32_t now) {
  const uint32_t state = now >> STATE_SHIFT;
  return ((before ^ now) & KEY_MASK) == 0 && state < MR_FLOW_STATE_COUNT &&
         (state != MR_FLOW_SYN || before >> STATE_SHIFT == MR_FLOW_SYN);
}

INLINE struct mr_flow_step step_of(const struct packet* p, uint32_t state, uint32_t flags,
                                   _Bool is_from_client) {
  return p->protocol == MR_PROTOCOL_TCP
             ? mr_tcp_step_of(state, flags, p->tcp_flags, p->has_payload, is_from_client)
             : mr_udp_step_of(state, flags, is_from_client);
}

// Changes the state of the flow, which was found with `word`, as the packet says.
OUT_OF_LINE int track(struct packet* p, struct mr_flow_record* flow, uint32_t word,
                      _Bool is_from_client) {
  if (flow == 0) return 0;
  if ((p->tcp_flags & MR_TCP_RST) != 0) count_reset(p, flow, is_from_client);
  const uint32_t target_ack = bpf_ntohl(read32(&flow->target_ack_be));
  if (is_from_client && !mr_is_believed(p->tcp_flags, p->sequence, target_ack)) return 0;
#pragma clang loop unroll(disable)
  for (uint32_t attempt = 0; attempt < 3; ++attempt) {
    const struct mr_flow_step step =
        step_of(p, word >> STATE_SHIFT, flags_of(flow), is_from_client);
    if ((step.sets | step.clears) == 0 && step.state == word >> STATE_SHIFT) return 0;
    if (load_state_word(flow) == word) {
      const uint32_t before = step.sets == 0 ? 0 : set_flags(flow, step.sets);
      // The other side's FIN may have come meanwhile.
      const _Bool is_fin = (step.sets & MR_FLOW_FINS) != 0;
      const uint32_t state = is_fin ? mr_state_by_fins(before | step.sets) : step.state;
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
