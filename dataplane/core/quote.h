// SPDX-License-Identifier: Apache-2.0
//
// ICMP errors and the packet that they quote (RFC 792, RFC 4443 section 3). Warm.
#pragma once

#include <cstdint>
#include <optional>

#include "dataplane/core/packet.h"
#include "dataplane/core/parse.h"
#include "dataplane/core/wire.h"

namespace millrace::core {

// What is known of the packet that an error is about.
struct Quote {
  AddrWords source;
  AddrWords destination;
  std::uint16_t source_port_be;
  std::uint16_t destination_port_be;
  std::uint8_t protocol;  // TCP or UDP
};

// `parsed` has Shape::icmp.
[[nodiscard]] inline bool is_icmp_error(const Packet& packet, const Parsed& parsed) noexcept {
  const std::uint8_t type = packet.data[parsed.l4_offset()];
  if (!parsed.is_v4) return type >= icmpv6::kErrorFirst && type <= icmpv6::kErrorLast;
  return type == icmp::kUnreachable || type == icmp::kTimeExceeded ||
         type == icmp::kParameterProblem;
}

// Nothing when less than addresses and ports is quoted, or another protocol.
[[nodiscard]] inline std::optional<Quote> quote_of(const Packet& packet,
                                                   const Parsed& parsed) noexcept {
  constexpr std::uint32_t kPorts = 4;
  const std::uint8_t* ip = packet.data + parsed.l4_offset() + icmp::kBytes;
  const std::uint32_t bytes = eth::kBytes + parsed.ip_bytes - parsed.l4_offset() - icmp::kBytes;
  Quote quote{};
  std::uint32_t header_bytes = ipv6::kBytes;
  if (parsed.is_v4) {
    if (bytes < ipv4::kBytes) return std::nullopt;
    header_bytes = (ip[0] & 0x0f) * 4u;
    if (ip[0] >> 4 != 4 || header_bytes < ipv4::kBytes) return std::nullopt;
    quote.source = v4_words_at(ip + ipv4::kSource);
    quote.destination = v4_words_at(ip + ipv4::kDestination);
    quote.protocol = ip[ipv4::kProtocol];
  } else {
    if (bytes < ipv6::kBytes || ip[0] >> 4 != 6) return std::nullopt;
    quote.source = words_at(ip + ipv6::kSource);
    quote.destination = words_at(ip + ipv6::kDestination);
    quote.protocol = ip[ipv6::kNextHeader];
  }
  const bool has_ports = quote.protocol == ip_protocol::kTcp || quote.protocol == ip_protocol::kUdp;
  if (!has_ports || bytes < header_bytes + kPorts) return std::nullopt;
  quote.source_port_be = load<std::uint16_t>(ip + header_bytes);
  quote.destination_port_be = load<std::uint16_t>(ip + header_bytes + 2);
  return quote;
}

}  // namespace millrace::core
