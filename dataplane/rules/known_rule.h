// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// What becomes of a packet whose flow is known but does not simply go on: towards the target, and
// towards the client.
//
// A SYN on a known flow was sent again, or is of a connection that the client has lost, or is
// forged. It goes to the flow's target, which can tell. The target answers as to an old connection:
// a client that started anew then sends a RST, and its next SYN finds no flow. Or the target
// accepts a new connection. A draining target must not get a new connection. So such a SYN is kept
// from it: at once if the flow was just opening, and after a silence if no answers pass the node.
#ifndef MILLRACE_RULES_KNOWN_RULE_H_
#define MILLRACE_RULES_KNOWN_RULE_H_

#include "dataplane/contract/config_abi.h"
#include "dataplane/rules/choice_rule.h"
#include "dataplane/rules/flow_rule.h"

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#endif

// ---- from a client

enum mr_revisit {
  MR_REVISIT_GO_ON,
  MR_REVISIT_OPEN_AGAIN,  // a SYN: to the flow's target, which sees it
  MR_REVISIT_START_OVER,  // the client's port is used again, or its target is gone: a new choice
  MR_REVISIT_END_LATE,    // of a flow that was idle for too long: mr_tells_other_side()
  MR_REVISIT_RESET,       // the target resets its flows: expired, and the sender gets a RST
};

struct mr_known_packet {
  uint32_t state;  // of the flow; EXPIRED when it is idle for too long
  uint32_t flags;  // of the flow
  uint32_t protocol;
  uint32_t tcp_flags;
  uint32_t target_flags;  // enum mr_target_flag; 0 when the target is no more
  bool sees_replies;      // mr_sees_replies() of the target
  bool is_quiet;          // silent for MR_FLOW_TIMEOUT_RESET
};

MR_RULE enum mr_revisit mr_revisit_of(struct mr_known_packet packet) {
  const bool is_tcp = packet.protocol == MR_PROTOCOL_TCP;
  const bool is_syn = (packet.tcp_flags & MR_TCP_SYN) != 0;
  // What one RST has closed may go on.
  const bool is_replaceable = mr_is_over(packet.state) && !mr_is_reset(packet.state, packet.flags);
  if (is_syn && is_replaceable) return MR_REVISIT_START_OVER;
  if (packet.state == MR_FLOW_EXPIRED) return is_tcp ? MR_REVISIT_END_LATE : MR_REVISIT_START_OVER;
  if (!mr_keeps_flow(packet.target_flags, packet.protocol)) {
    const bool resets = (packet.target_flags & MR_TARGET_RESETS_FLOWS) != 0;
    return is_tcp && resets && !is_syn ? MR_REVISIT_RESET : MR_REVISIT_START_OVER;
  }
  if (!is_syn) return MR_REVISIT_GO_ON;
  if ((packet.target_flags & MR_TARGET_DRAINING) == 0) return MR_REVISIT_OPEN_AGAIN;
  const bool has_no_answer =
      packet.state == MR_FLOW_SYN && (packet.flags & MR_FLOW_REPLY_SEEN) == 0;
  const bool is_forgotten = has_no_answer || (!packet.sees_replies && packet.is_quiet);
  return is_forgotten ? MR_REVISIT_START_OVER : MR_REVISIT_OPEN_AGAIN;
}

// Flags that MR_REVISIT_OPEN_AGAIN sets. SYNs to a draining target do not count as a sign of life.
// Otherwise a client that tries for ever would keep the flow there.
MR_RULE uint32_t mr_flags_of_syn_again(uint32_t state) {
  return state == MR_FLOW_SYN ? 0 : (uint32_t)MR_FLOW_SYN_AGAIN;
}

// Whether answers go to the neighbour that such a packet of a client came from. Not for a packet
// that ends a connection, because it may be forged.
MR_RULE bool mr_shows_last_hop(uint32_t tcp_flags) {
  return (tcp_flags & (MR_TCP_FIN | MR_TCP_RST)) == 0;
}

// ---- from either side, of an expired flow

// The sender gets a RST as answer, but only after the other side has got one. Only this segment has
// the sequence number by which the other side knows the connection, so it is turned into a RST for
// that side. The sender hears nothing, sends the segment again, and is answered then. `told`: the
// flag of the other side.
MR_RULE bool mr_tells_other_side(uint32_t tcp_flags, uint32_t flags, uint32_t told,
                                 bool is_reachable) {
  return (tcp_flags & (MR_TCP_SYN | MR_TCP_RST)) == 0 && is_reachable && (flags & told) == 0;
}

