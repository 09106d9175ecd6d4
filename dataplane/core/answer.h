// SPDX-License-Identifier: Apache-2.0
//
// Turning a frame into the engine's own answer to it, in place, and frames that announce VIPs.
// Warm.
//
// Each function expects a frame whose headers parse() or its own check found whole, and leaves
// `packet.length` right. None allocates; all write only inside the frame they were given.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "dataplane/contract/config_abi.h"
#include "dataplane/contract/flow_abi.h"
#include "dataplane/core/packet.h"
#include "dataplane/core/parse.h"

namespace millrace::core {

struct MacAddr {
  std::array<std::uint8_t, 6> bytes{};
  friend bool operator==(const MacAddr&, const MacAddr&) = default;
};

// An ARP request over Ethernet and IPv4 (RFC 826) for an address; false for any other frame.
[[nodiscard]] bool is_arp_request(const Packet& packet) noexcept;
// The address that an ARP request asks for, v4-mapped.
[[nodiscard]] AddrWords arp_target(const Packet& packet) noexcept;
// Request -> reply that says `mac` has the address asked for.
void answer_arp(Packet& packet, const MacAddr& mac) noexcept;

// A neighbour solicitation (RFC 4861 section 4.3) that is valid by section 7.1.1: hop limit 255,
// code 0, right checksum, unicast target. `parsed` has Shape::icmp.
[[nodiscard]] bool is_neighbour_solicitation(const Packet& packet, const Parsed& parsed) noexcept;
[[nodiscard]] AddrWords solicited_target(const Packet& packet) noexcept;
// Solicitation -> advertisement with the target link-layer address option. A solicitation from ::
// (duplicate address detection) is answered to all nodes. False when the frame is too short to be
// turned around in place; it is then unchanged.
[[nodiscard]] bool answer_neighbour_solicitation(Packet& packet, const Parsed& parsed,
                                                 const MacAddr& mac) noexcept;

// ICMP or ICMPv6 echo request with code 0 (RFC 792, RFC 4443 section 4.1).
[[nodiscard]] bool is_echo_request(const Packet& packet, const Parsed& parsed) noexcept;
// Request -> reply: addresses swapped, payload untouched, back to the neighbour it came from.
void answer_echo(Packet& packet, const Parsed& parsed, const MacAddr& mac) noexcept;

// TCP segment -> the RST that answers it (RFC 9293 section 3.10.7.1, "If the state is CLOSED"),
// back to the neighbour it came from. The segment itself must not be a RST.
void answer_with_reset(Packet& packet, const Parsed& parsed, const MacAddr& mac) noexcept;

// TCP segment of a connection that is over here -> the RST that its sender would send to its
// receiver. The caller forwards it; `parsed` then describes the RST. The receiver believes only the
// sequence number that it expects next (RFC 5961 section 3.2). That is the number of the segment,
// except that a keep-alive has one less (RFC 9293 section 3.8.4). So a segment that looks like a
// keep-alive gives a RST with a number that is one higher. If that is wrong, the receiver sends a
// challenge ACK with the right number.
void become_reset(Packet& packet, Parsed& parsed) noexcept;

// An ICMP error of the node's own about a packet.
struct OwnError {
  AddrWords source;  // whose word it is
  std::uint8_t type;
  std::uint8_t code;
  std::uint32_t rest;  // of the header
};
// "Fragmentation needed" (RFC 792, RFC 1191 section 4) or "packet too big" (RFC 4443 section 3.2),
// from the packet's destination. `mtu` is the largest packet that would go through; below 1280 an
// IPv6 sender would not believe it (RFC 8201 section 4), so it is told 1280.
[[nodiscard]] OwnError too_big_error(const Parsed& parsed, std::uint32_t mtu) noexcept;
// "Time exceeded in transit" (RFC 792, RFC 4443 section 3.3) from `own`, an address of the node's.
[[nodiscard]] OwnError expired_error(const Parsed& parsed, const mr_addr& own) noexcept;
// "Port unreachable" (RFC 792, RFC 4443 section 3.1) from the packet's destination: the word of a
// host.
[[nodiscard]] OwnError port_unreachable_error(const Parsed& parsed) noexcept;

// Headroom that answer_with_error() needs: what it quotes stays where it is.
[[nodiscard]] constexpr std::uint32_t error_headroom(const Parsed& parsed) noexcept {
  return parsed.is_v4 ? MR_IPV4_BYTES + MR_ICMP_BYTES : MR_IPV6_BYTES + MR_ICMP_BYTES;
}
// Packet -> the error about it, back to the neighbour it came from. Quotes the IP header and up to
// 64 bytes behind it: ports and whatever TCP needs to find its connection. `parsed` has
// Shape::transport.
void answer_with_error(Packet& packet, const Parsed& parsed, const MacAddr& mac,
                       const OwnError& error) noexcept;

inline constexpr std::uint32_t kAnnouncementBytesMax = 86;

// Writes a gratuitous ARP request (RFC 5227 section 3) for an IPv4 VIP or an unsolicited neighbour
// advertisement to all nodes with the override flag (RFC 4861 section 7.2.6) for an IPv6 one, and
// returns its length. `frame` has kAnnouncementBytesMax bytes.
std::uint32_t build_announcement(const mr_addr& vip, const MacAddr& mac,
                                 std::span<std::uint8_t> frame) noexcept;
// Likewise, in a VLAN. `frame` has MR_VLAN_BYTES more.
std::uint32_t build_announcement(const mr_addr& vip, const mr_vlan& vlan,
                                 std::span<std::uint8_t> frame) noexcept;

}  // namespace millrace::core
