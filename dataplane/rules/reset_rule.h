// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Numbers and flags of a RST that the node makes from a segment of a flow that is over. All in host
// order.
#ifndef MILLRACE_RULES_RESET_RULE_H_
#define MILLRACE_RULES_RESET_RULE_H_

#include "dataplane/rules/header_rule.h"

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#endif

struct mr_segment {
  uint32_t sequence;
  uint32_t acknowledgement;
  uint32_t tcp_flags;
  uint32_t occupied;  // mr_occupied_numbers()
};

struct mr_reset {
  uint32_t sequence;
  uint32_t acknowledgement;
  uint8_t tcp_flags;
};

// The answer to the segment's sender (RFC 9293 section 3.10.7.1, "If the state is CLOSED").
MR_RULE struct mr_reset mr_answering_reset(struct mr_segment segment) {
  const bool has_ack = (segment.tcp_flags & MR_TCP_ACK) != 0;
  const struct mr_reset reset = {has_ack ? segment.acknowledgement : 0,
                                 has_ack ? 0 : segment.sequence + segment.occupied,
                                 (uint8_t)(has_ack ? MR_TCP_RST : MR_TCP_RST | MR_TCP_ACK)};
  return reset;
}

// The RST that the segment's sender would send to its receiver in the segment's place. The receiver
// accepts the number that it expects next, which is that of a segment with data. A keep-alive has
// the number before that, and some senders put a byte of garbage into it (RFC 9293 section 3.8.4).
MR_RULE struct mr_reset mr_passing_reset(struct mr_segment segment) {
  const bool may_be_keep_alive = segment.occupied <= 1 && (segment.tcp_flags & MR_TCP_FIN) == 0;
  const struct mr_reset reset = {segment.sequence + (may_be_keep_alive ? 1u : 0u), 0,
                                 (uint8_t)MR_TCP_RST};
  return reset;
}

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif  // MILLRACE_RULES_RESET_RULE_H_
