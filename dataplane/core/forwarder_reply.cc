// SPDX-License-Identifier: Apache-2.0
//
// Packets towards clients whose flow is in doubt: it does not simply go on, there are several that
// it could be, or none. HOT (a few packets of each flow).
#include <array>

#include "dataplane/core/counters.h"
#include "dataplane/core/forwarder.h"
#include "dataplane/core/rewrite.h"

namespace millrace::core {
namespace {

// More flows of one client port to one target, address and port, than two buckets hold.
constexpr std::uint32_t kSharedMax = 2 * MR_BUCKET_WAYS;

void clear(mr_flow_record& flow, std::uint32_t flags) {
  flow.flags &= static_cast<std::uint16_t>(~flags);
}

}  // namespace

Verdict Forwarder::revisit_reply(Packet& packet, Work& work) noexcept {
  const Parsed& parsed = work.parsed;
  const std::uint32_t index = find_from_target(work);
  if (index == MR_RECORD_NONE) return forward_untracked_reply(packet, work);
  if (parsed.source == parsed.destination) return refuse_martian(packet, parsed);
  mr_flow_record& flow = flows_.record(index);
  const mr_listener* listener = listener_of(flow);
  if (listener == nullptr) return forward_untracked_reply(packet, work);
  const bool is_tcp = parsed.protocol == ip_protocol::kTcp;
  if (flow.state == MR_FLOW_EXPIRED || is_idle(flow, *listener)) {
    if (flow.state != MR_FLOW_EXPIRED) expire_flow(flow);
    return is_tcp ? end_late(packet, parsed, flow, false) : forward_untracked_reply(packet, work);
  }
  if ((parsed.tcp_flags & tcp::kRst) != 0 && swallow_orphan_reset(work.hash, flow, *listener)) {
    return drop(MR_DROP_UNWANTED_RST);
  }
  if ((parsed.tcp_flags & tcp::kSyn) != 0 && !accept_again(flow)) {
    const std::uint32_t listener_slot = flow.listener_slot;
    forget_flow(flow);
    return reset(packet, parsed, listener_slot);
  }
  ++burst_counts_.hits;
  if (is_tcp) track_tcp(flow, packet, parsed, false);
  flow.flags |= MR_FLOW_REPLY_SEEN;
  const bool is_plain = (parsed.tcp_flags & (tcp::kSyn | tcp::kFin | tcp::kRst)) == 0;
  if (is_plain && !is_confirmed(flow)) note_reply(flow);
  account(flow, parsed);
  return send_to_client(packet, parsed, flow, *listener);
}

// An answer of the target on a flow that none had confirmed. That a target goes on with a
// connection confirms it; a datagram of its own may be to anybody.
void Forwarder::note_reply(mr_flow_record& flow) noexcept {
  flow.flags |= MR_FLOW_REPLY_SEEN;
  if (flow.state == MR_FLOW_ESTABLISHED || flow.state == MR_FLOW_CLOSING) confirm(flow);
}

// The target answers with SYN and ACK. On a flow past its opening that says that it has forgotten
// the connection and accepts a new one, if the client asked for that; a server that waits for data
// repeats its answer, too. False when a draining target must not have the new one.
bool Forwarder::accept_again(mr_flow_record& flow) noexcept {
  if (flow.state == MR_FLOW_SYN || (flow.flags & MR_FLOW_SYN_AGAIN) == 0) return true;
  const mr_target* target = target_of(flow);
  if (target != nullptr && (target->flags & MR_TARGET_DRAINING) != 0) return false;
  take_confirmation(flow);
  set_state(flow, MR_FLOW_SYN);
  clear(flow, kFinFlags | kResetFlags | MR_FLOW_SYN_AGAIN);
  return true;
}

// The flow of the packet's client whose target sent it, or MR_RECORD_NONE.
std::uint32_t Forwarder::find_from_target(const Work& work) noexcept {
  const std::uint32_t first =
      flows_.find(work.hash, destination_key(work.parsed),
                  [&](const mr_flow_record& flow) { return is_reply_of(flow, work.parsed); });
  if (first == MR_RECORD_NONE) return first;
  return (flows_.record(first).flags & MR_FLOW_SHARED) == 0 ? first : best_of_shared(work);
}

// A client may use one port of its own through several listeners that lead to one target: the
// target's packets then fit several flows. A connection that is accepted is the one that opens,
// and what was there before is over. Else the flow that lives counts, then the one that the client
// used last.
std::uint32_t Forwarder::best_of_shared(const Work& work) noexcept {
  const bool opens = (work.parsed.tcp_flags & tcp::kSyn) != 0;
  std::array<std::uint32_t, kSharedMax> found{};
  std::uint32_t count = 0;
  (void)flows_.find(work.hash, destination_key(work.parsed), [&](const mr_flow_record& flow) {
    if (count < kSharedMax && is_reply_of(flow, work.parsed)) {
      found[count++] = flows_.index_of(flow);
    }
    return false;  // go on to the last one
  });
  std::uint32_t best = found[0];
  for (const std::uint32_t index : std::span(found).first(count)) {
    const mr_flow_record& flow = flows_.record(index);
    const mr_flow_record& so_far = flows_.record(best);
    const std::uint32_t rank = rank_of(flow, opens);
    const std::uint32_t best_rank = rank_of(so_far, opens);
    const bool is_later =
        static_cast<std::int32_t>(flow.last_seen_tick - so_far.last_seen_tick) > 0;
    if (rank > best_rank || (rank == best_rank && is_later)) best = index;
  }
  if (!opens || flows_.record(best).state != MR_FLOW_SYN) return best;
  for (const std::uint32_t index : std::span(found).first(count)) {
    if (flows_.record(index).state != MR_FLOW_SYN) forget_flow(flows_.record(index));
  }
  return best;
}

// Higher is better.
std::uint32_t Forwarder::rank_of(const mr_flow_record& flow, bool opens) const noexcept {
  const mr_listener* listener = listener_of(flow);
  const std::uint32_t asked = (flow.flags & MR_FLOW_ASKED) != 0 ? 1 : 0;
  const bool is_late =
      listener == nullptr || flow.state == MR_FLOW_EXPIRED || is_idle(flow, *listener);
  if (is_late) return asked;
  if (flow.state == MR_FLOW_CLOSED) return 2 + asked;
  if (flow.state == MR_FLOW_SYN) return (opens ? 10u : 4u) + asked;
  // A target has one connection with that client's port: the one that it was seen to take part in.
  // Any single packet, its numbers wrong, may have begun the other. Datagrams belong to none.
  const bool is_sure = is_confirmed(flow) || flow.protocol == MR_PROTOCOL_UDP;
  return (is_sure ? 8u : 6u) + asked;
}

// Of the flows of one client port to the target, address and port, the client has just used this
// one: answers are its own. Marks them all, so that known flows without a double need not ask.
void Forwarder::claim_replies(std::uint64_t hash, mr_flow_record& flow,
                              const mr_target& target) noexcept {
  bool is_shared = false;
  (void)flows_.find(hash, ClientKey::of(flow), [&](const mr_flow_record& other) {
    const mr_target* other_target = target_of(other);
    if (&other == &flow || other_target == nullptr || other_target->port_be != target.port_be ||
        words_of(other_target->addr) != words_of(target.addr)) {
      return false;
    }
    mr_flow_record& sibling = flows_.record(flows_.index_of(other));
    clear(sibling, MR_FLOW_ASKED);
    sibling.flags |= MR_FLOW_SHARED;
    is_shared = true;
    return false;
  });
  constexpr std::uint16_t kBoth = MR_FLOW_SHARED | MR_FLOW_ASKED;
  clear(flow, kBoth);
  if (is_shared) flow.flags |= kBoth;
}

// `prev` does not know the orphan that it was sent on trust: the flow was opened after the slot's
// change. Its RST goes nowhere and the flow moves to `cur`, where the client's retransmission finds
// its connection. True when that was done.
bool Forwarder::swallow_orphan_reset(std::uint64_t hash, mr_flow_record& flow,
                                     const mr_listener& listener) noexcept {
  if ((flow.flags & MR_FLOW_ORPHAN_PREV) == 0 || (flow.flags & MR_FLOW_REPLY_SEEN) != 0) {
    return false;
  }
  const std::uint32_t target_slot = current_target(ClientKey::of(flow), listener);
  if (target_slot == MR_TABLE_EMPTY || target_slot == flow.target_slot) return false;
  clear(flow, MR_FLOW_ORPHAN_PREV);
  if (is_active(flow)) adjust_active(flow, -1);
  bind_flow(flow, listener, target_slot);
  claim_replies(hash, flow, config_.targets[target_slot]);
  count(MR_COUNTER_ORPHANS_MOVED);
  return true;
}

// From a target to a client, but no flow. It is a reply only if the client may have a flow that
// found no room, or that another node has; else a host talks to the target past the VIP, or the
// target asks somebody.
Verdict Forwarder::forward_untracked_reply(Packet& packet, Work& work) noexcept {
  const Parsed& parsed = work.parsed;
  if (is_martian(parsed)) return refuse_martian(packet, parsed);
  if (config_.image == nullptr) return punt(packet);
  if (is_vip(parsed.destination)) return drop(MR_DROP_NO_LISTENER);
  const mr_table_entry* entry =
      find_entry(config_.reverse_table, parsed.source, parsed.source_port_be(), parsed.protocol);
  const bool opens = (parsed.tcp_flags & (tcp::kSyn | tcp::kAck)) == tcp::kSyn;
  if (entry == nullptr || opens || is_local(parsed.destination)) return punt(packet);
  const mr_target& target = config_.targets[entry->slot];
  const bool may_be_known_elsewhere = (target.flags & MR_TARGET_ASYMMETRIC) != 0;
  if (!may_be_known_elsewhere && !no_room_.has(work.hash)) return punt(packet);
  if (entry->next == MR_TABLE_EMPTY) return drop(MR_DROP_NO_FLOW);
  const mr_listener& listener = config_.listeners[entry->next];
  if (listener.id == 0 || target.id == 0) return punt(packet);
  const NatDeltas deltas = nat_deltas(listener, target);
  mr_flow_record passing{};
  passing.ip_checksum_delta = deltas.ip;
  passing.l4_checksum_delta = deltas.l4;
  count(MR_COUNTER_UNTRACKED_PACKETS);
  return send_to_client(packet, parsed, passing, listener);
}

}  // namespace millrace::core
