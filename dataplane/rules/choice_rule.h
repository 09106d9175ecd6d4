// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Which target a flow gets: what is hashed, which of a slot's two owners counts, and whether the
// flow gets a record.
#ifndef MILLRACE_RULES_CHOICE_RULE_H_
#define MILLRACE_RULES_CHOICE_RULE_H_

#include "dataplane/contract/config_abi.h"
#include "dataplane/rules/header_rule.h"

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#endif

// What the selection hash is of. Without copies of addresses: it is on the way of each new flow.
MR_RULE struct mr_flow_tuple mr_selection_tuple(const struct mr_addr* client_addr,
                                                uint16_t client_port_be,
                                                const struct mr_listener* listener) {
  const struct mr_flow_tuple tuple = {*client_addr,      listener->vip_addr, client_port_be,
                                      listener->port_be, listener->protocol, {0, 0, 0}};
  return tuple;
}

// A packet in the middle of a TCP connection that no record knows: another node may have had it, so
// it is an orphan here and may go to the slot's owner before, `prev`.
MR_RULE bool mr_may_be_orphan(uint32_t protocol, uint32_t tcp_flags) {
  return protocol == MR_PROTOCOL_TCP && (tcp_flags & MR_TCP_SYN) == 0;
}

// Whether an orphan goes to `prev`; else, and where there is no `prev`, to `cur`.
MR_RULE bool mr_takes_orphan(uint32_t prev_target_flags) {
  return (prev_target_flags & MR_TARGET_KEEPS_FLOWS) != 0;
}

// An ICMP error about a flow that no record knows is repeated: half of the time, by chance, it goes
// where an orphan would, else to `cur`.
MR_RULE bool mr_error_is_orphan(uint32_t tick) { return (tick * 0x9e3779b1u) >> 31 != 0; }

// Whether a new flow gets a record. A RST ends what this node does not know: it is passed on, and
// nothing is remembered.
MR_RULE bool mr_is_worth_a_record(uint32_t tcp_flags, uint32_t next_hop_flags) {
  return (tcp_flags & MR_TCP_RST) == 0 && (next_hop_flags & MR_NEXT_HOP_RESOLVED) != 0;
}

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif  // MILLRACE_RULES_CHOICE_RULE_H_
