// SPDX-License-Identifier: Apache-2.0
//
// A flow's first packet, the room for it, and its end. HOT (once per flow), except the sweep, which
// runs between bursts.
//
// A SYN and any UDP packet go to `cur`. A packet in the middle of a connection that this worker has
// never seen goes to `prev` while its slot has one. A full table gives up flows that are over or
// new, then plausible ones (rules/flow_rule.h). If it finds none, or a budget is spent, the packet
// is still forwarded, by the lookup table alone.
#include <algorithm>
#include <cassert>

#include "dataplane/core/counters.h"
#include "dataplane/core/forwarder.h"
#include "dataplane/core/invariant.h"
#include "dataplane/core/mss.h"
#include "dataplane/core/rewrite.h"
#include "dataplane/rules/address_rule.h"
#include "dataplane/rules/choice_rule.h"
#include "dataplane/rules/forwarding_rule.h"
#include "dataplane/rules/step_rule.h"

namespace millrace::core {
namespace {

// How many plausible flows a full table passes over in search of one that is worth less.
constexpr std::uint32_t kGiveUpLooks = 16;

// No more flows than these are confirmed, because a confirmed flow is not given up. In the rest of
// the table flows live until they are confirmed.
constexpr std::uint32_t confirmed_max(std::uint32_t capacity) { return capacity - capacity / 16; }

// Above this fill, flows that only wait to answer late packets with a RST make room at once.
constexpr std::uint32_t expired_kept_below(std::uint32_t capacity) {
  return capacity - capacity / 8;
}

}  // namespace

struct Forwarder::Choice {
  std::uint32_t target_slot;
  bool is_orphan;  // went to `prev` on trust
};

std::uint64_t Forwarder::selection_hash_of(const ClientKey& client, const mr_listener& listener,
                                           std::uint16_t vip_port_be) const noexcept {
  const mr_addr client_addr = addr_of(client.addr);
  const mr_flow_tuple tuple = mr_selection_tuple(
      &client_addr, static_cast<std::uint16_t>(client.port_protocol), &listener, vip_port_be);
  return mr_selection_hash(&config_.image->selection_key, &tuple);
}

// For a packet whose flow is not in its first bucket, and so very likely not in the table at all.
// The new flows of a burst then wait together for their slots of a lookup table.
void Forwarder::foresee_flow(Work& work) const noexcept {
  const mr_target_group& group = config_.groups[work.listener->group_slot];
  work.selection_hash =
      selection_hash_of(source_key(work.parsed), *work.listener, work.listener->port_be);
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
    if (mr_takes_orphan(config_.targets[prev].flags)) {
      return {.target_slot = prev, .is_orphan = true};
    }
  }
  return {.target_slot = members[slot.cur], .is_orphan = false};
}

// The target of a flow that began now. With `may_be_orphan`, the target of a flow that another node
// may have. MR_TABLE_EMPTY when the group has no target.
std::uint32_t Forwarder::target_by_table(const ClientKey& client, const mr_listener& listener,
                                         std::uint16_t vip_port_be,
                                         bool may_be_orphan) const noexcept {
  return choose_target(listener, selection_hash_of(client, listener, vip_port_be), may_be_orphan)
      .target_slot;
}

mr_source_fault Forwarder::source_fault_of(const Parsed& parsed) const noexcept {
  // The lookups come first, so that nothing has to be kept in registers while they run.
  const bool is_vip_source = is_vip(parsed.source);
  const bool is_node = is_local(parsed.source);
  return mr_source_fault_of(parsed.source.low, is_vip_source, is_node, is_martian(parsed));
}

