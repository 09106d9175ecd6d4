// SPDX-License-Identifier: Apache-2.0
//
// Packets towards clients whose flow is in doubt. It does not simply go on, or there are several
// flows that it could be, or there is none. HOT (a few packets of each flow).
#include <array>

#include "dataplane/core/counters.h"
#include "dataplane/core/forwarder.h"
#include "dataplane/core/mss.h"
#include "dataplane/core/rewrite.h"
#include "dataplane/rules/known_rule.h"
#include "dataplane/rules/step_rule.h"

namespace millrace::core {
namespace {

// The most flows that one client port can have to one target, address and port: two buckets hold no
// more.
constexpr std::uint32_t kSharedMax = 2 * MR_BUCKET_WAYS;

}  // namespace

Verdict Forwarder::revisit_reply(Packet& packet, Work& work) noexcept {
  const Parsed& parsed = work.parsed;
  const std::uint32_t index = find_from_target(work);
  if (index == MR_RECORD_NONE) return forward_untracked_reply(packet, work);
  if (parsed.source == parsed.destination) return refuse_martian(packet, parsed);
  mr_flow_record& flow = flows_.record(index);
  const mr_listener* listener = listener_of(flow);
  if (listener == nullptr) return forward_untracked_reply(packet, work);
  const bool is_tcp = parsed.protocol == MR_PROTOCOL_TCP;
  if (flow.state == MR_FLOW_EXPIRED || is_idle(flow, *listener)) {
    if (flow.state != MR_FLOW_EXPIRED) expire_flow(flow);
    return is_tcp ? end_late(packet, parsed, flow, false) : forward_untracked_reply(packet, work);
  }
  if (mr_disowns_orphan(flow.flags, parsed.tcp_flags) && move_orphan(work.hash, flow, *listener)) {
    return drop(MR_DROP_UNWANTED_RST);
  }
  if ((parsed.tcp_flags & MR_TCP_SYN) != 0 && !accept_again(flow)) {
    const std::uint32_t listener_slot = flow.listener_slot;
    forget_flow(flow);
    return reset(packet, parsed, listener_slot);
  }
  ++burst_counts_.hits;
  track(flow, packet, parsed, false);
  note_reply(flow, parsed);
  account(flow, parsed);
  if (const mr_target* target = target_of(flow)) clamp_mss_of_target(packet, parsed, *target);
  return send_to_client(packet, parsed, flow, *listener);
}

// An answer of the target.
void Forwarder::note_reply(mr_flow_record& flow, const Parsed& parsed) noexcept {
  const std::uint32_t flags = mr_flags_of_reply(flow.state, parsed.tcp_flags);
  add_flags(flow, flags & ~std::uint32_t{MR_FLOW_CONFIRMED});
  if ((flags & MR_FLOW_CONFIRMED) != 0) confirm(flow);
}

// The target answers with SYN and ACK. False when it must not have the connection.
bool Forwarder::accept_again(mr_flow_record& flow) noexcept {
  const mr_target* target = target_of(flow);
  const bool is_draining = target != nullptr && (target->flags & MR_TARGET_DRAINING) != 0;
  const mr_accept what = mr_accept_of(flow.state, flow.flags, is_draining);
  if (what == MR_ACCEPT_AGAIN) {
    take_confirmation(flow);
    set_state(flow, MR_FLOW_SYN);
    clear_flags(flow, MR_FLOW_OF_CONNECTION);
  }
  return what != MR_ACCEPT_REFUSED;
}

// The flow of the packet's client whose target sent it, or MR_RECORD_NONE.
std::uint32_t Forwarder::find_from_target(const Work& work) noexcept {
  const std::uint32_t first =
      flows_.find(work.hash, destination_key(work.parsed),
                  [&](const mr_flow_record& flow) { return is_any_reply_of(flow, work.parsed); });
  if (first == MR_RECORD_NONE) return first;
  return (flows_.record(first).flags & MR_FLOW_SHARED) == 0 ? first : best_of_shared(work);
}

// The flow that mr_reply_rank() prefers among several that the target's packets may belong to. If
// that is a connection that opens, the others are over.
std::uint32_t Forwarder::best_of_shared(const Work& work) noexcept {
  const bool opens = (work.parsed.tcp_flags & MR_TCP_SYN) != 0;
  std::array<std::uint32_t, kSharedMax> found{};
  std::uint32_t count = 0;
  (void)flows_.find(work.hash, destination_key(work.parsed), [&](const mr_flow_record& flow) {
    if (count < kSharedMax && is_any_reply_of(flow, work.parsed)) {
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

// The rank of a flow among those of best_of_shared(); higher is better.
std::uint32_t Forwarder::rank_of(const mr_flow_record& flow, bool opens) const noexcept {
  const mr_listener* listener = listener_of(flow);
  const bool is_late = listener == nullptr || is_idle(flow, *listener);
  return mr_reply_rank(flow.state, flow.flags, flow.protocol, is_late, opens);
}

// One client port may have several flows to the same address and port of a target. The client has
// just used this one, so answers belong to it. Marks all of them, so that other known flows need
// not look for doubles.
void Forwarder::claim_replies(std::uint64_t hash, mr_flow_record& flow,
                              const mr_target& target) noexcept {
  const std::uint16_t port_be = target_port_be_of(flow, target);
  bool is_shared = false;
  (void)flows_.find(hash, ClientKey::of(flow), [&](const mr_flow_record& other) {
    const mr_target* other_target = target_of(other);
    if (&other == &flow || other_target == nullptr ||
        words_of(other_target->addr) != words_of(target.addr) ||
        target_port_be_of(other, *other_target) != port_be) {
      return false;
    }
    mr_flow_record& sibling = flows_.record(flows_.index_of(other));
    clear_flags(sibling, MR_FLOW_ASKED);
    add_flags(sibling, MR_FLOW_SHARED);
    is_shared = true;
    return false;
  });
  constexpr std::uint32_t kBoth = MR_FLOW_SHARED | MR_FLOW_ASKED;
  clear_flags(flow, kBoth);
  if (is_shared) add_flags(flow, kBoth);
}

// Moves a flow that `prev` does not know to `cur`. False when it is there already.
bool Forwarder::move_orphan(std::uint64_t hash, mr_flow_record& flow,
                            const mr_listener& listener) noexcept {
  const std::uint32_t target_slot = target_by_table(
      ClientKey::of(flow), listener, mr_vip_port_be_of(flow.vip_port_be, listener.port_be), false);
  if (target_slot == MR_TABLE_EMPTY || target_slot == flow.target_slot) return false;
  clear_flags(flow, MR_FLOW_ORPHAN_PREV);
  if (is_active(flow)) adjust_active(flow, -1);
  bind_flow(flow, listener, target_slot);
  claim_replies(hash, flow, config_.targets[target_slot]);
  count(MR_COUNTER_ORPHANS_MOVED);
  return true;
}

// `hash` is that of the client's half.
Forwarder::Flowless Forwarder::judge_flowless(const Parsed& parsed,
                                              std::uint64_t hash) const noexcept {
  const mr_table_entry* entry =
      find_service(parsed.source, parsed.source_port_be(), parsed.protocol);
  if (entry == nullptr) return {};
  const mr_target& target = config_.targets[entry->slot];
  const bool is_ambiguous = entry->next == MR_TABLE_EMPTY;
  const AddrWords& to = parsed.destination;
  const bool is_to_no_client = mr_is_no_clients(to.low, to.high) || is_local(to);
  const mr_flowless_reply what = mr_flowless_reply_of({.tcp_flags = parsed.tcp_flags,
                                                       .target_flags = target.flags,
                                                       .is_to_no_client = is_to_no_client,
                                                       .had_no_room = no_room_.has(hash),
                                                       .is_ambiguous = is_ambiguous});
  if (what != MR_FLOWLESS_TRANSLATE) return {.what = what};
  const mr_listener& listener = config_.listeners[entry->next];
  if (listener.id == 0 || target.id == 0) return {};
  // The port of the target is the one that was asked for where that is not the listener's only one.
  const std::uint16_t vip_port_be =
      target.port_be == 0 ? parsed.source_port_be() : listener.port_be;
  return {.what = what, .listener = &listener, .target = &target, .vip_port_be = vip_port_be};
}

// The packet goes to a host that is no VIP, and belongs to no flow.
Verdict Forwarder::forward_untracked_reply(Packet& packet, Work& work) noexcept {
  const Parsed& parsed = work.parsed;
  if (is_martian(parsed)) return refuse_martian(packet, parsed);
  if (config_.image == nullptr) return punt(packet);
  if (const mr_table_entry* vip = find_vip(parsed.destination)) {
    return handle_unserved(packet, parsed, vip->slot);
  }
  const Flowless flowless = judge_flowless(parsed, work.hash);
  if (flowless.what == MR_FLOWLESS_PUNT) return punt(packet);
  if (flowless.what == MR_FLOWLESS_DROP) return drop(MR_DROP_NO_FLOW);
  const mr_nat_deltas deltas =
      nat_deltas(*flowless.listener, flowless.vip_port_be, *flowless.target);
  mr_flow_record passing{};
  passing.vip_port_be = flowless.vip_port_be;
  passing.ip_checksum_delta = deltas.ip;
  passing.l4_checksum_delta = deltas.l4;
  count(MR_COUNTER_UNTRACKED_PACKETS);
  clamp_mss_of_target(packet, parsed, *flowless.target);
  return send_to_client(packet, parsed, passing, *flowless.listener);
}

}  // namespace millrace::core
