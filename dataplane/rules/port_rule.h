// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Ports of a flow where its listener has several, or its target takes any.
#ifndef MILLRACE_RULES_PORT_RULE_H_
#define MILLRACE_RULES_PORT_RULE_H_

#include "dataplane/contract/config_abi.h"
#include "dataplane/rules/rule.h"

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#endif

MR_RULE bool mr_has_several_ports(const struct mr_listener* listener) {
  return listener->last_port_be != listener->port_be;
}

// mr_listener.asked_port_be in an image. With it a flow names its listener by the same word whether
// the listener has one port or several, so a range may become one port, or one port a range.
MR_RULE uint16_t mr_asked_port_be_of(uint16_t first_port_be, uint16_t last_port_be) {
  return first_port_be == last_port_be ? first_port_be : 0;
}

// mr_table_entry.protocol of the entry that says which ranges a VIP has.
MR_RULE uint8_t mr_ranges_of(uint32_t protocol) { return (uint8_t)(protocol | MR_PROTOCOL_RANGES); }

// Whether a target that takes any port may answer from this one. `entry`: of the reverse table.
MR_RULE bool mr_answers_from(const struct mr_table_entry* entry, uint16_t port_be) {
  const uint16_t port = __builtin_bswap16(port_be);
  return port >= __builtin_bswap16(entry->first_port_be) &&
         port <= __builtin_bswap16(entry->last_port_be);
}

// The port of the VIP that a flow's client asked for. `asked_port_be` is that of the flow's record.
MR_RULE uint16_t mr_vip_port_be_of(uint16_t asked_port_be, uint16_t listener_port_be) {
  return asked_port_be != 0 ? asked_port_be : listener_port_be;
}

// The port of the target that a flow goes to, which is also where its answers come from.
MR_RULE uint16_t mr_target_port_be_of(uint16_t target_port_be, uint16_t vip_port_be) {
  return target_port_be != 0 ? target_port_be : vip_port_be;
}

// Whether `range` is the first of a sorted list that may have `port` (host byte order): it has it
// if it begins in time, and no other one does.
MR_RULE bool mr_ends_behind(const struct mr_port_range* range, uint32_t port) {
  return range->last >= port;
}

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif  // MILLRACE_RULES_PORT_RULE_H_