// The first packet of a flow that this worker sees.
Verdict Forwarder::start_flow(Packet& packet, Work& work) noexcept {
  const mr_listener& listener = *work.listener;
  const Parsed& parsed = work.parsed;
  if (is_no_client(parsed)) return drop(MR_DROP_MARTIAN);
  const std::uint32_t listener_slot = listener.slot;
  if (work.candidate != FlowTable::no_flow() || work.selection_hash == kNotForeseen) {
    foresee_flow(work);
  }
  const Choice choice = choose_target(listener, work.selection_hash,
                                      mr_may_be_orphan(parsed.protocol, parsed.tcp_flags));
  if (choice.target_slot == MR_TABLE_EMPTY) {
    if (listener_slot < counters_.listeners.size()) {
      add(counters_.listeners[listener_slot].rejected_flows, 1);
    }
    return drop(MR_DROP_NO_TARGET);
  }
  const mr_target& target = config_.targets[choice.target_slot];
  if (mr_refuses_own_client(target.forwarding) && words_of(target.addr) == parsed.source) {
    return drop(MR_DROP_MARTIAN);
  }
  const bool has_replies = mr_sees_replies(target.forwarding);
  const bool may_share = has_replies && flows_.may_have_flow(work.hash);
  const std::uint32_t state = mr_first_state(parsed.protocol, parsed.tcp_flags, has_replies);
  const std::uint32_t index = mr_is_worth_a_record(parsed.tcp_flags, target.next_hop.flags)
                                  ? insert_flow(work, state, has_replies)
                                  : MR_RECORD_NONE;
  if (index == MR_RECORD_NONE) return forward_untracked(packet, work, choice.target_slot);
  mr_flow_record& flow = flows_.record(index);
  flow.listener_slot = listener.slot;
  flow.vip_port_be = listener.asked_port_be;
  flow.listener_id = listener.id;
  flow.last_hop = flows_.last_hops().learn(packet.data + MR_ETH_SOURCE, packet.nic);
  flow.flags = static_cast<std::uint16_t>(mr_first_flags(state, choice.is_orphan));
  if (choice.is_orphan) count(MR_COUNTER_ORPHANS_TO_PREV);
  bind_flow(flow, listener, choice.target_slot);
  if (may_share) [[unlikely]]
    claim_replies(work.hash, flow, target);
  count(MR_COUNTER_FLOW_INSERTED);
  if (listener_slot < counters_.listeners.size()) {
    mr_listener_stats& stats = counters_.listeners[listener_slot];
    add(stats.new_flows, 1);
    const bool fails_open = (config_.groups[listener.group_slot].flags & MR_GROUP_FAIL_OPEN) != 0;
    if (fails_open) add(stats.unhealthy_routing_flows, 1);
  }
  account(flow, parsed);
  clamp_mss_of_client(packet, parsed, target);
  return send_to_target(packet, parsed, flow, target);
}

// A record for the packet's flow, or MR_RECORD_NONE. With `has_replies` the table then remembers
// for the flow's replies that it found no room.
std::uint32_t Forwarder::insert_flow(const Work& work, std::uint32_t state,
                                     bool has_replies) noexcept {
  const ClientKey client = source_key(work.parsed);
  const bool has_room = inserts_.take() && (flows_.used() < flows_.capacity() || make_room());
  std::uint32_t index = MR_RECORD_NONE;
  if (has_room) index = flows_.insert(work.hash, client, state);
  if (has_room && index == MR_RECORD_NONE && clear_way(work.hash)) [[unlikely]] {
    index = flows_.insert(work.hash, client, state);
  }
  if (index != MR_RECORD_NONE) [[likely]] {
    unconfirmed_.insert(index);
    return index;
  }
  count(MR_COUNTER_INSERT_REFUSED);
  if (has_replies) no_room_.add(work.hash);
  return MR_RECORD_NONE;
}

// Forwards the packet by the lookup table alone.
Verdict Forwarder::forward_untracked(Packet& packet, const Work& work,
                                     std::uint32_t target_slot) noexcept {
  const mr_target& target = config_.targets[target_slot];
  if ((target.next_hop.flags & MR_NEXT_HOP_RESOLVED) != 0) count(MR_COUNTER_UNTRACKED_PACKETS);
  mr_flow_record passing{};
  const mr_nat_deltas deltas = nat_deltas(*work.listener, work.listener->port_be, target);
  passing.target_slot = target_slot;
  passing.ip_checksum_delta = deltas.ip;
  passing.l4_checksum_delta = deltas.l4;
  if (target_slot < counters_.targets.size()) {
    add(counters_.targets[target_slot].packets, 1);
    add(counters_.targets[target_slot].bytes, work.parsed.ip_bytes);
  }
  clamp_mss_of_client(packet, work.parsed, target);
  return send_to_target(packet, work.parsed, passing, target);
}

