// SPDX-License-Identifier: Apache-2.0
#include "dataplane/core/answer.h"

#include <algorithm>
#include <cstring>

#include "dataplane/core/checksum.h"
#include "dataplane/core/rewrite.h"
#include "dataplane/core/vlan_tag.h"
#include "dataplane/core/wire.h"
#include "dataplane/rules/forwarding_rule.h"
#include "dataplane/rules/reset_rule.h"

namespace millrace::core {
namespace {

void write_macs(std::uint8_t* frame, const std::uint8_t* destination,
                const std::uint8_t* source) noexcept {
  std::memcpy(frame + MR_ETH_DESTINATION, destination, 6);
  std::memcpy(frame + MR_ETH_SOURCE, source, 6);
}

constexpr std::array<std::uint8_t, 6> kBroadcastMac = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
constexpr std::array<std::uint8_t, 6> kAllNodesMac = {0x33, 0x33, 0, 0, 0, 1};
constexpr std::array<std::uint8_t, 16> kAllNodes = {0xff, 2, 0, 0, 0, 0, 0, 0,
                                                    0,    0, 0, 0, 0, 0, 0, 1};
static_assert(MR_ETH_BYTES + MR_IPV6_BYTES + MR_ADVERTISEMENT_BYTES == kAnnouncementBytesMax);

template <std::size_t N>
void put(std::uint8_t* at, const std::array<std::uint8_t, N>& bytes) {
  std::memcpy(at, bytes.data(), N);
}

// All but the checksum, which is the sum's.
void write_error_header(std::uint8_t* message, const OwnError& error) {
  store(message, std::uint32_t{error.type | std::uint32_t{error.code} << 8});
  store(message + MR_ICMP_REST, to_be32(error.rest));
}

void swap_bytes(std::uint8_t* a, std::uint8_t* b, std::size_t count) {
  std::swap_ranges(a, a + count, b);
}

// Back to the neighbour that sent the frame.
void turn_link_header(std::uint8_t* frame, const MacAddr& mac) {
  std::array<std::uint8_t, 6> neighbour;
  std::memcpy(neighbour.data(), frame + MR_ETH_SOURCE, neighbour.size());
  write_macs(frame, neighbour.data(), mac.bytes.data());
}

std::uint16_t ipv6_l4_checksum(const std::uint8_t* ip, std::uint8_t protocol, std::uint32_t bytes) {
  return transport_checksum({ip + MR_IPV6_SOURCE, 16}, {ip + MR_IPV6_DESTINATION, 16}, protocol,
                            {ip + MR_IPV6_BYTES, bytes});
}

void write_ipv4_checksum(std::uint8_t* ip) {
  store(ip + MR_IPV4_CHECKSUM, std::uint16_t{0});
  store(ip + MR_IPV4_CHECKSUM,
        static_cast<std::uint16_t>(~mr_fold(sum_bytes({ip, std::size_t{MR_IPV4_BYTES}}))));
}

// Writes what follows the IPv6 addresses of an advertisement of `bytes` bytes; the addresses are in
// place.
void write_advertisement(std::uint8_t* frame, std::uint32_t bytes, std::uint8_t flags,
                         const MacAddr& mac) {
  std::uint8_t* ip = frame + MR_ETH_BYTES;
  store(ip, to_be32(MR_IPV6_VERSION));
  store(ip + MR_IPV6_PAYLOAD_LENGTH, to_be16(static_cast<std::uint16_t>(bytes)));
  ip[MR_IPV6_NEXT_HEADER] = MR_PROTOCOL_ICMPV6;
  ip[MR_IPV6_HOP_LIMIT] = MR_NEIGHBOUR_HOPS;
  std::uint8_t* icmp = ip + MR_IPV6_BYTES;
  icmp[0] = MR_ICMPV6_NEIGHBOUR_ADVERTISEMENT;
  icmp[1] = 0;
  store(icmp + MR_ICMP_CHECKSUM, std::uint16_t{0});
  store(icmp + 4, std::uint32_t{flags});
  if (bytes == MR_ADVERTISEMENT_BYTES) {
    std::uint8_t* option = icmp + MR_NEIGHBOUR_BYTES;
    option[0] = MR_LINK_ADDRESS_OPTION;
    option[1] = 1;
    put(option + 2, mac.bytes);
  }
  store(icmp + MR_ICMP_CHECKSUM, ipv6_l4_checksum(ip, MR_PROTOCOL_ICMPV6, bytes));
}

mr_segment segment_of(const Packet& packet, const Parsed& parsed) {
  const std::uint8_t* l4 = packet.data + parsed.l4_offset();
  return {.sequence = from_be32(load<std::uint32_t>(l4 + MR_TCP_SEQUENCE)),
          .acknowledgement = from_be32(load<std::uint32_t>(l4 + MR_TCP_ACKNOWLEDGEMENT)),
          .tcp_flags = parsed.tcp_flags,
          .occupied = mr_occupied_numbers(tcp_payload_bytes(packet, parsed), parsed.tcp_flags)};
}

// Addresses and ports are in place.
void write_reset(Packet& packet, const Parsed& parsed, const mr_reset& reset) {
  std::uint8_t* ip = packet.data + MR_ETH_BYTES;
  std::uint8_t* l4 = packet.data + parsed.l4_offset();
  store(l4 + MR_TCP_SEQUENCE, to_be32(reset.sequence));
  store(l4 + MR_TCP_ACKNOWLEDGEMENT, to_be32(reset.acknowledgement));
  l4[MR_TCP_DATA_OFFSET] = MR_TCP_BYTES / 4 << 4;
  l4[MR_TCP_FLAGS] = reset.tcp_flags;
  std::memset(l4 + MR_TCP_WINDOW, 0, MR_TCP_BYTES - MR_TCP_WINDOW);  // checksum, urgent pointer
  if (parsed.is_v4) {
    store(ip + MR_IPV4_TOTAL_LENGTH, to_be16(MR_IPV4_BYTES + MR_TCP_BYTES));
    write_ipv4_checksum(ip);
    store(l4 + MR_TCP_CHECKSUM,
          transport_checksum({ip + MR_IPV4_SOURCE, 4}, {ip + MR_IPV4_DESTINATION, 4},
                             MR_PROTOCOL_TCP, {l4, std::size_t{MR_TCP_BYTES}}));
  } else {
    store(ip + MR_IPV6_PAYLOAD_LENGTH, to_be16(MR_TCP_BYTES));
    store(l4 + MR_TCP_CHECKSUM, ipv6_l4_checksum(ip, MR_PROTOCOL_TCP, MR_TCP_BYTES));
  }
  packet.length = parsed.l4_offset() + MR_TCP_BYTES;
}

}  // namespace

bool is_arp_request(const Packet& packet) noexcept {
  return packet.length >= MR_ETH_BYTES + MR_ARP_BYTES &&
         load<std::uint16_t>(packet.data + MR_ETH_TYPE) == be(EtherType::arp) &&
         load<std::uint64_t>(packet.data + MR_ETH_BYTES) == to_be64(MR_ARP_REQUEST);
}

AddrWords arp_target(const Packet& packet) noexcept {
  return v4_words_at(packet.data + MR_ETH_BYTES + MR_ARP_TARGET_IP);
}

void answer_arp(Packet& packet, const MacAddr& mac) noexcept {
  std::uint8_t* body = packet.data + MR_ETH_BYTES;
  store(body, to_be64(MR_ARP_REPLY));
  swap_bytes(body + MR_ARP_SENDER_MAC, body + MR_ARP_TARGET_MAC, 6 + 4);
  put(body + MR_ARP_SENDER_MAC, mac.bytes);
  write_macs(packet.data, body + MR_ARP_TARGET_MAC, mac.bytes.data());
}

bool is_neighbour_solicitation(const Packet& packet, const Parsed& parsed) noexcept {
  const std::uint8_t* ip = packet.data + MR_ETH_BYTES;
  const std::uint8_t* icmp = packet.data + parsed.l4_offset();
  const std::uint32_t bytes = parsed.ip_bytes - MR_IPV6_BYTES;
  if (parsed.is_v4 || icmp[0] != MR_ICMPV6_NEIGHBOUR_SOLICITATION || icmp[1] != 0 ||
      bytes < MR_NEIGHBOUR_BYTES || ip[MR_IPV6_HOP_LIMIT] != MR_NEIGHBOUR_HOPS ||
      icmp[MR_NEIGHBOUR_TARGET] == 0xff) {
    return false;
  }
  // With a right checksum in place the sum is 0xffff, whose complement is 0.
  return ipv6_l4_checksum(ip, MR_PROTOCOL_ICMPV6, bytes) == 0;
}

AddrWords solicited_target(const Packet& packet) noexcept {
  return words_at(packet.data + MR_ETH_BYTES + MR_IPV6_BYTES + MR_NEIGHBOUR_TARGET);
}

bool answer_neighbour_solicitation(Packet& packet, const Parsed& parsed,
                                   const MacAddr& mac) noexcept {
  std::uint8_t* ip = packet.data + MR_ETH_BYTES;
  // The frame's buffer may end where the frame does. A solicitation with an option (source
  // link-layer address, nonce) has room for our option. One without is answered without, as section
  // 7.2.4 allows for unicast. Only a duplicate address probe without a nonce can't be answered in
  // place.
  const bool is_probe = parsed.source == AddrWords{0, 0};
  const bool has_room = packet.length >= MR_ETH_BYTES + MR_IPV6_BYTES + MR_ADVERTISEMENT_BYTES;
  if (is_probe && !has_room) return false;
  const std::uint32_t bytes = has_room ? MR_ADVERTISEMENT_BYTES : MR_NEIGHBOUR_BYTES;
  if (is_probe) {
    put(ip + MR_IPV6_DESTINATION, kAllNodes);
    write_macs(packet.data, kAllNodesMac.data(), mac.bytes.data());
  } else {
    std::memcpy(ip + MR_IPV6_DESTINATION, ip + MR_IPV6_SOURCE, 16);
    turn_link_header(packet.data, mac);
  }
  std::memcpy(ip + MR_IPV6_SOURCE, ip + MR_IPV6_BYTES + MR_NEIGHBOUR_TARGET, 16);
  write_advertisement(
      packet.data, bytes,
      is_probe ? MR_NEIGHBOUR_OVERRIDE : MR_NEIGHBOUR_SOLICITED | MR_NEIGHBOUR_OVERRIDE, mac);
  packet.length = MR_ETH_BYTES + MR_IPV6_BYTES + bytes;
  return true;
}

bool is_echo_request(const Packet& packet, const Parsed& parsed) noexcept {
  const std::uint8_t* icmp = packet.data + parsed.l4_offset();
  return mr_is_echo_request(parsed.is_v4, icmp[0], icmp[1]);
}

void answer_echo(Packet& packet, const Parsed& parsed, const MacAddr& mac) noexcept {
  std::uint8_t* ip = packet.data + MR_ETH_BYTES;
  std::uint8_t* icmp = packet.data + parsed.l4_offset();
  const std::uint8_t type = icmp[0];
  icmp[0] = parsed.is_v4 ? MR_ICMPV4_ECHO_REPLY : MR_ICMPV6_ECHO_REPLY;
  // Swapping the addresses leaves the pseudo-header's sum as it was; only the type changes.
  const auto checksum = load<std::uint16_t>(icmp + MR_ICMP_CHECKSUM);
  store(icmp + MR_ICMP_CHECKSUM, mr_checksum_of_type(checksum, type, icmp[0]));
  if (parsed.is_v4) {
    swap_bytes(ip + MR_IPV4_SOURCE, ip + MR_IPV4_DESTINATION, 4);
    ip[MR_IPV4_TTL] = MR_OWN_HOPS;
    write_ipv4_checksum(ip);
  } else {
    swap_bytes(ip + MR_IPV6_SOURCE, ip + MR_IPV6_DESTINATION, 16);
    ip[MR_IPV6_HOP_LIMIT] = MR_OWN_HOPS;
  }
  turn_link_header(packet.data, mac);
}

void answer_with_reset(Packet& packet, const Parsed& parsed, const MacAddr& mac) noexcept {
  std::uint8_t* ip = packet.data + MR_ETH_BYTES;
  std::uint8_t* l4 = packet.data + parsed.l4_offset();
  const mr_reset reset = mr_answering_reset(segment_of(packet, parsed));
  swap_bytes(l4, l4 + 2, 2);
  if (parsed.is_v4) {
    swap_bytes(ip + MR_IPV4_SOURCE, ip + MR_IPV4_DESTINATION, 4);
    ip[MR_IPV4_TTL] = MR_OWN_HOPS;
  } else {
    swap_bytes(ip + MR_IPV6_SOURCE, ip + MR_IPV6_DESTINATION, 16);
    ip[MR_IPV6_HOP_LIMIT] = MR_OWN_HOPS;
  }
  turn_link_header(packet.data, mac);
  write_reset(packet, parsed, reset);
}

void become_reset(Packet& packet, Parsed& parsed) noexcept {
  write_reset(packet, parsed, mr_passing_reset(segment_of(packet, parsed)));
  parsed.tcp_flags = MR_TCP_RST;
  parsed.ip_bytes = packet.length - MR_ETH_BYTES;
}

OwnError too_big_error(const Parsed& parsed, std::uint32_t mtu) noexcept {
  return {.source = parsed.destination,
          .type = parsed.is_v4 ? std::uint8_t{MR_ICMPV4_UNREACHABLE}
                               : std::uint8_t{MR_ICMPV6_PACKET_TOO_BIG},
          .code = parsed.is_v4 ? std::uint8_t{MR_ICMPV4_FRAGMENTATION_NEEDED} : std::uint8_t{0},
          .rest = mr_told_mtu(mtu, parsed.is_v4)};
}

OwnError expired_error(const Parsed& parsed, const mr_addr& own) noexcept {
  return {.source = words_of(own),
          .type = parsed.is_v4 ? std::uint8_t{MR_ICMPV4_TIME_EXCEEDED}
                               : std::uint8_t{MR_ICMPV6_TIME_EXCEEDED},
          .code = 0,
          .rest = 0};
}

OwnError port_unreachable_error(const Parsed& parsed) noexcept {
  return {.source = parsed.destination,
          .type = parsed.is_v4 ? std::uint8_t{MR_ICMPV4_UNREACHABLE}
                               : std::uint8_t{MR_ICMPV6_UNREACHABLE},
          .code = parsed.is_v4 ? std::uint8_t{MR_ICMPV4_PORT_UNREACHABLE}
                               : std::uint8_t{MR_ICMPV6_PORT_UNREACHABLE},
          .rest = 0};
}

void answer_with_error(Packet& packet, const Parsed& parsed, const MacAddr& mac,
                       const OwnError& error) noexcept {
  const std::uint32_t room = error_headroom(parsed);
  const std::uint32_t quoted =
      std::min(parsed.ip_bytes, parsed.l4_offset() - MR_ETH_BYTES + MR_QUOTED_L4_BYTES);
  const std::uint8_t* quote = packet.data + MR_ETH_BYTES;
  packet.data -= room;
  packet.headroom = static_cast<std::uint16_t>(packet.headroom - room);
  packet.length = MR_ETH_BYTES + room + quoted;
  std::memmove(packet.data, packet.data + room, MR_ETH_BYTES);
  turn_link_header(packet.data, mac);
  std::uint8_t* ip = packet.data + MR_ETH_BYTES;
  if (parsed.is_v4) {
    const std::uint32_t bytes = MR_IPV4_BYTES + MR_ICMP_BYTES + quoted;
    store(ip, MR_IPV4_NO_OPTIONS | std::uint32_t{to_be16(static_cast<std::uint16_t>(bytes))} << 16);
    store(ip + 4, std::uint32_t{0});  // identification, fragment
    ip[MR_IPV4_TTL] = MR_OWN_HOPS;
    ip[MR_IPV4_PROTOCOL] = MR_PROTOCOL_ICMP;
    store(ip + MR_IPV4_SOURCE, static_cast<std::uint32_t>(error.source.high >> 32));
    std::memcpy(ip + MR_IPV4_DESTINATION, quote + MR_IPV4_SOURCE, 4);
    write_ipv4_checksum(ip);
    std::uint8_t* message = ip + MR_IPV4_BYTES;
    write_error_header(message, error);
    store(message + MR_ICMP_CHECKSUM,
          static_cast<std::uint16_t>(~mr_fold(sum_bytes({message, MR_ICMP_BYTES + quoted}))));
    return;
  }
  store(ip, to_be32(MR_IPV6_VERSION));
  store(ip + MR_IPV6_PAYLOAD_LENGTH, to_be16(static_cast<std::uint16_t>(MR_ICMP_BYTES + quoted)));
  ip[MR_IPV6_NEXT_HEADER] = MR_PROTOCOL_ICMPV6;
  ip[MR_IPV6_HOP_LIMIT] = MR_OWN_HOPS;
  store(ip + MR_IPV6_SOURCE, error.source.low);
  store(ip + MR_IPV6_SOURCE + 8, error.source.high);
  std::memcpy(ip + MR_IPV6_DESTINATION, quote + MR_IPV6_SOURCE, 16);
  std::uint8_t* message = ip + MR_IPV6_BYTES;
  write_error_header(message, error);
  store(message + MR_ICMP_CHECKSUM,
        ipv6_l4_checksum(ip, MR_PROTOCOL_ICMPV6, MR_ICMP_BYTES + quoted));
}

std::uint32_t build_announcement(const mr_addr& vip, const MacAddr& mac,
                                 std::span<std::uint8_t> frame) noexcept {
  std::uint8_t* body = frame.data() + MR_ETH_BYTES;
  if (is_v4(vip)) {
    write_macs(frame.data(), kBroadcastMac.data(), mac.bytes.data());
    store(frame.data() + MR_ETH_TYPE, be(EtherType::arp));
    store(body, to_be64(MR_ARP_REQUEST));
    put(body + MR_ARP_SENDER_MAC, mac.bytes);
    store(body + MR_ARP_SENDER_IP, v4_of(vip));
    std::memset(body + MR_ARP_TARGET_MAC, 0, 6);
    store(body + MR_ARP_TARGET_IP, v4_of(vip));
    return MR_ETH_BYTES + MR_ARP_BYTES;
  }
  write_macs(frame.data(), kAllNodesMac.data(), mac.bytes.data());
  store(frame.data() + MR_ETH_TYPE, be(EtherType::ipv6));
  std::memcpy(body + MR_IPV6_SOURCE, vip.bytes, 16);
  put(body + MR_IPV6_DESTINATION, kAllNodes);
  std::memcpy(body + MR_IPV6_BYTES + MR_NEIGHBOUR_TARGET, vip.bytes, 16);
  write_advertisement(frame.data(), MR_ADVERTISEMENT_BYTES, MR_NEIGHBOUR_OVERRIDE, mac);
  return kAnnouncementBytesMax;
}

std::uint32_t build_announcement(const mr_addr& vip, const mr_vlan& vlan,
                                 std::span<std::uint8_t> frame) noexcept {
  MacAddr mac;
  std::memcpy(mac.bytes.data(), vlan.mac, sizeof(vlan.mac));
  Packet packet{.data = frame.data() + MR_VLAN_BYTES,
                .length = build_announcement(vip, mac, frame.subspan(MR_VLAN_BYTES)),
                .headroom = MR_VLAN_BYTES,
                .nic = vlan.nic,
                .reserved = 0};
  put_on(packet, vlan.tag);
  return packet.length;
}

}  // namespace millrace::core
