// SPDX-License-Identifier: Apache-2.0
//
// The life of a flow: its first packet, what TCP says along the way, its end. HOT (once per flow or
// per state change), except the sweep, which runs between bursts.
//
// architecture.md section 4 in code: a SYN and any UDP packet go to `cur`; a packet in the middle
// of a connection that this worker has never seen goes to `prev` while its slot has one. A table
// that is full or a budget that is spent refuses nothing: the packet goes by lookup table alone.
#include <algorithm>
#include <optional>

#include "dataplane/core/counters.h"
#include "dataplane/core/forwarder.h"
#include "dataplane/core/rewrite.h"

namespace millrace::core {
namespace {

constexpr std::uint8_t kNotPlain = tcp::kSyn | tcp::kFin | tcp::kRst;

// Unconfirmed flows may fill three quarters of the table: the last quarter is for those that have
// been answered.
constexpr std::uint32_t unconfirmed_max(std::uint32_t capacity) { return capacity - capacity / 4; }

// Above this fill, flows that only wait to answer late packets with a RST make room at once.
constexpr std::uint32_t expired_kept_below(std::uint32_t capacity) {
  return capacity - capacity / 8;
}

mr_flow_state first_state(std::uint8_t protocol, std::uint8_t tcp_flags) {
  if (protocol == ip_protocol::kUdp) return MR_FLOW_UDP;
  if ((tcp_flags & tcp::kFin) != 0) return MR_FLOW_CLOSING;
  return (tcp_flags & tcp::kSyn) != 0 ? MR_FLOW_SYN : MR_FLOW_ESTABLISHED;
}

bool is_unconfirmed(std::uint32_t state) { return state == MR_FLOW_SYN || state == MR_FLOW_UDP; }
bool is_unconfirmed(const mr_flow_record& flow) { return is_unconfirmed(flow.state); }

bool is_active(const mr_flow_record& flow) {
  return flow.state != MR_FLOW_FREE && flow.state != MR_FLOW_EXPIRED;
}

}  // namespace

struct Forwarder::Choice {
  std::uint32_t target_slot;
  bool is_orphan;  // went to `prev` on trust
};

std::uint64_t Forwarder::selection_hash_of(const ClientKey& client,
                                           const mr_listener& listener) const noexcept {
  const mr_flow_tuple tuple = {.client_addr = addr_of(client.addr),
                               .vip_addr = listener.vip_addr,
                               .client_port_be = static_cast<std::uint16_t>(client.port_protocol),
                               .vip_port_be = listener.port_be,
                               .protocol = listener.protocol,
                               .reserved = {}};
  return mr_selection_hash(&config_.image->selection_key, &tuple);
}

// For a packet whose flow is not in its first bucket, and so hardly in the table at all. A burst of
// new flows waits for their slots of a lookup table together.
void Forwarder::foresee_flow(Work& work) const noexcept {
  const mr_target_group& group = config_.groups[work.listener->group_slot];
  work.selection_hash = selection_hash_of(source_key(work.parsed), *work.listener);
  if (group.table_offset == 0) return;
  const std::uint32_t slot = mr_slot_of_hash(work.selection_hash, group.table_slots);
  __builtin_prefetch(&config_.lookup_table(group)[slot]);
}

// Returns target_slot MR_TABLE_EMPTY when the group has no target.
Forwarder::Choice Forwarder::choose_target(const mr_listener& listener,
                                           std::uint64_t selection_hash,
                                           bool may_be_orphan) const noexcept {
  const mr_target_group& group = config_.groups[listener.group_slot];
  if (group.table_offset == 0) return {.target_slot = MR_TABLE_EMPTY, .is_orphan = false};
  const mr_lookup_slot& slot =
      config_.lookup_table(group)[mr_slot_of_hash(selection_hash, group.table_slots)];
  const auto members = config_.members(group);
  if (may_be_orphan && slot.prev != MR_MEMBER_NONE) {
    const std::uint32_t prev = members[slot.prev];
    if ((config_.targets[prev].flags & MR_TARGET_KEEPS_FLOWS) != 0) {
      return {.target_slot = prev, .is_orphan = true};
    }
  }
  return {.target_slot = members[slot.cur], .is_orphan = false};
}

// The first packet of a flow that this worker sees.
Verdict Forwarder::start_flow(Packet& packet, Work& work) noexcept {
  const mr_listener& listener = *work.listener;
  const Parsed& parsed = work.parsed;
  if (is_martian(parsed) || is_vip(parsed.source)) return drop(MR_DROP_MARTIAN);
  const std::uint32_t listener_slot = slot_of(listener);
  const bool is_tcp = parsed.protocol == ip_protocol::kTcp;
  const bool is_syn = (parsed.tcp_flags & tcp::kSyn) != 0;
  if (work.candidate != FlowTable::no_flow() || work.selection_hash == kNotForeseen) {
    foresee_flow(work);
  }
  const Choice choice = choose_target(listener, work.selection_hash, is_tcp && !is_syn);
  if (choice.target_slot == MR_TABLE_EMPTY) {
    if (listener_slot < counters_.listeners.size()) {
      add(counters_.listeners[listener_slot].rejected_flows, 1);
    }
    return drop(MR_DROP_NO_TARGET);
  }
  const mr_target& target = config_.targets[choice.target_slot];
  const bool is_nat = target.forwarding == MR_FORWARDING_NAT;
  // With the client's address kept, a target that is its own client would hear from itself.
  if (is_nat && words_of(target.addr) == parsed.source) return drop(MR_DROP_MARTIAN);
  const bool is_resolved = (target.next_hop.flags & MR_NEXT_HOP_RESOLVED) != 0;
  // A RST ends what this worker does not know: pass it on, remember nothing.
  const bool is_worth_tracking = (parsed.tcp_flags & tcp::kRst) == 0 && is_resolved;
  const mr_flow_state state = first_state(parsed.protocol, parsed.tcp_flags);
  std::uint32_t index = MR_RECORD_NONE;
  if (is_worth_tracking && may_insert(state)) {
    index = flows_.insert(work.hash, source_key(parsed), state);
  }
  if (index == MR_RECORD_NONE) {
    if (is_worth_tracking) count(MR_COUNTER_INSERT_REFUSED);
    if (is_resolved) count(MR_COUNTER_UNTRACKED_PACKETS);
    mr_flow_record passing{};
    const NatDeltas deltas = nat_deltas(listener, target);
    passing.target_slot = choice.target_slot;
    passing.ip_checksum_delta = deltas.ip;
    passing.l4_checksum_delta = deltas.l4;
    if (choice.target_slot < counters_.targets.size()) {
      add(counters_.targets[choice.target_slot].packets, 1);
      add(counters_.targets[choice.target_slot].bytes, parsed.ip_bytes);
    }
    return send_to_target(packet, parsed, passing, target);
  }
  mr_flow_record& flow = flows_.record(index);
  flow.listener_slot = listener_slot;
  flow.listener_id = listener.id;
  flow.last_hop = flows_.learn_last_hop(packet.data + eth::kSource, packet.nic);
  if (choice.is_orphan) {
    flow.flags |= MR_FLOW_ORPHAN_PREV;
    count(MR_COUNTER_ORPHANS_TO_PREV);
  }
  bind_flow(flow, listener, choice.target_slot);
  unconfirmed_ += is_unconfirmed(flow);
  count(MR_COUNTER_FLOW_INSERTED);
  if (listener_slot < counters_.listeners.size()) {
    mr_listener_stats& stats = counters_.listeners[listener_slot];
    add(stats.new_flows, 1);
    const bool fails_open = (config_.groups[listener.group_slot].flags & MR_GROUP_FAIL_OPEN) != 0;
    if (fails_open) add(stats.unhealthy_routing_flows, 1);
  }
  account(flow, parsed);
  return send_to_target(packet, parsed, flow, target);
}

// Points a flow, new or moving, at a target.
void Forwarder::bind_flow(mr_flow_record& flow, const mr_listener& listener,
                          std::uint32_t target_slot) noexcept {
  const mr_target& target = config_.targets[target_slot];
  const NatDeltas deltas = nat_deltas(listener, target);
  flow.ip_checksum_delta = deltas.ip;
  flow.l4_checksum_delta = deltas.l4;
  flow.target_slot = target_slot;
  flow.target_id = target.id;
  adjust_active(flow, 1);
  if (target_slot < counters_.targets.size()) add(counters_.targets[target_slot].new_flows, 1);
}

// A flood of SYNs leaves the last quarter to connections that go on: what follows a SYN that found
// no room is entered, so that it stays with its target.
bool Forwarder::may_insert(mr_flow_state state) noexcept {
  const bool has_room = !is_unconfirmed(state) || unconfirmed_ < unconfirmed_max(flows_.capacity());
  return has_room && inserts_.take();
}

// A packet to a VIP whose flow is known but not simply going on: opening, closing, idle for too
// long, or without a usable target.
Verdict Forwarder::revisit_flow(Packet& packet, Work& work, mr_flow_record& flow) noexcept {
  const Parsed& parsed = work.parsed;
  const bool is_tcp = parsed.protocol == ip_protocol::kTcp;
  const bool is_syn = (parsed.tcp_flags & tcp::kSyn) != 0;
  if (flow.state != MR_FLOW_EXPIRED && is_idle(flow, *work.listener)) expire_flow(flow);

  const bool is_over = flow.state == MR_FLOW_EXPIRED || flow.state == MR_FLOW_CLOSED ||
                       flow.state == MR_FLOW_CLOSING;
  if ((is_over && is_syn) || (!is_tcp && flow.state == MR_FLOW_EXPIRED)) {
    // The client's port is used again: a new flow, and a new choice.
    forget_flow(flow);
    return start_flow(packet, work);
  }
  if (flow.state == MR_FLOW_EXPIRED) return reset(packet, parsed, flow.listener_slot);

  const mr_target* target = target_of(flow);
  if (target == nullptr || (target->flags & MR_TARGET_KEEPS_FLOWS) == 0) {
    const bool resets = target != nullptr && (target->flags & MR_TARGET_RESETS_FLOWS) != 0;
    if (is_tcp && resets && !is_syn) {
      expire_flow(flow);  // the other side gets its RST when it speaks
      return reset(packet, parsed, flow.listener_slot);
    }
    forget_flow(flow);
    return start_flow(packet, work);
  }
  ++burst_counts_.hits;
  if (is_tcp) track_tcp(flow, parsed.tcp_flags, true);
  account(flow, parsed);
  return send_to_target(packet, parsed, flow, *target);
}

// Follows TCP as far as timeouts need it (RFC 9293 section 3.3.2, seen from the middle). A RST is
// believed only provisionally: if its sender speaks on, somebody else had forged it (RFC 5961).
void Forwarder::track_tcp(mr_flow_record& flow, std::uint8_t tcp_flags, bool from_client) noexcept {
  if ((tcp_flags & tcp::kRst) != 0) {
    flow.flags |= from_client ? MR_FLOW_RST_CLIENT : MR_FLOW_RST_TARGET;
    count_reset(flow, from_client);
    set_state(flow, MR_FLOW_CLOSED);
    return;
  }
  if ((tcp_flags & tcp::kFin) != 0) {
    flow.flags |= from_client ? MR_FLOW_FIN_CLIENT : MR_FLOW_FIN_TARGET;
    constexpr std::uint16_t kBoth = MR_FLOW_FIN_CLIENT | MR_FLOW_FIN_TARGET;
    set_state(flow, (flow.flags & kBoth) == kBoth ? MR_FLOW_CLOSED : MR_FLOW_CLOSING);
    return;
  }
  if ((tcp_flags & kNotPlain) != 0) return;
  const std::uint16_t own_reset = from_client ? MR_FLOW_RST_CLIENT : MR_FLOW_RST_TARGET;
  if (flow.state == MR_FLOW_CLOSED && (flow.flags & own_reset) != 0) {
    flow.flags &= static_cast<std::uint16_t>(~own_reset);
    set_state(flow, MR_FLOW_ESTABLISHED);
    return;
  }
  // In dsr the replies go past the node: the client's own ACK has to do as confirmation.
  const bool sees_replies =
      config_.groups[listener_of(flow)->group_slot].forwarding == MR_FORWARDING_NAT;
  const bool is_confirmed = (flow.flags & MR_FLOW_REPLY_SEEN) != 0 || !sees_replies;
  if (flow.state == MR_FLOW_SYN && from_client && is_confirmed) {
    set_state(flow, MR_FLOW_ESTABLISHED);
  }
}

void Forwarder::set_state(mr_flow_record& flow, mr_flow_state state) noexcept {
  unconfirmed_ -= is_unconfirmed(flow);
  flow.state = static_cast<std::uint8_t>(state);
  unconfirmed_ += is_unconfirmed(flow);
}

void Forwarder::count_reset(const mr_flow_record& flow, bool from_client) noexcept {
  if (flow.listener_slot < counters_.listeners.size()) {
    mr_listener_stats& stats = counters_.listeners[flow.listener_slot];
    add(from_client ? stats.client_resets : stats.target_resets, 1);
  }
  if (!from_client && flow.target_slot < counters_.targets.size()) {
    add(counters_.targets[flow.target_slot].target_resets, 1);
  }
}

// A target that accepts a connection has no other of that address and port. When the flow in
// `index` is past that, the client came again from the same port through another listener that
// leads to the same target: what was there is over, and the flow that is opening gets the reply.
// Returns it.
std::uint32_t Forwarder::yield_to_opening(const Work& work, std::uint32_t index) noexcept {
  if (flows_.record(index).state == MR_FLOW_SYN) return index;
  const std::uint32_t opening =
      flows_.find(work.hash, destination_key(work.parsed), [&](const mr_flow_record& flow) {
        return flow.state == MR_FLOW_SYN && is_reply_of(flow, work.parsed);
      });
  if (opening == MR_RECORD_NONE) return index;
  forget_flow(flows_.record(index));
  return opening;
}

// `prev` does not know the orphan that it was sent on trust: the flow was opened after the slot's
// change. Its RST goes nowhere and the flow moves to `cur`, where the client's retransmission finds
// its connection. True when that was done.
bool Forwarder::swallow_orphan_reset(mr_flow_record& flow, const mr_listener& listener) noexcept {
  if ((flow.flags & MR_FLOW_ORPHAN_PREV) == 0 || (flow.flags & MR_FLOW_REPLY_SEEN) != 0) {
    return false;
  }
  const std::uint64_t selection_hash = selection_hash_of(ClientKey::of(flow), listener);
  const Choice choice = choose_target(listener, selection_hash, false);
  if (choice.target_slot == MR_TABLE_EMPTY || choice.target_slot == flow.target_slot) return false;
  flow.flags &= static_cast<std::uint16_t>(~MR_FLOW_ORPHAN_PREV);
  adjust_active(flow, -1);
  bind_flow(flow, listener, choice.target_slot);
  count(MR_COUNTER_ORPHANS_MOVED);
  return true;
}

// From a target to a client, but no flow: the table was full when it began, or it is none of ours.
// Translated when the target's listener is beyond doubt, since untracked flows work both ways.
Verdict Forwarder::forward_untracked_reply(Packet& packet, Work& work) noexcept {
  const Parsed& parsed = work.parsed;
  if (is_martian(parsed)) return refuse_martian(packet, parsed);
  if (config_.image == nullptr) return punt(packet);
  if (is_vip(parsed.destination)) return drop(MR_DROP_NO_LISTENER);
  const mr_table_entry* entry =
      find_entry(config_.reverse_table, parsed.source, parsed.source_port_be(), parsed.protocol);
  const bool opens = (parsed.tcp_flags & (tcp::kSyn | tcp::kAck)) == tcp::kSyn;
  if (entry == nullptr || entry->next == MR_TABLE_EMPTY || opens || is_local(parsed.destination)) {
    return punt(packet);
  }
  const mr_listener& listener = config_.listeners[entry->next];
  const mr_target& target = config_.targets[entry->slot];
  if (listener.id == 0 || target.id == 0) return punt(packet);
  const NatDeltas deltas = nat_deltas(listener, target);
  mr_flow_record passing{};
  passing.ip_checksum_delta = deltas.ip;
  passing.l4_checksum_delta = deltas.l4;
  count(MR_COUNTER_UNTRACKED_PACKETS);
  return send_to_client(packet, parsed, passing, listener);
}

void Forwarder::adjust_active(const mr_flow_record& flow, std::int32_t by) noexcept {
  const auto amount = static_cast<std::uint64_t>(static_cast<std::int64_t>(by));
  add(counters_.worker->flows_active, amount);
  if (flow.target_slot < counters_.targets.size()) {
    add(counters_.targets[flow.target_slot].active_flows, amount);
  }
}

void Forwarder::fold_counts(mr_flow_record& flow) noexcept {
  if (flow.packets == 0) return;
  if (flow.listener_slot < counters_.listeners.size()) {
    add(counters_.listeners[flow.listener_slot].packets, flow.packets);
    add(counters_.listeners[flow.listener_slot].bytes, flow.bytes);
  }
  if (flow.target_slot < counters_.targets.size()) {
    add(counters_.targets[flow.target_slot].packets, flow.packets);
    add(counters_.targets[flow.target_slot].bytes, flow.bytes);
  }
  flow.packets = 0;
  flow.bytes = 0;
}

// Idle for too long. The record stays for a while so that late packets are told (MR_FLOW_EXPIRED).
void Forwarder::expire_flow(mr_flow_record& flow) noexcept {
  fold_counts(flow);
  adjust_active(flow, -1);
  set_state(flow, MR_FLOW_EXPIRED);
  flow.last_seen_tick = tick_;
  count(MR_COUNTER_FLOW_EXPIRED);
}

void Forwarder::forget_flow(mr_flow_record& flow) noexcept {
  fold_counts(flow);
  if (is_active(flow)) adjust_active(flow, -1);
  unconfirmed_ -= is_unconfirmed(flow);
  flows_.remove(flow);
  count(MR_COUNTER_FLOW_REMOVED);
}

void Forwarder::sweep_record(std::uint32_t index) noexcept {
  mr_flow_record& flow = flows_.record(index);
  if (flow.state == MR_FLOW_FREE) return;
  fold_counts(flow);
  const mr_listener* listener = listener_of(flow);
  if (listener == nullptr || target_of(flow) == nullptr) return forget_flow(flow);
  if (flow.state == MR_FLOW_EXPIRED && flows_.used() > expired_kept_below(flows_.capacity())) {
    return forget_flow(flow);
  }
  if (!is_idle(flow, *listener)) return;
  const bool is_worth_a_reset = flow.state == MR_FLOW_ESTABLISHED || flow.state == MR_FLOW_CLOSING;
  if (is_worth_a_reset) return expire_flow(flow);
  if (flow.state != MR_FLOW_EXPIRED) count(MR_COUNTER_FLOW_EXPIRED);
  forget_flow(flow);
}

void Forwarder::sweep(std::uint64_t now_ns, std::uint32_t record_count) noexcept {
  if (config_.image == nullptr) return;  // an inherited table waits for the config it belongs to
  tick_ = static_cast<std::uint32_t>(now_ns >> MR_TICK_SHIFT);
  const std::uint32_t high = flows_.record_high();
  for (std::uint32_t i = 0; i < std::min(record_count, high); ++i) {
    if (sweep_next_ >= high) sweep_next_ = 0;
    sweep_record(sweep_next_++);
  }
}

void Forwarder::recount_flows() noexcept {
  set(counters_.worker->flows_active, 0);
  for (mr_target_stats& stats : counters_.targets) set(stats.active_flows, 0);
  unconfirmed_ = 0;
  for (std::uint32_t index = 0; index < flows_.record_high(); ++index) {
    const mr_flow_record& flow = flows_.record(index);
    unconfirmed_ += is_unconfirmed(flow);
    if (is_active(flow)) adjust_active(flow, 1);
  }
}

}  // namespace millrace::core