// ---- from a target

// `prev` does not know the flow that was sent to it on trust, because the flow was opened after the
// slot's change. The RST of `prev` is dropped and the flow moves to `cur`. There the client's
// retransmission finds its connection.
MR_RULE bool mr_disowns_orphan(uint32_t flags, uint32_t tcp_flags) {
  return (tcp_flags & MR_TCP_RST) != 0 && (flags & MR_FLOW_ORPHAN_PREV) != 0 &&
         (flags & MR_FLOW_REPLY_SEEN) == 0;
}

enum mr_accept {
  MR_ACCEPT_NOTHING_NEW,  // the first answer, or repeated by a server that waits for data
  MR_ACCEPT_AGAIN,        // the target has forgotten the connection and accepts a new one
  MR_ACCEPT_REFUSED,      // likewise, but draining it must not have the new one
};

// What a SYN from a target means.
MR_RULE enum mr_accept mr_accept_of(uint32_t state, uint32_t flags, bool is_draining) {
  if (state == MR_FLOW_SYN || (flags & MR_FLOW_SYN_AGAIN) == 0) return MR_ACCEPT_NOTHING_NEW;
  return is_draining ? MR_ACCEPT_REFUSED : MR_ACCEPT_AGAIN;
}

// Flags that MR_ACCEPT_AGAIN clears, with the state SYN.
#define MR_FLOW_OF_CONNECTION \
  (MR_FLOW_FINS | MR_FLOW_RESETS | MR_FLOW_CONFIRMED | MR_FLOW_SYN_AGAIN)

// Several flows of one client port may lead to one target, address and port, through several
// listeners. The target's packets fit all of them. The flow with the highest rank gets the packet,
// and among equals the one that was seen last. If the target accepts a connection (`opens`), that
// is the flow that is opening. Otherwise the flow that lives counts. `is_late`: idle for too long,
// or its listener no longer exists.
MR_RULE uint32_t mr_reply_rank(uint32_t state, uint32_t flags, uint32_t protocol, bool is_late,
                               bool opens) {
  const uint32_t asked = (flags & MR_FLOW_ASKED) != 0 ? 1 : 0;
  if (is_late || state == MR_FLOW_EXPIRED) return asked;
  if (state == MR_FLOW_CLOSED) return 2 + asked;
  if (state == MR_FLOW_SYN) return (opens ? 10u : 4u) + asked;
  // A target has one connection with that client's port: the one that it was seen to take part in.
  // Any single packet with wrong numbers may have begun the other flow. Datagrams belong to no
  // connection.
  const bool is_sure = (flags & MR_FLOW_CONFIRMED) != 0 || protocol == MR_PROTOCOL_UDP;
  return (is_sure ? 8u : 6u) + asked;
}

// A packet from a target's service port, not to a VIP, and without a flow. It is a reply only if
// the client may have a flow that found no room, or that another node has. Otherwise a host talks
// to the target past the VIP, or the target asks somebody.
enum mr_flowless_reply {
  MR_FLOWLESS_PUNT,       // no reply: the kernel's
  MR_FLOWLESS_TRANSLATE,  // by the target's only listener
  MR_FLOWLESS_DROP,       // a reply, but of which listener nobody knows
};

struct mr_flowless_packet {
  uint32_t tcp_flags;
  uint32_t target_flags;
  bool is_to_no_client;  // to the node itself, or an address that no client can have
  bool had_no_room;      // a flow of the client's port found no room or was given up
  bool is_ambiguous;     // several listeners lead to the target
};

MR_RULE enum mr_flowless_reply mr_flowless_reply_of(struct mr_flowless_packet packet) {
  const bool may_be_known_elsewhere = (packet.target_flags & MR_TARGET_ASYMMETRIC) != 0;
  if (mr_is_lone_syn(packet.tcp_flags) || packet.is_to_no_client) return MR_FLOWLESS_PUNT;
  if (!may_be_known_elsewhere && !packet.had_no_room) return MR_FLOWLESS_PUNT;
  return packet.is_ambiguous ? MR_FLOWLESS_DROP : MR_FLOWLESS_TRANSLATE;
}

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif  // MILLRACE_RULES_KNOWN_RULE_H_
