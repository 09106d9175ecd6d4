// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// What a flow's record says of it (state: enum mr_flow_state, flags: enum mr_flow_flag): how long
// it may be silent, what a full table does with it, what the sweep does.
//
// How much a record is worth depends on what confirms it. A single packet may have any source. So a
// flow that nothing has confirmed is *new*, and a full table gives it up first. If answers pass
// this node, an answer of the target that the client goes on from *confirms* a flow, and it is
// never given up. If they don't, a client that goes on for some time makes its flow *plausible*.
// Such flows go when there are no new ones. Plausible is no proof: whoever can send three packets
// from a forged source can send more.
#ifndef MILLRACE_RULES_FLOW_RULE_H_
#define MILLRACE_RULES_FLOW_RULE_H_

#include "dataplane/contract/flow_abi.h"
#include "dataplane/rules/header_rule.h"

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#endif

#define MR_FLOW_FINS (MR_FLOW_FIN_CLIENT | MR_FLOW_FIN_TARGET)
#define MR_FLOW_RESETS (MR_FLOW_RST_CLIENT | MR_FLOW_RST_TARGET)
#define MR_FLOW_TOLD_BOTH (MR_FLOW_TOLD_CLIENT | MR_FLOW_TOLD_TARGET)

MR_RULE bool mr_is_over(uint32_t state) {
  return state == MR_FLOW_CLOSED || state == MR_FLOW_EXPIRED;
}

// Whether the target is busy with the flow.
MR_RULE bool mr_is_active(uint32_t state) { return state != MR_FLOW_FREE && !mr_is_over(state); }

// Whether the flow was ended by a RST. The RST may be forged, and then the connection goes on (RFC
// 5961 section 1.1).
MR_RULE bool mr_is_reset(uint32_t state, uint32_t flags) {
  return state == MR_FLOW_CLOSED && (flags & MR_FLOW_RESETS) != 0;
}

// Whether packets of the flow may still come. If such a flow is given up, they find no record.
MR_RULE bool mr_may_go_on(uint32_t state, uint32_t flags) {
  return !mr_is_over(state) || mr_is_reset(state, flags);
}

// ---- silence

// Index into mr_listener.timeout_ticks.
MR_RULE uint32_t mr_timeout_index(uint32_t state, uint32_t flags) {
  return mr_is_reset(state, flags) ? MR_FLOW_TIMEOUT_RESET : state & 7u;
}

// Signed, so that a time that is a tick ahead of the clock does not count as 52 days ago.
MR_RULE bool mr_is_silent(uint32_t now_tick, uint32_t last_seen_tick, uint32_t ticks) {
  return (int32_t)(now_tick - last_seen_tick) > (int32_t)ticks;
}

// ---- what a full table gives up: the lowest first

enum mr_flow_worth {
  MR_WORTH_OVER = 0,
  MR_WORTH_NEW,
  MR_WORTH_PLAUSIBLE,
  MR_WORTH_CONFIRMED,  // stays
};

MR_RULE enum mr_flow_worth mr_flow_worth_of(uint32_t state, uint32_t flags) {
  if (mr_is_over(state)) return MR_WORTH_OVER;
  if ((flags & MR_FLOW_CONFIRMED) != 0) return MR_WORTH_CONFIRMED;
  return (flags & MR_FLOW_PLAUSIBLE) != 0 ? MR_WORTH_PLAUSIBLE : MR_WORTH_NEW;
}

// ---- the sweep

// Flags that a record gets when its client has spoken since the last round of the sweep. Three such
// rounds make the flow plausible.
MR_RULE uint32_t mr_flags_of_round(uint32_t state, uint32_t flags) {
  if (state == MR_FLOW_SYN || mr_flow_worth_of(state, flags) != MR_WORTH_NEW) return 0;
  if ((flags & MR_FLOW_SPOKE_TWICE) != 0) return MR_FLOW_PLAUSIBLE;
  return (flags & MR_FLOW_SPOKE_ONCE) != 0 ? MR_FLOW_SPOKE_TWICE : MR_FLOW_SPOKE_ONCE;
}

// The state of a flow that became plausible: its client went on, so a UDP flow is no longer new.
MR_RULE uint32_t mr_plausible_state(uint32_t state) {
  return state == MR_FLOW_UDP_NEW ? (uint32_t)MR_FLOW_UDP : state;
}

enum mr_sweep {
  MR_SWEEP_KEEP,
  MR_SWEEP_EXPIRE,  // it stays as EXPIRED, so that late packets are told
  MR_SWEEP_FORGET,
};

// `is_orphaned`: its listener or target no longer exists.
MR_RULE enum mr_sweep mr_sweep_of(uint32_t state, bool is_orphaned, bool is_idle) {
  if (is_orphaned) return MR_SWEEP_FORGET;
  if (!is_idle) return MR_SWEEP_KEEP;
  const bool is_worth_a_reset = state == MR_FLOW_ESTABLISHED || state == MR_FLOW_CLOSING;
  return is_worth_a_reset ? MR_SWEEP_EXPIRE : MR_SWEEP_FORGET;
}

// Flags that end with the life of a flow, when it expires.
#define MR_FLOW_OF_ITS_LIFE (MR_FLOW_CONFIRMED | MR_FLOW_TOLD_BOTH)

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif  // MILLRACE_RULES_FLOW_RULE_H_
