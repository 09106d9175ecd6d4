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

// The input of the selection hash. Made without copies of addresses, because every new flow needs
// it.
MR_RULE struct mr_flow_tuple mr_selection_tuple(const struct mr_addr* client_addr,
                                                uint16_t client_port_be,
                                                const struct mr_listener* listener,
                                                uint16_t vip_port_be) {
  const struct mr_flow_tuple tuple = {*client_addr, listener->vip_addr, client_port_be,
                                      vip_port_be,  listener->protocol, {0, 0, 0}};
  return tuple;
}

// Whether a packet may be an *orphan*: in the middle of a TCP connection, and no record knows it.
// Another node may have had the connection, so the packet may go to the slot's previous owner,
// `prev`.
MR_RULE bool mr_may_be_orphan(uint32_t protocol, uint32_t tcp_flags) {
  return protocol == MR_PROTOCOL_TCP && (tcp_flags & MR_TCP_SYN) == 0;
}

// Whether a target keeps its known flows of that protocol. One that serves both protocols may have
// to keep connections while datagrams find another target.
MR_RULE bool mr_keeps_flow(uint32_t target_flags, uint32_t protocol) {
  const uint32_t of_tcp = protocol == MR_PROTOCOL_TCP ? (uint32_t)MR_TARGET_KEEPS_TCP : 0u;
  return (target_flags & (MR_TARGET_KEEPS_FLOWS | of_tcp)) != 0;
}

// Whether an orphan goes to `prev`. Otherwise, and if the slot has no `prev`, it goes to `cur`.
MR_RULE bool mr_takes_orphan(uint32_t prev_target_flags) {
  return mr_keeps_flow(prev_target_flags, MR_PROTOCOL_TCP);
}

// Whether an ICMP error about a flow that no record knows goes where an orphan would; otherwise it
// goes to `cur`. By chance, half of the time: errors are repeated, so both targets get one.
MR_RULE bool mr_error_is_orphan(uint32_t tick) { return (tick * 0x9e3779b1u) >> 31 != 0; }

// Whether a new flow gets a record. A RST of a connection that this node does not know gets none:
// it ends that connection, so it is only passed on.
MR_RULE bool mr_is_worth_a_record(uint32_t tcp_flags, uint32_t next_hop_flags) {
  return (tcp_flags & MR_TCP_RST) == 0 && (next_hop_flags & MR_NEXT_HOP_RESOLVED) != 0;
}

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif  // MILLRACE_RULES_CHOICE_RULE_H_
