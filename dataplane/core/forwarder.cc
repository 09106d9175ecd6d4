// SPDX-License-Identifier: Apache-2.0
//
// The passes over a burst, and what happens to packets of known flows. HOT.
#include "dataplane/core/forwarder.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>

#include "dataplane/core/counters.h"
#include "dataplane/core/encapsulate.h"
#include "dataplane/core/glance.h"
#include "dataplane/core/quote.h"
#include "dataplane/core/rewrite.h"
#include "dataplane/core/vlan_tag.h"
#include "dataplane/rules/step_rule.h"

namespace millrace::core {
namespace {

// A UDP packet without a checksum (RFC 768). Over IPv6 the outer checksum is derived from the inner
// one, which is not there.
bool lacks_checksum(const Packet& packet, const Parsed& parsed) {
  return parsed.protocol == MR_PROTOCOL_UDP &&
         load<std::uint16_t>(packet.data + parsed.l4_offset() + MR_UDP_CHECKSUM) == 0;
}

// mr_target.forwarding and variant in one word, for targets of the family of `Frame` that have a
// port.
template <typename Frame>
constexpr std::uint16_t how_of(std::uint8_t forwarding) {
  return static_cast<std::uint16_t>(forwarding | mr_variant_of(forwarding, Frame::kIsV4, true)
                                                     << 8);
}
static_assert(offsetof(mr_target, variant) == offsetof(mr_target, forwarding) + 1);

// Whether the config has no address to encapsulate from.
template <typename Frame>
bool is_unset(const mr_addr& source) {
  if constexpr (Frame::kIsV4) return v4_of(source) == 0;
  return words_of(source) == AddrWords{0, 0};
}

}  // namespace

// Flattened: known flows take no call from here on (bench/attempts.md).
[[gnu::flatten]] void Forwarder::process_burst(Burst& burst, std::uint64_t now_ns) noexcept {
  run_passes<false>(burst, now_ns, kOwnsAll);
}

[[gnu::flatten]] void Forwarder::process_burst(Burst& burst, std::uint64_t now_ns,
                                               const Ownership& ownership) noexcept {
  run_passes<true>(burst, now_ns, ownership);
}

// Once in each millisecond.
void Forwarder::renew_budgets() noexcept {
  if (tick_ == budget_tick_) return;
  budget_tick_ = tick_;
  for (Budget* budget :
       {&inserts_, &resets_, &echoes_, &too_bigs_, &expiries_, &errors_, &refusals_, &foreign_}) {
    budget->left = budget->per_ms;
  }
}

// The second and the third pass.
void Forwarder::decide(Burst& burst, std::span<Work> works) noexcept {
  for (Work& work : works) {
    work.candidate = flows_.first_candidate(work.hash);
    if (work.candidate != nullptr) [[likely]] {
      FlowTable::prefetch_record(*work.candidate);
    } else {
      work.candidate = FlowTable::no_flow();
      work.selection_hash = kNotForeseen;
      // Otherwise it may be a known flow that is in its second bucket.
      if (work.listener != nullptr && !flows_.has_overflowed(work.hash)) foresee_flow(work);
    }
  }
  // In order of arrival: a SYN and the packets behind it may be in the same burst.
  for (Work& work : works) {
    Packet& packet = *work.packet;
    burst.verdicts[static_cast<std::size_t>(&packet - burst.packets.data())] =
        work.listener != nullptr ? forward_to_target(packet, work)
                                 : forward_to_client(packet, work);
  }
}

// Compiled twice, so that a worker that is alone does not ask who owns a packet.
template <bool kIsShared>
void Forwarder::run_passes(Burst& burst, std::uint64_t now_ns,
                           const Ownership& ownership) noexcept {
  tick_ = static_cast<std::uint32_t>(now_ns >> MR_TICK_SHIFT);
  renew_budgets();
  std::array<Work, kBurstMax> works;  // of the packets that need a flow, in order of arrival
  const std::uint32_t count = std::min(burst.count, kBurstMax);

  for (std::uint32_t i = 0; i < std::min(count, kParseAhead); ++i) {
    __builtin_prefetch(burst.packets[i].data);
  }
  Packet* const packets = burst.packets.data();
  const auto verdict_of = [&](const Packet& packet) -> Verdict& {
    return burst.verdicts[static_cast<std::size_t>(&packet - packets)];
  };
  // Usually runs once. An ICMP error may be about a flow that an earlier packet of the burst
  // begins. So the packets before it are decided first, and the rest begins anew.
  for (Packet* packet = packets; packet != packets + count;) {
    Work* end = works.data();
    Packet* error = nullptr;
    for (; packet != packets + count; ++packet) {
      // For the last packets this reads a frame of an earlier burst. That does no harm, and costs
      // less than a comparison.
      __builtin_prefetch(packet[kParseAhead].data);
      ClientKey key;
      const bool is_of_flow = classify(*packet, *end, key, ownership);
      std::uint32_t handler = ownership.worker;
      if constexpr (kIsShared) {
        handler = is_of_flow ? handler_of(*end, key, ownership)
                             : handler_of_other(*packet, end->parsed, ownership);
      }
      if (handler != ownership.worker) [[unlikely]] {
        verdict_of(*packet) = Verdict::hand_over(handler);
        continue;
      }
      if (is_of_flow) [[likely]] {
        end->hash = flows_.hash(key);
        end->packet = packet;
        flows_.prefetch_bucket(end->hash);
        ++end;
        continue;
      }
      if (is_icmp_error(*packet, end->parsed)) {
        error = packet++;
        break;
      }
      verdict_of(*packet) = handle_other(*packet, end->parsed);
    }
    decide(burst, std::span(works.data(), end));
    if (error != nullptr) verdict_of(*error) = handle_other(*error, end->parsed);
  }
  flush(burst_counts_);
  burst_counts_ = {};
}

// True when the packet is TCP or UDP and complete enough to balance. `key` and `work.settled_head`
// then say what its flow looks like, and `work.listener` is set if it goes to a VIP. Otherwise
// `work.parsed` says what the packet is.
bool Forwarder::classify(Packet& packet, Work& work, ClientKey& key,
                         const Ownership& ownership) noexcept {
  Parsed& parsed = work.parsed;
  std::uint32_t state = MR_FLOW_FREE;
  if (packet.length >= kGlanceBytes && is_ours(packet)) [[likely]] {
    state = glance(packet, parsed);
  }
  if (state == MR_FLOW_FREE) [[unlikely]] {
    if (!examine(packet, parsed, ownership)) return false;
    // A fragment never takes the short way, which knows whole packets only.
    state = parsed.shape == Shape::fragment ? std::uint32_t{MR_FLOW_STATE_COUNT}
                                            : mr_settled_state(parsed.protocol, parsed.tcp_flags);
  }
  work.listener = find_listener(parsed);
  key = work.listener != nullptr ? source_key(parsed) : destination_key(parsed);
  work.settled_head = FlowTable::head_of(key.port_protocol, state);
  return true;
}

const mr_listener* Forwarder::find_listener(const Parsed& parsed) noexcept {
  if (listener_hint_.is_of(parsed)) [[likely]]
    return listener_hint_.listener;
  const mr_table_entry* entry = find_entry(config_.listener_table, parsed.destination,
                                           parsed.destination_port_be(), parsed.protocol);
  if (entry == nullptr) {
    if (config_.port_ranges.empty()) [[likely]]
      return nullptr;
    return copy_in_ranges(parsed);
  }
  const mr_listener& listener = config_.listeners[entry->slot];
  if (listener.id == 0) [[unlikely]]
    return nullptr;
  listener_hint_ = {.addr = parsed.destination,
                    .port_protocol = parsed.destination_port_protocol,
                    .listener = &listener};
  return &listener;
}

std::uint32_t Forwarder::find_to_listener(const Work& work) const noexcept {
  return flows_.find(work.hash, source_key(work.parsed), [&](const mr_flow_record& flow) {
    return listener_word_of(flow) == word_of(*work.listener);  // ids are never reused
  });
}

// A packet to a VIP's listener.
Verdict Forwarder::forward_to_target(Packet& packet, Work& work) noexcept {
  const mr_listener& listener = *work.listener;
  const Parsed& parsed = work.parsed;
  const auto is_settled = [&](const mr_flow_record& flow) {
    return FlowTable::is_of_client(flow, parsed.source, work.settled_head) &&
           listener_word_of(flow) == word_of(listener);
  };
  if (!is_settled(*work.candidate)) [[unlikely]] {
    const std::uint32_t index = find_to_listener(work);
    if (index == MR_RECORD_NONE) return start_flow(packet, work);
    work.candidate = &flows_.record(index);
    if (!is_settled(*work.candidate)) return revisit_flow(packet, work, *work.candidate);
  }
  mr_flow_record& flow = *work.candidate;
  const mr_target* target = target_of(flow);
  if (target == nullptr || (target->flags & MR_TARGET_KEEPS_FLOWS) == 0 ||
      (flow.flags & MR_FLOW_SHARED) != 0 ||
      is_silent(flow, listener.timeout_ticks[flow.state & 7u])) [[unlikely]] {
    return revisit_flow(packet, work, flow);
  }
  ++burst_counts_.hits;
  account(flow, parsed);
  // The gateway may have a new MAC address, or the client another router: replies go that way from
  // now on.
  learn_last_hop(flow, packet);
  return send_whole_to_target(packet, parsed, flow, *target);
}

// A packet to no listener. It is a target's reply to a client if a flow says so.
Verdict Forwarder::forward_to_client(Packet& packet, Work& work) noexcept {
  const Parsed& parsed = work.parsed;
  mr_flow_record& flow = *work.candidate;
  const bool is_settled = FlowTable::is_of_client(flow, parsed.destination, work.settled_head) &&
                          is_reply_of(flow, parsed) &&
                          (flow.flags & (MR_FLOW_SHARED | MR_FLOW_NO_PORT)) == 0;
  const mr_listener* listener = is_settled ? exact_listener_of(flow) : nullptr;
  if (listener == nullptr || parsed.source == parsed.destination ||
      is_silent(flow, listener->timeout_ticks[flow.state & 7u])) [[unlikely]] {
    return revisit_reply(packet, work);
  }
  ++burst_counts_.hits;
  if (!is_confirmed(flow)) [[unlikely]]
    note_reply(flow, parsed);
  account(flow, parsed);
  return send_whole_to_client(packet, parsed, flow,
                              {.listener = *listener, .port_be = listener->port_be});
}

void Forwarder::account(mr_flow_record& flow, const Parsed& parsed) const noexcept {
  flow.last_seen_tick = tick_;
  flow.bytes += parsed.ip_bytes;
  ++flow.packets;
}

// `hop` is the target's next hop as send_to_target() loads it: resolved and on a nic of ours.
template <typename Inner, typename Outer, mr_forwarding kForwarding>
Verdict Forwarder::encapsulate_to_target(Packet& packet, const Parsed& parsed,
                                         const mr_target& target, std::uint64_t hop) noexcept {
  const mr_addr& source = Outer::kIsV4 ? encap_source_v4_ : encap_source_v6_;
  if (is_unset<Outer>(source)) [[unlikely]]
    return encapsulate_from_network<Inner, Outer, kForwarding>(packet, parsed, target, hop);
  return encapsulate_from<Inner, Outer, kForwarding>(packet, parsed, target, hop, source);
}

template <typename Inner, typename Outer, mr_forwarding kForwarding>
Verdict Forwarder::encapsulate_from_network(Packet& packet, const Parsed& parsed,
                                            const mr_target& target, std::uint64_t hop) noexcept {
  const mr_image& image = *config_.image;
  const mr_encap_source& network = Outer::kIsV4 ? image.encap_source_v4 : image.encap_source_v6;
  if (network.spread_be == 0) return drop(MR_DROP_NO_ENCAP_SOURCE);
  const mr_addr source = source_of_flow(network, parsed);
  return encapsulate_from<Inner, Outer, kForwarding>(packet, parsed, target, hop, source);
}

template <typename Inner, typename Outer, mr_forwarding kForwarding>
Verdict Forwarder::encapsulate_from(Packet& packet, const Parsed& parsed, const mr_target& target,
                                    std::uint64_t hop, const mr_addr& source) noexcept {
  constexpr std::uint32_t kOverhead = mr_outer_bytes(kForwarding, Outer::kIsV4);
  const std::uint32_t mtu = mr_inner_mtu(target.mtu, kOverhead);
  if (parsed.ip_bytes > mtu) [[unlikely]]
    return answer_too_big(packet, parsed, mtu);
  if (packet.headroom < kOverhead) [[unlikely]]
    return drop(MR_DROP_TOO_BIG);
  bool is_summed = false;
  if constexpr (kForwarding == MR_FORWARDING_GUE && !Outer::kIsV4) {
    is_summed = lacks_checksum(packet, parsed);
  }
  encapsulate<Inner, Outer, kForwarding>(packet, parsed, target, source);
  if (is_summed) [[unlikely]]
    write_outer_checksum(packet);
  const std::uint32_t nic = hop >> 48 & 0xff;
  write_link_header(packet.data, hop, nic_mac_words_[nic], Outer::kType);
  return forward(packet, nic);
}

// To a target whose address is of another family than the VIP, or which takes any port.
template <typename Frame>
Verdict Forwarder::send_by_variant(Packet& packet, const Parsed& parsed, const mr_flow_record& flow,
                                   const mr_target& target, std::uint64_t hop) noexcept {
  if (!mr_translates(target.forwarding)) {
    return encapsulate_across<Frame>(packet, parsed, target, hop);
  }
  if (packet.data[Frame::kHops] < 2) return answer_expired(packet, parsed);
  if (parsed.ip_bytes > target.mtu) return answer_too_big(packet, parsed, target.mtu);
  translate_addr_to_target<Frame>(packet.data, parsed.protocol, target,
                                  {.ip = flow.ip_checksum_delta, .l4 = flow.l4_checksum_delta});
  const std::uint32_t nic = hop >> 48 & 0xff;
  write_link_header(packet.data, hop, nic_mac_words_[nic], Frame::kType);
  return forward(packet, nic);
}

template <typename Inner>
Verdict Forwarder::encapsulate_across(Packet& packet, const Parsed& parsed, const mr_target& target,
                                      std::uint64_t hop) noexcept {
  using Outer = std::conditional_t<Inner::kIsV4, Ipv6Frame, Ipv4Frame>;
  return target.forwarding == MR_FORWARDING_GUE
             ? encapsulate_to_target<Inner, Outer, MR_FORWARDING_GUE>(packet, parsed, target, hop)
             : encapsulate_to_target<Inner, Outer, MR_FORWARDING_IPIP>(packet, parsed, target, hop);
}

template <typename Frame>
Verdict Forwarder::send_to_target(Packet& packet, const Parsed& parsed, const mr_flow_record& flow,
                                  const mr_target& target) noexcept {
  // MAC address, nic and flags in one word. Read apart, the compiler would read them again after
  // each store to the frame.
  const auto hop = load<std::uint64_t>(target.next_hop.mac);
  // The difference is below the number of nics only when the flags say "resolved" and nothing else.
  const auto nic = static_cast<std::uint32_t>(hop >> 48) - (MR_NEXT_HOP_RESOLVED << 8);
  if (nic >= nic_count_) [[unlikely]]
    return send_to_target_in_vlan<Frame>(packet, parsed, flow, target);
  return send_to_target_by<Frame>(packet, parsed, flow, target, {.word = hop, .nic = nic});
}

template <typename Frame>
Verdict Forwarder::send_to_target_by(Packet& packet, const Parsed& parsed,
                                     const mr_flow_record& flow, const mr_target& target,
                                     NicHop by) noexcept {
  const auto [hop, nic] = by;
  std::uint8_t* const frame = packet.data;
  // Both in one word: the variant costs no comparison of its own.
  const auto how = load<std::uint16_t>(&target.forwarding);
  if (how == how_of<Frame>(MR_FORWARDING_NAT)) [[likely]] {
    if (frame[Frame::kHops] < 2) [[unlikely]]
      return answer_expired(packet, parsed);
    if (parsed.ip_bytes > target.mtu) [[unlikely]]
      return answer_too_big(packet, parsed, target.mtu);
    translate_to_target<Frame>(frame, parsed.protocol, target,
                               {.ip = flow.ip_checksum_delta, .l4 = flow.l4_checksum_delta});
  } else {
    if (how == how_of<Frame>(MR_FORWARDING_IPIP)) {
      return encapsulate_to_target<Frame, Frame, MR_FORWARDING_IPIP>(packet, parsed, target, hop);
    }
    if (how == how_of<Frame>(MR_FORWARDING_GUE)) {
      return encapsulate_to_target<Frame, Frame, MR_FORWARDING_GUE>(packet, parsed, target, hop);
    }
    if (target.variant != MR_VARIANT_NONE) [[unlikely]]
      return send_by_variant<Frame>(packet, parsed, flow, target, hop);
    if (parsed.ip_bytes > target.mtu) [[unlikely]]
      return answer_too_big(packet, parsed, target.mtu);
  }
  write_link_header(frame, hop, nic_mac_words_[nic], Frame::kType);
  return forward(packet, nic);
}

// A target whose next hop is in a VLAN, or is none.
template <typename Frame>
Verdict Forwarder::send_to_target_in_vlan(Packet& packet, const Parsed& parsed,
                                          const mr_flow_record& flow,
                                          const mr_target& target) noexcept {
  const auto hop = load<std::uint64_t>(target.next_hop.mac);
  const bool is_resolved = hop >> 56 == MR_NEXT_HOP_RESOLVED;
  const mr_vlan* vlan = is_resolved ? vlan_at(target.next_hop.nic) : nullptr;
  if (vlan == nullptr) return refuse_next_hop(flow, hop);
  return tag_if_forwarded(
      packet, send_to_target_by<Frame>(packet, parsed, flow, target, hop_on_nic(hop, *vlan)),
      *vlan);
}

// A next hop, as loaded from the target, that is not resolved or not on a nic of ours.
Verdict Forwarder::refuse_next_hop(const mr_flow_record& flow, std::uint64_t hop) noexcept {
  if ((hop >> 56 & MR_NEXT_HOP_RESOLVED) != 0) return drop(MR_DROP_NO_NIC);
  if (flow.target_slot < counters_.targets.size()) {
    add(counters_.targets[flow.target_slot].unresolved_packets, 1);
  }
  return drop(MR_DROP_NEXT_HOP_UNRESOLVED);
}

Verdict Forwarder::send_to_target(Packet& packet, const Parsed& parsed, const mr_flow_record& flow,
                                  const mr_target& target) noexcept {
  if (parsed.shape == Shape::fragment) [[unlikely]]
    return send_fragment_to_target(packet, parsed, flow, target);
  return send_whole_to_target(packet, parsed, flow, target);
}

Verdict Forwarder::send_whole_to_target(Packet& packet, const Parsed& parsed,
                                        const mr_flow_record& flow,
                                        const mr_target& target) noexcept {
  return parsed.is_v4 ? send_to_target<Ipv4Frame>(packet, parsed, flow, target)
                      : send_to_target<Ipv6Frame>(packet, parsed, flow, target);
}

template <typename Frame>
Verdict Forwarder::send_to_client(Packet& packet, const Parsed& parsed, mr_flow_record& flow,
                                  const VipEnd& vip) noexcept {
  const std::uint64_t hop = client_hop(flow.last_hop, Frame::kIsV4);
  if (hop == kNoHop) [[unlikely]]
    return drop(MR_DROP_NEXT_HOP_UNRESOLVED);
  const std::uint32_t nic = hop >> 48 & 0xff;
  if (nic >= nic_count_) [[unlikely]]
    return send_to_client_in_vlan<Frame>(packet, parsed, flow, vip, hop);
  return send_to_client_by<Frame>(packet, parsed, flow, vip, {.word = hop, .nic = nic});
}

template <typename Frame>
Verdict Forwarder::send_to_client_by(Packet& packet, const Parsed& parsed, mr_flow_record& flow,
                                     const VipEnd& vip, NicHop by) noexcept {
  const auto [hop, nic] = by;
  std::uint8_t* const frame = packet.data;
  if (frame[Frame::kHops] < 2) [[unlikely]]
    return answer_expired(packet, parsed);
  const std::uint8_t protocol = parsed.protocol;
  translate_to_client<Frame>(frame, protocol, vip.listener, vip.port_be,
                             {.ip = flow.ip_checksum_delta, .l4 = flow.l4_checksum_delta});
  if (protocol == MR_PROTOCOL_TCP) [[likely]] {
    flow.target_ack_be = load<std::uint32_t>(frame + Frame::kL4 + MR_TCP_ACKNOWLEDGEMENT);
  }
  write_link_header(frame, hop, nic_mac_words_[nic], Frame::kType);
  return forward(packet, nic);
}

template <typename Frame>
Verdict Forwarder::send_to_client_in_vlan(Packet& packet, const Parsed& parsed,
                                          mr_flow_record& flow, const VipEnd& vip,
                                          std::uint64_t hop) noexcept {
  const mr_vlan* vlan = vlan_at(hop >> 48 & 0xff);
  if (vlan == nullptr) return drop(MR_DROP_NO_NIC);
  return tag_if_forwarded(
      packet, send_to_client_by<Frame>(packet, parsed, flow, vip, hop_on_nic(hop, *vlan)), *vlan);
}

Verdict Forwarder::send_to_client(Packet& packet, const Parsed& parsed, mr_flow_record& flow,
                                  const mr_listener& listener) noexcept {
  if (parsed.shape == Shape::fragment) [[unlikely]]
    return send_fragment_to_client(packet, parsed, flow, listener);
  const std::uint16_t port_be = mr_vip_port_be_of(flow.vip_port_be, listener.port_be);
  return send_whole_to_client(packet, parsed, flow, {.listener = listener, .port_be = port_be});
}

Verdict Forwarder::send_whole_to_client(Packet& packet, const Parsed& parsed, mr_flow_record& flow,
                                        const VipEnd& vip) noexcept {
  return parsed.is_v4 ? send_to_client<Ipv4Frame>(packet, parsed, flow, vip)
                      : send_to_client<Ipv6Frame>(packet, parsed, flow, vip);
}

void Forwarder::count(mr_counter counter, std::uint64_t amount) noexcept {
  add(counters_.worker->counters[counter], amount);
}

void Forwarder::flush(const BurstCounts& counts) noexcept {
  count(MR_COUNTER_FORWARDED_PACKETS, counts.forwarded >> kForwardedShift);
  count(MR_COUNTER_FORWARDED_BYTES, counts.forwarded & ((std::uint64_t{1} << kForwardedShift) - 1));
  count(MR_COUNTER_REPLIED_PACKETS, counts.replied);
  count(MR_COUNTER_PUNTED_PACKETS, counts.punted);
  count(MR_COUNTER_FLOW_HITS, counts.hits);
}

}  // namespace millrace::core
