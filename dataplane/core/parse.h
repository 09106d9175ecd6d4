// SPDX-License-Identifier: Apache-2.0
//
// From a frame to the fields that balancing needs. HOT.
//
// parse() knows the shapes that make up nearly all traffic (IPv4 without options or fragments, IPv6
// without extension headers, each with TCP or UDP) and checks every length it relies on. All else
// it names in `shape`: forwarder_local.cc decides whether that is a VIP's, and so ours to answer or
// to drop for `reason`, or the kernel's. Nothing behind packet.length is ever read.
#pragma once

#include <cstdint>

#include "dataplane/core/checksum.h"
#include "dataplane/core/packet.h"
#include "dataplane/core/wire.h"

namespace millrace::core {

enum class Shape : std::uint8_t {
  transport,   // IPv4 or IPv6 with TCP or UDP, every header whole
  drop,        // nobody's packet: `reason` says why
  suspicious,  // an IP packet with an unusable part: drop for `reason` if to a VIP, else punt
  icmp,        // ICMP or ICMPv6, header whole
  not_ip,      // ARP and everything else
  foreign,     // addressed to another machine's MAC address (forwarder.cc)
};

struct Parsed {
  AddrWords source;
  AddrWords destination;
  // port_be | protocol << 16: the form in which the packet path compares and hashes them.
  std::uint32_t source_port_protocol;
  std::uint32_t destination_port_protocol;
  std::uint32_t ip_bytes;  // L3 length as the IP header states it, <= packet.length - 14
  // Side by side, so that glance() writes the four at once.
  Shape shape;
  std::uint8_t reason;  // enum mr_drop_reason, for drop and suspicious
  std::uint8_t protocol;
  bool is_v4;
  std::uint8_t tcp_flags;  // 0 for UDP

