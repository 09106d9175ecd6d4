// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// How packets move a flow from state to state: TCP as far as timeouts need it (RFC 9293 section
// 3.3.2, seen from the middle), UDP by question and answer.
//
// A single packet may be forged, so none ends a flow for good. A RST is taken back by whatever
// either side says later (RFC 5961). Once the flow is closed, a FIN is taken back by data that its
// sender sends behind it. Before that, data behind a FIN is mostly data that was sent again, so the
// FIN holds. That does no harm: a half-closed flow may be silent as long as an open one.
#ifndef MILLRACE_RULES_STEP_RULE_H_
#define MILLRACE_RULES_STEP_RULE_H_

#include "dataplane/rules/flow_rule.h"

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#endif

// State of a flow by its first packet. `sees_replies`: mr_sees_replies() of its target.
MR_RULE uint32_t mr_first_state(uint32_t protocol, uint32_t tcp_flags, bool sees_replies) {
  if (protocol == MR_PROTOCOL_UDP) return sees_replies ? MR_FLOW_UDP_NEW : MR_FLOW_UDP;
  if ((tcp_flags & MR_TCP_FIN) != 0) return MR_FLOW_CLOSING;
  return (tcp_flags & MR_TCP_SYN) != 0 ? MR_FLOW_SYN : MR_FLOW_ESTABLISHED;
}

// Likewise its flags.
MR_RULE uint32_t mr_first_flags(uint32_t state, bool is_orphan) {
  return (state == MR_FLOW_CLOSING ? (uint32_t)MR_FLOW_FIN_CLIENT : 0) |
         (is_orphan ? (uint32_t)MR_FLOW_ORPHAN_PREV : 0);
}

// The state of a flow that such a packet leaves as it is. If the packet opens, closes or resets,
// MR_FLOW_STATE_COUNT, which no flow has.
MR_RULE uint32_t mr_settled_state(uint32_t protocol, uint32_t tcp_flags) {
  if (protocol == MR_PROTOCOL_UDP) return MR_FLOW_UDP;
  return (tcp_flags & MR_TCP_TRACKED) == 0 ? MR_FLOW_ESTABLISHED : MR_FLOW_STATE_COUNT;
}

// The state of a connection by the FINs that were seen.
MR_RULE uint32_t mr_state_by_fins(uint32_t flags) {
  if ((flags & MR_FLOW_FINS) == MR_FLOW_FINS) return MR_FLOW_CLOSED;
  return (flags & MR_FLOW_FINS) != 0 ? MR_FLOW_CLOSING : MR_FLOW_ESTABLISHED;
}

// How far the number of a client's FIN or RST may be from what the target has acknowledged last.
// Ahead of that lies what is under way to the target, which is rarely more than 16 MiB. Behind it
// lies the start of a segment of which the target has part.
#define MR_TCP_NUMBERS_AHEAD (1u << 24)
#define MR_TCP_NUMBERS_BEHIND (1u << 16)

// Whether a client's packet may close or reset its flow. Whoever does not see the connection has to
// guess the number of a FIN or RST, as for the target itself (RFC 5961 section 3). All others pass
// and change nothing. `target_ack`: 0 if no answer of the target was seen. Then all are believed.
// Targets are believed always.
MR_RULE bool mr_is_believed(uint32_t tcp_flags, uint32_t sequence, uint32_t target_ack) {
  const bool ends = (tcp_flags & (MR_TCP_FIN | MR_TCP_RST)) != 0;
  const uint32_t place = sequence - target_ack + MR_TCP_NUMBERS_BEHIND;
  return !ends || target_ack == 0 || place < MR_TCP_NUMBERS_AHEAD + MR_TCP_NUMBERS_BEHIND;
}

// What a packet changes about its flow.
struct mr_flow_step {
  uint32_t state;
  uint32_t sets;    // flags; before the state changes: what is CLOSED without a RST is replaceable
  uint32_t clears;  // flags; after it
};

// The step of a packet of a TCP connection. `has_payload` matters only if the flow is CLOSED.
MR_RULE struct mr_flow_step mr_tcp_step_of(uint32_t state, uint32_t flags, uint32_t tcp_flags,
                                           bool has_payload, bool is_from_client) {
  const uint32_t own_fin = is_from_client ? MR_FLOW_FIN_CLIENT : MR_FLOW_FIN_TARGET;
  struct mr_flow_step step = {state, 0, 0};
  if ((tcp_flags & MR_TCP_RST) != 0) {
    step.sets = is_from_client ? MR_FLOW_RST_CLIENT : MR_FLOW_RST_TARGET;
    step.state = MR_FLOW_CLOSED;
  } else if ((tcp_flags & MR_TCP_FIN) != 0) {
    step.sets = own_fin;
    step.state = mr_state_by_fins(flags | own_fin);
  } else if ((tcp_flags & MR_TCP_SYN) != 0) {
    return step;
  } else if (state == MR_FLOW_SYN) {
    if (!is_from_client) return step;
    // If no answer was seen, it went past this node or is yet to come.
    step.state = MR_FLOW_ESTABLISHED;
    if ((flags & MR_FLOW_REPLY_SEEN) != 0) step.sets = MR_FLOW_CONFIRMED;
  } else if (state == MR_FLOW_CLOSED) {
    step.clears = flags & (has_payload ? MR_FLOW_RESETS | own_fin : (uint32_t)MR_FLOW_RESETS);
    if (step.clears != 0) step.state = mr_state_by_fins(flags & ~step.clears);
  }
  if (step.state == MR_FLOW_CLOSED) step.clears |= MR_FLOW_CONFIRMED;  // no longer protected
  return step;
}

// The step of a datagram. A client that speaks again after an answer has a flow of some length.
MR_RULE struct mr_flow_step mr_udp_step_of(uint32_t state, uint32_t flags, bool is_from_client) {
  struct mr_flow_step step = {state, 0, 0};
  if (is_from_client && state == MR_FLOW_UDP_NEW && (flags & MR_FLOW_REPLY_SEEN) != 0) {
    step.state = MR_FLOW_UDP;
    step.sets = MR_FLOW_CONFIRMED;
  }
  return step;
}

// Flags that an answer of the target sets, once it has moved the flow to `state`. A target that
// goes on with a TCP connection confirms it. A datagram confirms nothing, because the target may
// send one to anybody.
MR_RULE uint32_t mr_flags_of_reply(uint32_t state, uint32_t tcp_flags) {
  const bool goes_on = (tcp_flags & MR_TCP_TRACKED) == 0 &&
                       (state == MR_FLOW_ESTABLISHED || state == MR_FLOW_CLOSING);
  return (uint32_t)MR_FLOW_REPLY_SEEN | (goes_on ? (uint32_t)MR_FLOW_CONFIRMED : 0);
}

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif  // MILLRACE_RULES_STEP_RULE_H_
