// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// What becomes of packets to a VIP that no listener is for: its flags (config_abi.h) say it.
#ifndef MILLRACE_RULES_VIP_RULE_H_
#define MILLRACE_RULES_VIP_RULE_H_

#include "dataplane/contract/config_abi.h"
#include "dataplane/rules/address_rule.h"
#include "dataplane/rules/header_rule.h"

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#endif

MR_RULE bool mr_answers_echo(uint32_t vip_flags) { return (vip_flags & MR_VIP_NO_ECHO) == 0; }

// A whole TCP segment or UDP datagram to a port of a VIP that has no listener of that protocol.
enum mr_no_listener {
  MR_NO_LISTENER_DROP,         // as MR_DROP_NO_LISTENER
  MR_NO_LISTENER_FORGED,       // as MR_DROP_MARTIAN: from whom no client is, so nobody is told
  MR_NO_LISTENER_PUNT,         // the kernel's
  MR_NO_LISTENER_RESET,        // answered as by a host without that port: TCP by a RST
  MR_NO_LISTENER_UNREACHABLE,  // UDP by ICMP's "port unreachable", from the VIP: a host's word
                               // (RFC 1122 sections 3.2.2.1 and 4.1.3.1, RFC 4443 section 3.1)
};

// Whether the answer of mr_no_listener_of() depends on the source.
MR_RULE bool mr_asks_for_source(uint32_t vip_flags) { return (vip_flags & MR_VIP_REJECTS) != 0; }

MR_RULE enum mr_no_listener mr_no_listener_of(uint32_t vip_flags, uint32_t protocol,
                                              uint32_t tcp_flags, enum mr_source_fault source) {
  if ((vip_flags & MR_VIP_PUNTS) != 0) return MR_NO_LISTENER_PUNT;
  if ((vip_flags & MR_VIP_REJECTS) == 0) return MR_NO_LISTENER_DROP;
  if (source != MR_SOURCE_FINE) return MR_NO_LISTENER_FORGED;
  if (protocol == MR_PROTOCOL_UDP) return MR_NO_LISTENER_UNREACHABLE;
  // A RST is never answered (RFC 9293 section 3.10.7.1): two ends would go on for ever.
  return (tcp_flags & MR_TCP_RST) != 0 ? MR_NO_LISTENER_DROP : MR_NO_LISTENER_RESET;
}

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif  // MILLRACE_RULES_VIP_RULE_H_