  // From the start of the frame: what has options or extension headers is not Shape::transport.
  [[nodiscard]] std::uint32_t l4_offset() const noexcept {
    return eth::kBytes + (is_v4 ? ipv4::kBytes : ipv6::kBytes);
  }
  [[nodiscard]] std::uint16_t source_port_be() const noexcept {
    return static_cast<std::uint16_t>(source_port_protocol);
  }
  [[nodiscard]] std::uint16_t destination_port_be() const noexcept {
    return static_cast<std::uint16_t>(destination_port_protocol);
  }
};

namespace detail {

// Bit i is set when the TCP flag combination i (FIN SYN RST PSH ACK URG) can occur in good faith:
// no SYN with FIN or RST, and nothing but SYN or RST without ACK (fault 9: null, xmas, lone FIN).
[[nodiscard]] constexpr std::uint64_t sane_tcp_flags() noexcept {
  std::uint64_t sane = 0;
  for (std::uint32_t flags = 0; flags < 64; ++flags) {
    const bool fin = (flags & tcp::kFin) != 0;
    const bool syn = (flags & tcp::kSyn) != 0;
    const bool rst = (flags & tcp::kRst) != 0;
    const bool ack = (flags & tcp::kAck) != 0;
    if (syn && (fin || rst)) continue;
    if (!syn && !rst && !ack) continue;
    sane |= std::uint64_t{1} << flags;
  }
  return sane;
}
inline constexpr std::uint64_t kSaneTcpFlags = sane_tcp_flags();

inline void refuse(Parsed& parsed, Shape shape, mr_drop_reason reason) noexcept {
  parsed.shape = shape;
  parsed.reason = static_cast<std::uint8_t>(reason);
}

// `l4` points at `l4_bytes` bytes of TCP or UDP.
inline void parse_transport(const std::uint8_t* l4, std::uint32_t l4_bytes,
                            Parsed& parsed) noexcept {
  parsed.shape = Shape::transport;
  if (parsed.protocol == ip_protocol::kTcp) {
    if (l4_bytes < tcp::kBytes) return refuse(parsed, Shape::suspicious, MR_DROP_BAD_L4);
    const std::uint32_t header_bytes = (l4[tcp::kDataOffset] >> 4) * 4u;
    if (header_bytes < tcp::kBytes || header_bytes > l4_bytes) {
      return refuse(parsed, Shape::suspicious, MR_DROP_BAD_L4);
    }
    parsed.tcp_flags = l4[tcp::kFlags];
    if ((kSaneTcpFlags >> (parsed.tcp_flags & 0x3f) & 1) == 0) {
      return refuse(parsed, Shape::suspicious, MR_DROP_BAD_TCP_FLAGS);
    }
  } else {
    if (l4_bytes < udp::kBytes) return refuse(parsed, Shape::suspicious, MR_DROP_BAD_L4);
    const std::uint32_t udp_bytes = from_be16(load<std::uint16_t>(l4 + udp::kLength));
    if (udp_bytes < udp::kBytes || udp_bytes > l4_bytes) {
      return refuse(parsed, Shape::suspicious, MR_DROP_BAD_L4);
    }
    parsed.tcp_flags = 0;
  }
  const auto ports = load<std::uint32_t>(l4);
  const std::uint32_t protocol_bits = std::uint32_t{parsed.protocol} << 16;
  parsed.source_port_protocol = (ports & 0xffff) | protocol_bits;
  parsed.destination_port_protocol = ports >> 16 | protocol_bits;
}

// Sources that can be no client: 0/8, 127/8, multicast, class E and broadcast, the destination
// itself (RFC 1122 section 3.2.1.3; LAND).
[[nodiscard]] inline bool is_martian_v4(const Parsed& parsed) noexcept {
  const auto first = static_cast<std::uint8_t>(parsed.source.high >> 32);
  return first == 0 || first == 127 || first >= 224 || parsed.source == parsed.destination;
}

// v4-mapped or v4-compatible (RFC 4291 section 2.5.5), :: and ::1 among them. On the wire neither
// is an address; inside, v4-mapped ones stand for IPv4, so they must not come from outside.
[[nodiscard]] inline bool embeds_v4(const AddrWords& addr) noexcept {
  const auto third = static_cast<std::uint32_t>(addr.high);
  return addr.low == 0 && (third == 0 || third == 0xffff0000u);
}

// Such a source or destination, multicast, the destination itself.
[[nodiscard]] inline bool is_martian_v6(const Parsed& parsed) noexcept {
  return embeds_v4(parsed.source) || embeds_v4(parsed.destination) ||
         (parsed.source.low & 0xff) == 0xff || parsed.source == parsed.destination;
}

// What an IPv4 header without options says when it is not IPv4 or has options.
inline void parse_odd_ipv4(const std::uint8_t* ip, Parsed& parsed) noexcept {
  const std::uint32_t header_bytes = (ip[0] & 0x0f) * 4u;
  if (ip[0] >> 4 != 4 || header_bytes < ipv4::kBytes || parsed.ip_bytes < header_bytes) {
    return refuse(parsed, Shape::drop, MR_DROP_BAD_IP_HEADER);
  }
  refuse(parsed, Shape::suspicious, MR_DROP_IP_OPTIONS);
}

inline void parse_ipv4(const std::uint8_t* frame, std::uint32_t frame_bytes,
                       Parsed& parsed) noexcept {
  constexpr std::uint8_t kVersion4NoOptions = 0x45;
  const std::uint8_t* ip = frame + eth::kBytes;
  if (frame_bytes < eth::kBytes + ipv4::kBytes) {
    return refuse(parsed, Shape::drop, MR_DROP_BAD_IP_HEADER);
  }
  parsed.ip_bytes = from_be16(load<std::uint16_t>(ip + ipv4::kTotalLength));
  if (parsed.ip_bytes < ipv4::kBytes || parsed.ip_bytes > frame_bytes - eth::kBytes) {
    return refuse(parsed, Shape::drop, MR_DROP_BAD_IP_HEADER);
  }
  parsed.is_v4 = true;
  parsed.protocol = ip[ipv4::kProtocol];
  parsed.source = v4_words_at(ip + ipv4::kSource);
  parsed.destination = v4_words_at(ip + ipv4::kDestination);
  if (ip[0] != kVersion4NoOptions) [[unlikely]]
    return parse_odd_ipv4(ip, parsed);
  if (!ipv4_checksum_holds(ip)) return refuse(parsed, Shape::drop, MR_DROP_BAD_IP_CHECKSUM);
  if ((load<std::uint16_t>(ip + ipv4::kFragment) & to_be16(ipv4::kFragmentMask)) != 0) {
    return refuse(parsed, Shape::suspicious, MR_DROP_FRAGMENT);
  }
  if (is_martian_v4(parsed)) return refuse(parsed, Shape::suspicious, MR_DROP_MARTIAN);
  if (parsed.protocol == ip_protocol::kTcp || parsed.protocol == ip_protocol::kUdp) [[likely]] {
    return parse_transport(ip + ipv4::kBytes, parsed.ip_bytes - ipv4::kBytes, parsed);
  }
  if (parsed.protocol == ip_protocol::kIcmp && parsed.ip_bytes >= ipv4::kBytes + icmp::kBytes) {
    parsed.shape = Shape::icmp;
    return;
  }
  refuse(parsed, Shape::suspicious,
         parsed.protocol == ip_protocol::kIcmp ? MR_DROP_BAD_L4 : MR_DROP_UNSUPPORTED_PROTOCOL);
}

[[nodiscard]] inline mr_drop_reason reason_for_next_header(std::uint8_t next_header) noexcept {
  switch (next_header) {
    case ip_protocol::kFragment:
      return MR_DROP_FRAGMENT;
    case ip_protocol::kHopByHop:
    case ip_protocol::kRouting:
    case ip_protocol::kEsp:
    case ip_protocol::kAuthentication:
    case ip_protocol::kNoNext:
    case ip_protocol::kDestinationOptions:
      return MR_DROP_IPV6_EXTENSION;
    case ip_protocol::kIcmpv6:
      return MR_DROP_BAD_L4;  // cut short, or parse_ipv6 had taken it
    default:
      return MR_DROP_UNSUPPORTED_PROTOCOL;
  }
}

inline void parse_ipv6(const std::uint8_t* frame, std::uint32_t frame_bytes,
                       Parsed& parsed) noexcept {
  const std::uint8_t* ip = frame + eth::kBytes;
  if (frame_bytes < eth::kBytes + ipv6::kBytes || ip[0] >> 4 != 6) {
    return refuse(parsed, Shape::drop, MR_DROP_BAD_IP_HEADER);
  }
  const std::uint32_t payload_bytes = from_be16(load<std::uint16_t>(ip + ipv6::kPayloadLength));
  if (payload_bytes > frame_bytes - eth::kBytes - ipv6::kBytes) {
    return refuse(parsed, Shape::drop, MR_DROP_BAD_IP_HEADER);
  }
  parsed.ip_bytes = ipv6::kBytes + payload_bytes;
  parsed.is_v4 = false;
  parsed.protocol = ip[ipv6::kNextHeader];
  parsed.source = words_at(ip + ipv6::kSource);
  parsed.destination = words_at(ip + ipv6::kDestination);
  if (parsed.protocol == ip_protocol::kIcmpv6 && payload_bytes >= icmpv6::kBytes) {
    // Duplicate address detection comes from ::, and only that may.
    if (is_martian_v6(parsed) && parsed.source != AddrWords{0, 0}) {
      return refuse(parsed, Shape::suspicious, MR_DROP_MARTIAN);
    }
    parsed.shape = Shape::icmp;
    return;
  }
  if (is_martian_v6(parsed)) return refuse(parsed, Shape::suspicious, MR_DROP_MARTIAN);
  if (parsed.protocol == ip_protocol::kTcp || parsed.protocol == ip_protocol::kUdp) [[likely]] {
    return parse_transport(ip + ipv6::kBytes, payload_bytes, parsed);
  }
  refuse(parsed, Shape::suspicious, reason_for_next_header(parsed.protocol));
}

}  // namespace detail

// Whether the addresses of an IP packet rule out that it is a client's.
[[nodiscard]] inline bool is_martian(const Parsed& parsed) noexcept {
  return parsed.is_v4 ? detail::is_martian_v4(parsed) : detail::is_martian_v6(parsed);
}

// fe80::/10, which means something on one link only and is forwarded by nobody (RFC 4291 section
// 2.5.6). Not part of parse(): neighbours ask for VIPs from such addresses.
[[nodiscard]] inline bool is_link_local(const AddrWords& addr) noexcept {
  return (addr.low & 0xc0ff) == 0x80fe;
}

// Bytes of data in a TCP segment; `parsed` has Shape::transport.
[[nodiscard]] inline std::uint32_t tcp_payload_bytes(const Packet& packet,
                                                     const Parsed& parsed) noexcept {
  const std::uint32_t header_bytes = (packet.data[parsed.l4_offset() + tcp::kDataOffset] >> 4) * 4u;
  return parsed.ip_bytes - (parsed.l4_offset() - eth::kBytes) - header_bytes;
}

// Fills `parsed`; which fields count depends on `shape`: transport has all, suspicious and icmp
// have the addresses, protocol and lengths, drop and not_ip have none.
inline void parse(const Packet& packet, Parsed& parsed) noexcept {
  if (packet.length < eth::kBytes) {
    return detail::refuse(parsed, Shape::drop, MR_DROP_MALFORMED_L2);
  }
  const std::uint16_t type = load<std::uint16_t>(packet.data + eth::kType);
  if (type == be(EtherType::ipv4)) return detail::parse_ipv4(packet.data, packet.length, parsed);
  if (type == be(EtherType::ipv6)) return detail::parse_ipv6(packet.data, packet.length, parsed);
  parsed.shape = Shape::not_ip;
}

}  // namespace millrace::core