// Gives up a record of a full table. The search goes round the table and goes on where it ended
// last. New flows take the places that it frees, so the oldest of the new flows goes first. False
// when all flows are confirmed.
bool Forwarder::make_room() noexcept {
  mr_flow_record* plausible = nullptr;
  for (std::uint32_t look = 0; look < kGiveUpLooks; ++look) {
    std::uint32_t index = unconfirmed_.first_from(give_up_next_);
    if (index == MR_RECORD_NONE) index = unconfirmed_.first_from(0);
    if (index == MR_RECORD_NONE) return false;
    give_up_next_ = index + 1;
    mr_flow_record& flow = flows_.record(index);
    if (worth_of(flow) <= MR_WORTH_NEW) {
      give_up_flow(flow);
      return true;
    }
    if (plausible == nullptr) plausible = &flow;
  }
  give_up_flow(*plausible);
  return true;
}

// Gives up a record in the buckets of `hash`, which are both full. That happens to one flow in 400
// when the table is full. False when all flows there are confirmed.
bool Forwarder::clear_way(std::uint64_t hash) noexcept {
  const auto find_worth = [&](mr_flow_worth at_most) {
    return flows_.find_in_the_way(
        hash, [at_most](const mr_flow_record& other) { return worth_of(other) <= at_most; });
  };
  mr_flow_record* flow = find_worth(MR_WORTH_NEW);
  if (flow == nullptr) flow = find_worth(MR_WORTH_PLAUSIBLE);
  if (flow != nullptr) give_up_flow(*flow);
  return flow != nullptr;
}

void Forwarder::give_up_flow(mr_flow_record& flow) noexcept {
  const mr_target* target = target_of(flow);
  const bool has_replies = target != nullptr && mr_sees_replies(target->forwarding);
  if (has_replies && mr_may_go_on(flow.state, flow.flags)) {
    no_room_.add(flows_.hash(ClientKey::of(flow)));
  }
  forget_flow(flow);
  count(MR_COUNTER_FLOW_GIVEN_UP);
}

// Points a flow, new or moving, at a target.
void Forwarder::bind_flow(mr_flow_record& flow, const mr_listener& listener,
                          std::uint32_t target_slot) noexcept {
  const mr_target& target = config_.targets[target_slot];
  const std::uint16_t vip_port_be = mr_vip_port_be_of(flow.vip_port_be, listener.port_be);
  const mr_nat_deltas deltas = nat_deltas(listener, vip_port_be, target);
  flow.ip_checksum_delta = deltas.ip;
  flow.l4_checksum_delta = deltas.l4;
  flow.target_slot = target_slot;
  flow.target_id = target.id;
  clear_flags(flow, MR_FLOW_NO_PORT);
  if (target.port_be == 0) add_flags(flow, MR_FLOW_NO_PORT);
  if (is_active(flow)) adjust_active(flow, 1);
  if (target_slot < counters_.targets.size()) add(counters_.targets[target_slot].new_flows, 1);
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
  // Only if the ids still match: the slot's next owner has not had these packets.
  if (flow.listener_slot < counters_.listeners.size() && listener_of(flow) != nullptr) {
    add(counters_.listeners[flow.listener_slot].packets, flow.packets);
    add(counters_.listeners[flow.listener_slot].bytes, flow.bytes);
  }
  if (flow.target_slot < counters_.targets.size() && target_of(flow) != nullptr) {
    add(counters_.targets[flow.target_slot].packets, flow.packets);
    add(counters_.targets[flow.target_slot].bytes, flow.bytes);
  }
  flow.packets = 0;
  flow.bytes = 0;
}

// A flow that is over is no longer protected, and does not count as a flow of its target.
void Forwarder::set_state(mr_flow_record& flow, std::uint32_t state) noexcept {
  const bool was_active = is_active(flow);
  flow.state = static_cast<std::uint8_t>(state);
  if (is_active(flow) != was_active) adjust_active(flow, was_active ? -1 : 1);
  if (is_over(flow)) take_confirmation(flow);
}

void Forwarder::confirm(mr_flow_record& flow) noexcept {
  if (is_confirmed(flow) || confirmed_ >= confirmed_max(flows_.capacity())) return;
  flow.flags |= MR_FLOW_CONFIRMED;
  ++confirmed_;
  unconfirmed_.erase(flows_.index_of(flow));
}

