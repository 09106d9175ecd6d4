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
  return mr_is_icmp_error(parsed.is_v4, packet.data[parsed.l4_offset()]);
}

// Nothing when less than addresses and ports is quoted, or another protocol.
[[nodiscard]] inline std::optional<Quote> quote_of(const Packet& packet,
                                                   const Parsed& parsed) noexcept {
  const std::uint8_t* ip = packet.data + parsed.l4_offset() + MR_ICMP_BYTES;
  const std::uint32_t bytes = MR_ETH_BYTES + parsed.ip_bytes - parsed.l4_offset() - MR_ICMP_BYTES;
  Quote quote{};
  std::uint32_t header_bytes = MR_IPV6_BYTES;
  if (parsed.is_v4) {
    if (bytes < MR_IPV4_BYTES) return std::nullopt;
    header_bytes = (ip[0] & 0x0f) * 4u;
    if (ip[0] >> 4 != 4 || header_bytes < MR_IPV4_BYTES) return std::nullopt;
    quote.source = v4_words_at(ip + MR_IPV4_SOURCE);
    quote.destination = v4_words_at(ip + MR_IPV4_DESTINATION);
    quote.protocol = ip[MR_IPV4_PROTOCOL];
  } else {
    if (bytes < MR_IPV6_BYTES || ip[0] >> 4 != 6) return std::nullopt;
    quote.source = words_at(ip + MR_IPV6_SOURCE);
    quote.destination = words_at(ip + MR_IPV6_DESTINATION);
    quote.protocol = ip[MR_IPV6_NEXT_HEADER];
  }
  if (!mr_is_transport(quote.protocol) || bytes < header_bytes + MR_L4_PORTS_BYTES)
    return std::nullopt;
  quote.source_port_be = load<std::uint16_t>(ip + header_bytes);
  quote.destination_port_be = load<std::uint16_t>(ip + header_bytes + MR_L4_DESTINATION_PORT);
  return quote;
}

}  // namespace millrace::core
