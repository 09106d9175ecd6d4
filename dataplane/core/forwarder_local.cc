// SPDX-License-Identifier: Apache-2.0
//
// Packets that belong to no flow, and the node's own answers to those that do: RST, "too big".
// Warm. The engine owns VIPs. It answers ARP, neighbour solicitation and echo for them, and drops
// everything else that is sent to them, with a reason. The kernel owns everything else: punt.
#include <algorithm>
#include <optional>

#include "dataplane/core/answer.h"
#include "dataplane/core/counters.h"
#include "dataplane/core/forwarder.h"
#include "dataplane/rules/vip_rule.h"

namespace millrace::core {
namespace {

// Whether the sender is told what became of its packet: always, but for later fragments.
bool is_answered(const Packet& packet, const Parsed& parsed) {
  return parsed.shape != Shape::fragment ||
         mr_is_answered(fragment_at(packet.data, parsed.is_v4).place);
}

// Also for the tag that the answer gets back.
bool has_error_headroom(const Packet& packet, const Parsed& parsed) {
  const std::uint32_t tag_bytes = packet.nic >= MR_NIC_COUNT_MAX ? MR_VLAN_BYTES : 0;
  return packet.headroom >= error_headroom(parsed) + tag_bytes;
}

MacAddr mac_at(const std::uint8_t* bytes) {
  MacAddr mac;
  std::copy_n(bytes, mac.bytes.size(), mac.bytes.begin());
  return mac;
}

}  // namespace

Verdict Forwarder::handle_other(Packet& packet, const Parsed& parsed) noexcept {
  switch (parsed.shape) {
    case Shape::drop:
      return drop(static_cast<mr_drop_reason>(parsed.reason));
    case Shape::suspicious:
      if (is_passing_fragment(parsed) && is_of_target(packet, parsed)) {
        return drop(MR_DROP_FRAGMENT);
      }
      return is_vip(parsed.destination) ? drop(static_cast<mr_drop_reason>(parsed.reason))
                                        : punt(packet);
    case Shape::icmp:
      return handle_icmp(packet, parsed);
    case Shape::fragment:
      return leave_fragment(packet, parsed);
    case Shape::foreign:
      return leave_foreign(packet, parsed);
    case Shape::transport:
    case Shape::not_ip:
    case Shape::handed:
      break;
  }
  const std::uint8_t* mac = mac_on(packet.nic);
  if (is_arp_request(packet) && is_vip(arp_target(packet)) && mac != nullptr) {
    answer_arp(packet, mac_at(mac));
    return reply(packet);
  }
  return punt(packet);
}

std::uint32_t Forwarder::handler_of_other(Packet& packet, const Parsed& parsed,
                                          const Ownership& ownership) noexcept {
  const std::uint32_t owner = owner_of_other(packet, parsed, ownership);
  if (owner != ownership.worker && packet.nic >= MR_NIC_COUNT_MAX) give_back_tag(packet);
  return owner;
}

std::uint32_t Forwarder::owner_of_other(const Packet& packet, const Parsed& parsed,
                                        const Ownership& ownership) noexcept {
  if (parsed.shape == Shape::handed) return parsed.owner;
  if (is_passing_fragment(parsed)) return 0;
  const std::optional<Parsed> answer = answer_of_error(packet, parsed);
  if (!answer) return ownership.worker;
  const ClientKey client = has_listener(*answer) ? source_key(*answer) : destination_key(*answer);
  return owner_of(client, ownership.worker_count);
}

// A fragment from one host to another, by the addresses in the frame. Its header may be cut short.
bool Forwarder::is_passing_fragment(const Parsed& parsed) const noexcept {
  return parsed.shape == Shape::suspicious && parsed.reason == MR_DROP_FRAGMENT &&
         !is_vip(parsed.destination) && !is_local(parsed.destination);
}

// Whether a fragment is of a datagram or segment that a target sends from its service port. The
// kernel would route it to the client with the target's own address. Only the first fragment shows
// the port. A fragment that arrives before the first one is not recognised.
bool Forwarder::is_of_target(const Packet& packet, const Parsed& parsed) noexcept {
  const std::uint8_t* ip = packet.data + MR_ETH_BYTES;
  // The length of an IPv6 fragment header (RFC 8200 section 4.5) is also the distance of its fields
  // from those of IPv4.
  const std::uint8_t* fragment =
      ip + (parsed.is_v4 ? MR_IPV4_FRAGMENT : MR_IPV6_BYTES + MR_IPV6_FRAGMENT_WORD);
  const std::uint32_t l4_bytes =
      parsed.is_v4 ? MR_IPV4_BYTES : MR_IPV6_BYTES + MR_IPV6_FRAGMENT_BYTES;
  if (parsed.ip_bytes < l4_bytes) return false;
  const std::uint32_t offset_mask =
      parsed.is_v4 ? MR_IPV4_FRAGMENT_OFFSET : MR_IPV6_FRAGMENT_OFFSET;
  const bool is_first = (from_be16(load<std::uint16_t>(fragment)) & offset_mask) == 0;
  const FragmentMemory::Datagram datagram{
      .source = parsed.source.low ^ parsed.source.high,
      .destination = parsed.destination.low ^ parsed.destination.high,
      // RFC 791 section 3.2: numbers are a protocol's own.
      .id = parsed.is_v4 ? std::uint32_t{load<std::uint16_t>(ip + MR_IPV4_ID)} |
                               std::uint32_t{ip[MR_IPV4_PROTOCOL]} << 16
                         : load<std::uint32_t>(ip + MR_IPV6_BYTES + MR_IPV6_FRAGMENT_ID)};
  if (!is_first) return untranslated_.has(datagram);
  const std::uint8_t protocol = parsed.is_v4 ? parsed.protocol : ip[MR_IPV6_BYTES];
  if (parsed.ip_bytes < l4_bytes + sizeof(std::uint16_t)) return false;
  if (!is_service(parsed.source, load<std::uint16_t>(ip + l4_bytes), protocol)) return false;
  untranslated_.add(datagram);
  return true;
}

const mr_table_entry* Forwarder::find_service(const AddrWords& addr, std::uint16_t port_be,
                                              std::uint8_t protocol) const noexcept {
  if (port_be == 0) return nullptr;  // the port of entries for targets of any port
  const mr_table_entry* entry = find_entry(config_.reverse_table, addr, port_be, protocol);
  if (entry != nullptr || config_.image == nullptr || config_.image->any_port_targets == 0) {
    return entry;
  }
  entry = find_entry(config_.reverse_table, addr, 0, protocol);
  return entry != nullptr && mr_answers_from(entry, port_be) ? entry : nullptr;
}

// AF_XDP and promiscuous nics also deliver frames for a virtual machine behind the node, and frames
// that a switch floods. The kernel tells them apart. But a packet to a VIP is dropped: another node
// may be forwarding it.
Verdict Forwarder::leave_foreign(Packet& packet, const Parsed& parsed) noexcept {
  if (is_vip(parsed.destination) || !foreign_.take()) return drop(MR_DROP_OTHER_MAC);
  return punt(packet);
}

Verdict Forwarder::handle_icmp(Packet& packet, const Parsed& parsed) noexcept {
  const std::uint8_t* own_mac = mac_on(packet.nic);
  if (own_mac == nullptr) return drop(MR_DROP_NO_NIC);
  const MacAddr mac = mac_at(own_mac);
  if (is_neighbour_solicitation(packet, parsed) && is_vip(solicited_target(packet))) {
    return answer_neighbour_solicitation(packet, parsed, mac) ? reply(packet)
                                                              : drop(MR_DROP_BAD_L4);
  }
  if (const std::optional<Parsed> answer = answer_of_error(packet, parsed)) {
    return pass_error(packet, parsed, *answer);
  }
  const mr_table_entry* vip = find_vip(parsed.destination);
  if (vip == nullptr) return punt(packet);
  if (!is_echo_request(packet, parsed)) return drop(MR_DROP_ICMP);
  if (parsed.source == AddrWords{0, 0}) return drop(MR_DROP_MARTIAN);
  if (!mr_answers_echo(vip->slot)) return drop(MR_DROP_NO_ECHO);
  if (!echoes_.take()) return drop(MR_DROP_RATE_LIMITED);
  answer_echo(packet, parsed, mac);
  return reply(packet);
}

// What handle_other() does with a martian that parse() found. glance() does not look for martians,
// so those are found on the flow's path.
Verdict Forwarder::refuse_martian(Packet& packet, const Parsed& parsed) noexcept {
  return is_vip(parsed.destination) ? drop(MR_DROP_MARTIAN) : punt(packet);
}

// Answers a TCP segment of a flow that is over; a RST itself gets no answer.
Verdict Forwarder::reset(Packet& packet, const Parsed& parsed,
                         std::uint32_t listener_slot) noexcept {
  if ((parsed.tcp_flags & MR_TCP_RST) != 0) return drop(MR_DROP_UNWANTED_RST);
  const std::uint8_t* mac = mac_on(packet.nic);
  if (mac == nullptr) return drop(MR_DROP_NO_NIC);
  if (!resets_.take()) return drop(MR_DROP_RATE_LIMITED);
  answer_with_reset(packet, parsed, mac_at(mac));
  count_own_reset(listener_slot);
  return reply(packet);
}

void Forwarder::count_own_reset(std::uint32_t listener_slot) noexcept {
  count(MR_COUNTER_RST_SENT);
  if (listener_slot >= counters_.listeners.size()) return;
  add(counters_.listeners[listener_slot].balancer_resets, 1);
}

// `mtu` is the largest packet of the client's that fits the way to the target. The client is told
// whether or not it allowed fragments (IPv4's DF). This node cannot make fragments, and a message
// that the sender may ignore is better than a packet that vanishes in silence.
Verdict Forwarder::answer_too_big(Packet& packet, const Parsed& parsed,
                                  std::uint32_t mtu) noexcept {
  const std::uint8_t* mac = mac_on(packet.nic);
  if (mac == nullptr) return drop(MR_DROP_NO_NIC);
  if (!is_answered(packet, parsed)) return drop(MR_DROP_TOO_BIG);
  if (!has_error_headroom(packet, parsed)) return drop(MR_DROP_TOO_BIG);
  if (!too_bigs_.take()) return drop(MR_DROP_RATE_LIMITED);
  answer_with_error(packet, parsed, mac_at(mac), too_big_error(parsed, mtu));
  count(MR_COUNTER_TOO_BIG_SENT);
  return reply(packet);
}

// Of a packet that this node would forward as a router. Its sender, client or target, learns who
// dropped it from the node's own address there (RFC 1812 section 5.3.1, RFC 4443 section 3.3): in
// traceroute's list the node is a hop, and the VIP comes behind it.
Verdict Forwarder::answer_expired(Packet& packet, const Parsed& parsed) noexcept {
  const std::uint8_t* mac = mac_on(packet.nic);
  if (mac == nullptr) return drop(MR_DROP_NO_NIC);
  const mr_nic_addrs& own = *addrs_on(packet.nic);
  const mr_addr& source = parsed.is_v4 ? own.v4 : own.v6;
  const bool can_tell = words_of(source) != AddrWords{0, 0} && is_answered(packet, parsed);
  if (!can_tell || !has_error_headroom(packet, parsed)) return drop(MR_DROP_TTL_EXPIRED);
  if (!expiries_.take()) return drop(MR_DROP_RATE_LIMITED);
  answer_with_error(packet, parsed, mac_at(mac), expired_error(parsed, source));
  count(MR_COUNTER_TIME_EXCEEDED_SENT);
  return reply(packet);
}

// Its source is no martian, and it belongs to no flow.
Verdict Forwarder::handle_unserved(Packet& packet, const Parsed& parsed,
                                   std::uint32_t vip_flags) noexcept {
  const std::uint8_t* mac = mac_on(packet.nic);
  const mr_source_fault source =
      mr_asks_for_source(vip_flags) ? source_fault_of(parsed) : MR_SOURCE_FINE;
  switch (mr_no_listener_of(vip_flags, parsed.protocol, parsed.tcp_flags, source)) {
    case MR_NO_LISTENER_DROP:
      break;
    case MR_NO_LISTENER_FORGED:
      return drop(MR_DROP_MARTIAN);
    case MR_NO_LISTENER_PUNT:
      return punt(packet);
    case MR_NO_LISTENER_RESET:
      if (mac == nullptr) return drop(MR_DROP_NO_NIC);
      if (!refusals_.take()) return drop(MR_DROP_RATE_LIMITED);
      answer_with_reset(packet, parsed, mac_at(mac));
      count(MR_COUNTER_RST_SENT);
      count(MR_COUNTER_REFUSALS_SENT);
      return reply(packet);
    case MR_NO_LISTENER_UNREACHABLE:
      return answer_unreachable(packet, parsed);
  }
  return drop(MR_DROP_NO_LISTENER);
}

Verdict Forwarder::answer_unreachable(Packet& packet, const Parsed& parsed) noexcept {
  const std::uint8_t* mac = mac_on(packet.nic);
  if (mac == nullptr) return drop(MR_DROP_NO_NIC);
  if (!is_answered(packet, parsed)) return drop(MR_DROP_NO_LISTENER);
  if (!has_error_headroom(packet, parsed)) return drop(MR_DROP_NO_LISTENER);
  if (!refusals_.take()) return drop(MR_DROP_RATE_LIMITED);
  answer_with_error(packet, parsed, mac_at(mac), port_unreachable_error(parsed));
  count(MR_COUNTER_REFUSALS_SENT);
  return reply(packet);
}

const mr_table_entry* Forwarder::find_vip(const AddrWords& addr) const noexcept {
  return find_entry(config_.listener_table, addr, 0, 0);
}

bool Forwarder::is_local(const AddrWords& addr) const noexcept {
  return std::ranges::any_of(config_.local_addrs,
                             [&](const mr_addr& local) { return words_of(local) == addr; });
}

Verdict Forwarder::drop(mr_drop_reason reason) noexcept {
  add(counters_.worker->drops[reason], 1);
  return Verdict::drop(reason);
}

}  // namespace millrace::core