void Forwarder::take_confirmation(mr_flow_record& flow) noexcept {
  if (!is_confirmed(flow)) return;
  flow.flags &= static_cast<std::uint16_t>(~MR_FLOW_CONFIRMED);
  --confirmed_;
  unconfirmed_.insert(flows_.index_of(flow));
}

// The client spoke in one more round of the sweep.
void Forwarder::note_round(mr_flow_record& flow) noexcept {
  const std::uint32_t flags = mr_flags_of_round(flow.state, flow.flags);
  add_flags(flow, flags);
  if ((flags & MR_FLOW_PLAUSIBLE) != 0) set_state(flow, mr_plausible_state(flow.state));
}

// A flow that was over already does not count as one that ended because it was idle.
void Forwarder::count_expiry(const mr_flow_record& flow) noexcept {
  if (!is_over(flow)) count(MR_COUNTER_FLOW_EXPIRED);
}

// The flow was idle for too long. Its record stays for a while, so that late packets are answered
// (MR_FLOW_EXPIRED).
void Forwarder::expire_flow(mr_flow_record& flow) noexcept {
  fold_counts(flow);
  count_expiry(flow);
  set_state(flow, MR_FLOW_EXPIRED);
  clear_flags(flow, MR_FLOW_OF_ITS_LIFE);
  flow.last_seen_tick = tick_;
}

void Forwarder::forget_flow(mr_flow_record& flow) noexcept {
  fold_counts(flow);
  if (is_active(flow)) adjust_active(flow, -1);
  take_confirmation(flow);
  unconfirmed_.erase(flows_.index_of(flow));
  flows_.remove(flow);
  count(MR_COUNTER_FLOW_REMOVED);
}

void Forwarder::sweep_record(std::uint32_t index) noexcept {
  mr_flow_record& flow = flows_.record(index);
  if (flow.state == MR_FLOW_FREE) return;
  flows_.last_hops().keep(flow.last_hop);
  if (flow.packets != 0) note_round(flow);
  fold_counts(flow);
  const mr_listener* listener = listener_of(flow);
  const bool is_orphaned = listener == nullptr || target_of(flow) == nullptr;
  const bool is_idle_now = !is_orphaned && is_idle(flow, *listener);
  const bool is_in_the_way =
      flow.state == MR_FLOW_EXPIRED && flows_.used() > expired_kept_below(flows_.capacity());
  const mr_sweep what = mr_sweep_of(flow.state, is_orphaned || is_in_the_way, is_idle_now);
  if (what == MR_SWEEP_KEEP) return;
  if (what == MR_SWEEP_EXPIRE) return expire_flow(flow);
  if (is_idle_now) count_expiry(flow);
  forget_flow(flow);
}

void Forwarder::sweep(std::uint64_t now_ns, std::uint32_t record_count) noexcept {
  if (config_.image == nullptr) return;  // an inherited table waits for the config it belongs to
  tick_ = static_cast<std::uint32_t>(now_ns >> MR_TICK_SHIFT);
  const std::uint32_t high = flows_.record_high();
  no_room_.age(tick_);
  for (std::uint32_t i = 0; i < std::min(record_count, high); ++i) {
    if (sweep_next_ >= high) {
      sweep_next_ = 0;
      flows_.last_hops().forget_unused();
      assert(!kChecksInvariants || flows_.inconsistency() == nullptr);
    }
    sweep_record(sweep_next_++);
  }
}

void Forwarder::recount_flows() noexcept {
  set(counters_.worker->flows_active, 0);
  for (mr_target_stats& stats : counters_.targets) set(stats.active_flows, 0);
  confirmed_ = 0;
  unconfirmed_ = RecordSet(flows_.capacity());
  for (std::uint32_t index = 0; index < flows_.record_high(); ++index) {
    const mr_flow_record& flow = flows_.record(index);
    if (flow.state == MR_FLOW_FREE) continue;
    confirmed_ += is_confirmed(flow);
    if (!is_confirmed(flow)) unconfirmed_.insert(index);
    if (is_active(flow)) adjust_active(flow, 1);
  }
}

}  // namespace millrace::core
