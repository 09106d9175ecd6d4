// SPDX-License-Identifier: Apache-2.0
//
// Fragments of UDP datagrams, on their way to a target and back to a client. Warm.
//
// The first fragment names the ports. With them a fragment is a packet of its flow like any other:
// classify() puts it among those, and it goes the flow's way. A later fragment takes the ports from
// the store; one that comes before the first is dropped. Nothing is put together and nothing waits.
//
// A nic spreads fragments over several workers by their addresses. So a fragment goes two steps: to
// the worker that its datagram's number names, which knows the ports, and from there to the owner
// of the flow. Both remember the ports: the second gets the fragments in the order in which the
// first had them.
#include "dataplane/core/counters.h"
#include "dataplane/core/forwarder.h"
#include "dataplane/core/rewrite.h"
#include "dataplane/core/vlan_tag.h"
#include "dataplane/rules/vip_rule.h"

namespace millrace::core {

// True when `parsed` has the ports by now and the flow is this worker's. Otherwise leave_fragment()
// knows what to do with it. `asked`: of several workers when the fragment came from a nic, kOwnsAll
// when another worker gave it. Who gets it as the owner of the flow gives it away no more.
bool Forwarder::resolve_fragment(const Packet& packet, Parsed& parsed,
                                 const Ownership& asked) noexcept {
  const Ownership& own = asked.worker_count > 1 ? asked : own_;
  const bool is_given = asked.worker_count < own.worker_count;
  parsed.owner = kNoOwner;
  if (is_local(parsed.destination)) return false;
  const Fragment fragment = fragment_at(packet.data, parsed.is_v4);
  const bool is_alone = fragment.place.offset_bytes == 0 && !fragment.place.has_more;
  if (!is_alone) {
    const DatagramKey key{
        .source = parsed.source, .destination = parsed.destination, .id = fragment.id};
    const std::uint32_t knower = owner_of(key, own.worker_count);
    if (knower != own.worker && !is_given) {
      parsed.owner = static_cast<std::uint8_t>(knower);
      return false;
    }
    if (!learn_ports(packet, parsed, fragment, key)) return false;
    if (knower != own.worker) return true;
  } else if (is_given) {
    return true;
  }
  const std::uint32_t owner = owner_of_flow(parsed, own);
  if (owner == own.worker) return true;
  parsed.owner = static_cast<std::uint8_t>(owner);
  return false;
}

// From the fragment, or for it.
bool Forwarder::learn_ports(const Packet& packet, Parsed& parsed, const Fragment& fragment,
                            const DatagramKey& key) noexcept {
  const std::uint64_t first_half = flows_.hash({key.source, key.id});
  const std::uint64_t hash =
      flows_.hash({{key.destination.low ^ first_half, key.destination.high}, key.id});
  if (fragment.place.offset_bytes == 0) {
    if (is_worth_knowing(parsed)) {
      fragments_.add(hash, key, load<std::uint32_t>(packet.data + fragment.data_offset), tick_);
    }
    return true;
  }
  const std::optional<std::uint32_t> ports = fragments_.find(hash, key, tick_);
  if (ports) detail::set_ports(*ports, parsed);
  return ports.has_value();
}

// Whether later fragments go another way than those whose first one was not seen.
bool Forwarder::is_worth_knowing(const Parsed& first) noexcept {
  if (has_listener(first)) return true;
  if (const mr_table_entry* vip = find_vip(first.destination)) {
    return (vip->slot & MR_VIP_PUNTS) != 0;
  }
  return is_service(first.source, first.source_port_be(), MR_PROTOCOL_UDP);
}

// As handler_of().
std::uint32_t Forwarder::owner_of_flow(const Parsed& parsed, const Ownership& own) noexcept {
  if (has_listener(parsed)) return owner_of(source_key(parsed), own.worker_count);
  if (is_vip(parsed.destination)) return own.worker;
  return owner_of(destination_key(parsed), own.worker_count);
}

// A fragment that resolve_fragment() refused.
Verdict Forwarder::leave_fragment(Packet& packet, const Parsed& parsed) noexcept {
  if (parsed.owner != kNoOwner) {
    if (packet.nic >= MR_NIC_COUNT_MAX) give_back_tag(packet);
    return Verdict::hand_over(parsed.owner);
  }
  const bool is_to_vip = is_vip(parsed.destination);
  const bool is_refused =
      is_to_vip || (!is_local(parsed.destination) && is_of_target(packet, parsed));
  return is_refused ? drop(MR_DROP_FRAGMENT) : punt(packet);
}

Verdict Forwarder::send_fragment_to_target(Packet& packet, const Parsed& parsed,
                                           const mr_flow_record& flow,
                                           const mr_target& target) noexcept {
  Parsed inner = parsed;
  inner.protocol = MR_PROTOCOL_FRAGMENT;  // nobody is to look for a UDP header in it
  const Verdict verdict = mr_translates(target.forwarding)
                              ? send_translated_to_target(packet, parsed, flow, target)
                              : send_whole_to_target(packet, inner, flow, target);
  if (verdict.kind() != VerdictKind::forward) return verdict;
  if (target.forwarding == MR_FORWARDING_GUE && target.variant == MR_VARIANT_OUTER_V6) {
    write_outer_checksum(packet);
  }
  count(MR_COUNTER_FRAGMENTS_FORWARDED);
  return verdict;
}

// gue's checksum over IPv6 follows from the inner one, unless that is missing, or covers more than
// the packet because this is a fragment. Then the bytes are summed.
void Forwarder::write_outer_checksum(Packet& packet) noexcept {
  const std::uint32_t link_bytes = link_bytes_of(packet);
  std::uint8_t* ip = packet.data + link_bytes;
  std::uint8_t* udp = ip + MR_IPV6_BYTES;
  store(udp + MR_UDP_CHECKSUM, std::uint16_t{0});
  const std::uint16_t checksum =
      transport_checksum({ip + MR_IPV6_SOURCE, 16}, {ip + MR_IPV6_DESTINATION, 16}, MR_PROTOCOL_UDP,
                         {udp, packet.length - link_bytes - MR_IPV6_BYTES});
  store(udp + MR_UDP_CHECKSUM, mr_written_udp_checksum(checksum));
}

Verdict Forwarder::send_translated_to_target(Packet& packet, const Parsed& parsed,
                                             const mr_flow_record& flow,
                                             const mr_target& target) noexcept {
  const auto hop = load<std::uint64_t>(target.next_hop.mac);
  if ((target.next_hop.flags & MR_NEXT_HOP_RESOLVED) == 0) return refuse_next_hop(flow, hop);
  const std::uint32_t nic = target.next_hop.nic;
  if (nic < nic_count_) [[likely]]
    return translate_to_target_by(packet, parsed, flow, target, {.word = hop, .nic = nic});
  const mr_vlan* vlan = vlan_at(nic);
  if (vlan == nullptr) return refuse_next_hop(flow, hop);
  return tag_if_forwarded(
      packet, translate_to_target_by(packet, parsed, flow, target, hop_on_nic(hop, *vlan)), *vlan);
}

Verdict Forwarder::translate_to_target_by(Packet& packet, const Parsed& parsed,
                                          const mr_flow_record& flow, const mr_target& target,
                                          NicHop by) noexcept {
  if (hops_left(packet, parsed) < 2) return answer_expired(packet, parsed);
  if (parsed.ip_bytes > target.mtu) return answer_too_big(packet, parsed, target.mtu);
  return send_translated(
      packet, parsed, by,
      {.is_to_target = true,
       .addr = target.addr,
       .port_be = mr_target_port_be_of(target.port_be, parsed.destination_port_be()),
       .deltas = {flow.ip_checksum_delta, flow.l4_checksum_delta}});
}

Verdict Forwarder::send_fragment_to_client(Packet& packet, const Parsed& parsed,
                                           const mr_flow_record& flow,
                                           const mr_listener& listener) noexcept {
  const std::uint64_t hop = client_hop(flow.last_hop, parsed.is_v4);
  if (hop == kNoHop) return drop(MR_DROP_NEXT_HOP_UNRESOLVED);
  const std::uint32_t nic = hop >> 48 & 0xff;
  if (nic < nic_count_) [[likely]]
    return translate_to_client_by(packet, parsed, flow, listener, {.word = hop, .nic = nic});
  const mr_vlan* vlan = vlan_at(nic);
  if (vlan == nullptr) return drop(MR_DROP_NO_NIC);
  return tag_if_forwarded(
      packet, translate_to_client_by(packet, parsed, flow, listener, hop_on_nic(hop, *vlan)),
      *vlan);
}

Verdict Forwarder::translate_to_client_by(Packet& packet, const Parsed& parsed,
                                          const mr_flow_record& flow, const mr_listener& listener,
                                          NicHop by) noexcept {
  if (hops_left(packet, parsed) < 2) return answer_expired(packet, parsed);
  count(MR_COUNTER_FRAGMENTS_FORWARDED);
  return send_translated(packet, parsed, by,
                         {.is_to_target = false,
                          .addr = listener.vip_addr,
                          .port_be = mr_vip_port_be_of(flow.vip_port_be, listener.port_be),
                          .deltas = {mr_negated_delta(flow.ip_checksum_delta),
                                     mr_negated_delta(flow.l4_checksum_delta)}});
}

Verdict Forwarder::send_translated(Packet& packet, const Parsed& parsed, NicHop by,
                                   const NewEnd& end) noexcept {
  const Fragment fragment = fragment_at(packet.data, parsed.is_v4);
  std::uint8_t* frame = packet.data;
  std::uint8_t* udp = fragment.place.offset_bytes == 0 ? frame + fragment.data_offset : nullptr;
  if (parsed.is_v4) {
    translate_fragment<Ipv4Frame>(frame, udp, end);
    write_link_header(frame, by.word, nic_mac_words_[by.nic], EtherType::ipv4);
  } else {
    translate_fragment<Ipv6Frame>(frame, udp, end);
    write_link_header(frame, by.word, nic_mac_words_[by.nic], EtherType::ipv6);
  }
  return forward(packet, by.nic);
}

}  // namespace millrace::core
