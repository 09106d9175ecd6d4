// SPDX-License-Identifier: Apache-2.0
//
// The short way through parse() for nearly all traffic. HOT.
//
// glance() accepts a complete and well-formed IPv4 or IPv6 packet with TCP or UDP, and nothing
// else. What it does not accept goes to parse(), which finds out what is wrong, if anything. It
// compares several header fields at once. It leaves one check to the first packet of a flow:
// is_martian() in parse.h. No flow has a martian client, so later packets need no such check.
#pragma once

#include <cstdint>

#include "dataplane/core/checksum.h"
#include "dataplane/core/packet.h"
#include "dataplane/core/parse.h"
#include "dataplane/core/wire.h"
#include "dataplane/rules/step_rule.h"

namespace millrace::core {

namespace detail {

inline void accept_transport(const std::uint8_t* l4, std::uint8_t protocol, std::uint32_t tcp_flags,
                             bool is_v4, Parsed& parsed) noexcept {
  const auto ports = load<std::uint32_t>(l4);
  const std::uint32_t protocol_bits = std::uint32_t{protocol} << 16;
  parsed.source_port_protocol = (ports & 0xffff) | protocol_bits;
  parsed.destination_port_protocol = ports >> 16 | protocol_bits;
  parsed.shape = Shape::transport;
  parsed.reason = MR_DROP_NONE;
  parsed.protocol = protocol;
  parsed.is_v4 = is_v4;
  parsed.tcp_flags = static_cast<std::uint8_t>(tcp_flags);
}

// TCP or UDP behind an IP header of `ip_header_bytes`; the header of either is inside the frame.
[[nodiscard]] inline std::uint32_t glance_transport(const std::uint8_t* l4,
                                                    std::uint32_t ip_header_bytes,
                                                    std::uint8_t protocol,
                                                    Parsed& parsed) noexcept {
  const bool is_v4 = ip_header_bytes == MR_IPV4_BYTES;
  if (protocol == MR_PROTOCOL_TCP) [[likely]] {
    const std::uint32_t word = load<std::uint16_t>(l4 + MR_TCP_DATA_OFFSET);
    const std::uint32_t flags = word >> 8;
    const std::uint32_t header_bytes = (word & 0xf0) >> 2;
    if (header_bytes < MR_TCP_BYTES) return MR_FLOW_FREE;
    if (header_bytes > parsed.ip_bytes - ip_header_bytes) return MR_FLOW_FREE;
    accept_transport(l4, MR_PROTOCOL_TCP, flags, is_v4, parsed);
    if ((flags & (MR_TCP_TRACKED | MR_TCP_ACK)) == MR_TCP_ACK) [[likely]]
      return MR_FLOW_ESTABLISHED;
    // It opens, closes or resets (mr_settled_state()).
    return mr_are_sane_tcp_flags(flags) ? std::uint32_t{MR_FLOW_STATE_COUNT}
                                        : std::uint32_t{MR_FLOW_FREE};
  }
  if (protocol != MR_PROTOCOL_UDP) return MR_FLOW_FREE;
  const std::uint32_t udp_bytes = from_be16(load<std::uint16_t>(l4 + MR_UDP_LENGTH));
  if (udp_bytes < MR_UDP_BYTES) return MR_FLOW_FREE;
  if (udp_bytes > parsed.ip_bytes - ip_header_bytes) return MR_FLOW_FREE;
  accept_transport(l4, MR_PROTOCOL_UDP, 0, is_v4, parsed);
  return MR_FLOW_UDP;
}

[[nodiscard]] inline std::uint32_t glance_ipv4(const std::uint8_t* ip, std::uint32_t l3_bytes,
                                               Parsed& parsed) noexcept {
  constexpr std::uint64_t kFragmentBits = std::uint64_t{to_be16(MR_IPV4_FRAGMENT_MASK)} << 48;
  const auto first = load<std::uint64_t>(ip);
  if ((first & (kFragmentBits | 0xff)) != MR_IPV4_NO_OPTIONS) return MR_FLOW_FREE;
  parsed.ip_bytes = from_be16(static_cast<std::uint16_t>(first >> 16));
  if (parsed.ip_bytes < MR_IPV4_BYTES || parsed.ip_bytes > l3_bytes) return MR_FLOW_FREE;
  if (!ipv4_checksum_holds(ip)) return MR_FLOW_FREE;
  const auto second = load<std::uint64_t>(ip + MR_IPV4_TTL);
  parsed.source = v4_words(static_cast<std::uint32_t>(second >> 32));
  parsed.destination = v4_words_at(ip + MR_IPV4_DESTINATION);
  return glance_transport(ip + MR_IPV4_BYTES, MR_IPV4_BYTES, static_cast<std::uint8_t>(second >> 8),
                          parsed);
}

[[nodiscard]] inline std::uint32_t glance_ipv6(const std::uint8_t* ip, std::uint32_t l3_bytes,
                                               Parsed& parsed) noexcept {
  if (l3_bytes < MR_IPV6_BYTES + MR_TCP_BYTES)
    return MR_FLOW_FREE;  // or a short datagram: parse() knows
  const auto first = load<std::uint64_t>(ip);
  if ((first & 0xf0) != 0x60) return MR_FLOW_FREE;
  parsed.ip_bytes = MR_IPV6_BYTES + from_be16(static_cast<std::uint16_t>(first >> 32));
  if (parsed.ip_bytes > l3_bytes) return MR_FLOW_FREE;
  parsed.source = words_at(ip + MR_IPV6_SOURCE);
  parsed.destination = words_at(ip + MR_IPV6_DESTINATION);
  // Inside, v4-mapped addresses are IPv4's: they must not come from outside.
  if (parsed.source.low == 0 || parsed.destination.low == 0) return MR_FLOW_FREE;
  return glance_transport(ip + MR_IPV6_BYTES, MR_IPV6_BYTES, static_cast<std::uint8_t>(first >> 48),
                          parsed);
}

}  // namespace detail

// Bytes that a frame must have for a glance. IPv4 with UDP may be shorter, but hardly is.
inline constexpr std::uint32_t kGlanceBytes = MR_ETH_BYTES + MR_IPV4_BYTES + MR_TCP_BYTES;

// The state of a flow for which the packet, which has kGlanceBytes, changes nothing; MR_FLOW_FREE
// if glance() does not accept the packet. If it does, `parsed` is what parse() makes of the packet.
// The exception are martians, which parse() refuses.
[[nodiscard]] inline std::uint32_t glance(const Packet& packet, Parsed& parsed) noexcept {
  const std::uint32_t l3_bytes = packet.length - MR_ETH_BYTES;
  const std::uint8_t* ip = packet.data + MR_ETH_BYTES;
  const auto type = load<std::uint16_t>(packet.data + MR_ETH_TYPE);
  if (type == be(EtherType::ipv4)) return detail::glance_ipv4(ip, l3_bytes, parsed);
  if (type == be(EtherType::ipv6)) return detail::glance_ipv6(ip, l3_bytes, parsed);
  return MR_FLOW_FREE;
}

}  // namespace millrace::core
