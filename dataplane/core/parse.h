// SPDX-License-Identifier: Apache-2.0
//
// From a frame to the fields that balancing needs. HOT.
//
// parse() knows the shapes of nearly all traffic: IPv4 without options and IPv6 without extension
// headers, each with TCP or UDP. It checks every length that it relies on, and never reads behind
// packet.length. For any other packet `shape` says what it is. forwarder_fragment.cc goes on with
// fragments of UDP, forwarder_local.cc with the rest: a packet to a VIP is answered, or dropped for
// `reason`; all others are the kernel's.
#pragma once

#include <cstdint>

#include "dataplane/core/checksum.h"
#include "dataplane/core/fragment.h"
#include "dataplane/core/packet.h"
#include "dataplane/core/wire.h"
#include "dataplane/rules/address_rule.h"
#include "dataplane/rules/header_rule.h"

namespace millrace::core {

enum class Shape : std::uint8_t {
  transport,   // IPv4 or IPv6 with TCP or UDP, every header whole
  fragment,    // of UDP; a later one's ports are 0 until the first one's are known
  drop,        // nobody's packet: `reason` says why
  suspicious,  // an IP packet with an unusable part: drop for `reason` if to a VIP, else punt
  icmp,        // ICMP or ICMPv6, header whole
  not_ip,      // ARP and everything else
  foreign,     // addressed to another machine's MAC address (forwarder_link.cc)
  handed,      // with a VLAN's tag, of a flow of the worker `owner`
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
  std::uint8_t owner;      // with Shape::fragment and handed: the worker to give the packet to

  // From the start of the frame: what has options or extension headers is not Shape::transport.
  [[nodiscard]] std::uint32_t l4_offset() const noexcept {
    return MR_ETH_BYTES + (is_v4 ? MR_IPV4_BYTES : MR_IPV6_BYTES);
  }
  [[nodiscard]] std::uint16_t source_port_be() const noexcept {
    return static_cast<std::uint16_t>(source_port_protocol);
  }
  [[nodiscard]] std::uint16_t destination_port_be() const noexcept {
    return static_cast<std::uint16_t>(destination_port_protocol);
  }
};

namespace detail {

inline void refuse(Parsed& parsed, Shape shape, mr_drop_reason reason) noexcept {
  parsed.shape = shape;
  parsed.reason = static_cast<std::uint8_t>(reason);
}

// `ports`: as they lie in the header of TCP or UDP.
inline void set_ports(std::uint32_t ports, Parsed& parsed) noexcept {
  const std::uint32_t protocol_bits = std::uint32_t{parsed.protocol} << 16;
  parsed.source_port_protocol = (ports & 0xffff) | protocol_bits;
  parsed.destination_port_protocol = ports >> 16 | protocol_bits;
}

// `l4` points at `l4_bytes` bytes of TCP or UDP.
inline void parse_transport(const std::uint8_t* l4, std::uint32_t l4_bytes,
                            Parsed& parsed) noexcept {
  parsed.shape = Shape::transport;
  if (parsed.protocol == MR_PROTOCOL_TCP) {
    if (l4_bytes < MR_TCP_BYTES) return refuse(parsed, Shape::suspicious, MR_DROP_BAD_L4);
    const std::uint32_t header_bytes = mr_tcp_header_bytes(l4[MR_TCP_DATA_OFFSET]);
    if (!mr_fits_l4(header_bytes, MR_TCP_BYTES, l4_bytes)) {
      return refuse(parsed, Shape::suspicious, MR_DROP_BAD_L4);
    }
    parsed.tcp_flags = l4[MR_TCP_FLAGS];
    if (!mr_are_sane_tcp_flags(parsed.tcp_flags)) {
      return refuse(parsed, Shape::suspicious, MR_DROP_BAD_TCP_FLAGS);
    }
  } else {
    if (l4_bytes < MR_UDP_BYTES) return refuse(parsed, Shape::suspicious, MR_DROP_BAD_L4);
    const std::uint32_t udp_bytes = from_be16(load<std::uint16_t>(l4 + MR_UDP_LENGTH));
    if (!mr_fits_l4(udp_bytes, MR_UDP_BYTES, l4_bytes)) {
      return refuse(parsed, Shape::suspicious, MR_DROP_BAD_L4);
    }
    parsed.tcp_flags = 0;
  }
  set_ports(load<std::uint32_t>(l4), parsed);
}

// A fragment of any protocol; only those of UDP are forwarded. The headers in front of its data are
// whole.
inline void parse_fragment(const std::uint8_t* frame, Parsed& parsed) noexcept {
  const Fragment fragment = fragment_at(frame, parsed.is_v4);
  if (fragment.protocol != MR_PROTOCOL_UDP) {
    return refuse(parsed, Shape::suspicious, MR_DROP_FRAGMENT);
  }
  const std::uint8_t* udp = frame + fragment.data_offset;
  const std::uint32_t data_bytes = MR_ETH_BYTES + parsed.ip_bytes - fragment.data_offset;
  const mr_fragment_kind kind = mr_fragment_kind_of(fragment.place, data_bytes, parsed.is_v4);
  if (kind == MR_FRAGMENT_UNFIT) return refuse(parsed, Shape::suspicious, MR_DROP_FRAGMENT);
  parsed.shape = Shape::fragment;
  parsed.protocol = MR_PROTOCOL_UDP;
  parsed.tcp_flags = 0;
  if (kind == MR_FRAGMENT_LATER) return set_ports(0, parsed);
  const std::uint32_t udp_bytes = from_be16(load<std::uint16_t>(udp + MR_UDP_LENGTH));
  if (!mr_fits_fragment(udp_bytes, kind, data_bytes)) {
    return refuse(parsed, Shape::suspicious, MR_DROP_BAD_L4);
  }
  set_ports(load<std::uint32_t>(udp), parsed);
}

[[nodiscard]] inline bool is_martian_v4(const Parsed& parsed) noexcept {
  return mr_is_martian_v4(parsed.source.high >> 32 & 0xff, parsed.source == parsed.destination);
}

[[nodiscard]] inline bool embeds_v4(const AddrWords& addr) noexcept {
  return mr_embeds_v4(addr.low, addr.high);
}

[[nodiscard]] inline bool is_martian_v6(const Parsed& parsed) noexcept {
  return mr_is_martian_v6(embeds_v4(parsed.source), embeds_v4(parsed.destination),
                          parsed.source.low, parsed.source == parsed.destination);
}

// What an IPv4 header without options says when it is not IPv4 or has options.
inline void parse_odd_ipv4(const std::uint8_t* ip, Parsed& parsed) noexcept {
  const std::uint32_t header_bytes = (ip[0] & 0x0f) * 4u;
  if (ip[0] >> 4 != 4 || header_bytes < MR_IPV4_BYTES || parsed.ip_bytes < header_bytes) {
    return refuse(parsed, Shape::drop, MR_DROP_BAD_IP_HEADER);
  }
  refuse(parsed, Shape::suspicious, MR_DROP_IP_OPTIONS);
}

inline void parse_ipv4(const std::uint8_t* frame, std::uint32_t frame_bytes,
                       Parsed& parsed) noexcept {
  const std::uint8_t* ip = frame + MR_ETH_BYTES;
  if (frame_bytes < MR_ETH_BYTES + MR_IPV4_BYTES) {
    return refuse(parsed, Shape::drop, MR_DROP_BAD_IP_HEADER);
  }
  parsed.ip_bytes = from_be16(load<std::uint16_t>(ip + MR_IPV4_TOTAL_LENGTH));
  if (parsed.ip_bytes < MR_IPV4_BYTES || parsed.ip_bytes > frame_bytes - MR_ETH_BYTES) {
    return refuse(parsed, Shape::drop, MR_DROP_BAD_IP_HEADER);
  }
  parsed.is_v4 = true;
  parsed.protocol = ip[MR_IPV4_PROTOCOL];
  parsed.source = v4_words_at(ip + MR_IPV4_SOURCE);
  parsed.destination = v4_words_at(ip + MR_IPV4_DESTINATION);
  if (ip[0] != MR_IPV4_NO_OPTIONS) [[unlikely]]
    return parse_odd_ipv4(ip, parsed);
  if (!ipv4_checksum_holds(ip)) return refuse(parsed, Shape::drop, MR_DROP_BAD_IP_CHECKSUM);
  if (is_martian_v4(parsed)) return refuse(parsed, Shape::suspicious, MR_DROP_MARTIAN);
  if ((load<std::uint16_t>(ip + MR_IPV4_FRAGMENT) & to_be16(MR_IPV4_FRAGMENT_MASK)) != 0) {
    return parse_fragment(frame, parsed);
  }
  if (mr_is_transport(parsed.protocol)) [[likely]] {
    return parse_transport(ip + MR_IPV4_BYTES, parsed.ip_bytes - MR_IPV4_BYTES, parsed);
  }
  if (parsed.protocol == MR_PROTOCOL_ICMP && parsed.ip_bytes >= MR_IPV4_BYTES + MR_ICMP_BYTES) {
    parsed.shape = Shape::icmp;
    return;
  }
  refuse(parsed, Shape::suspicious, mr_reason_of_protocol(parsed.protocol));
}

inline void parse_ipv6(const std::uint8_t* frame, std::uint32_t frame_bytes,
                       Parsed& parsed) noexcept {
  const std::uint8_t* ip = frame + MR_ETH_BYTES;
  if (frame_bytes < MR_ETH_BYTES + MR_IPV6_BYTES || ip[0] >> 4 != 6) {
    return refuse(parsed, Shape::drop, MR_DROP_BAD_IP_HEADER);
  }
  const std::uint32_t payload_bytes = from_be16(load<std::uint16_t>(ip + MR_IPV6_PAYLOAD_LENGTH));
  if (payload_bytes > frame_bytes - MR_ETH_BYTES - MR_IPV6_BYTES) {
    return refuse(parsed, Shape::drop, MR_DROP_BAD_IP_HEADER);
  }
  parsed.ip_bytes = MR_IPV6_BYTES + payload_bytes;
  parsed.is_v4 = false;
  parsed.protocol = ip[MR_IPV6_NEXT_HEADER];
  parsed.source = words_at(ip + MR_IPV6_SOURCE);
  parsed.destination = words_at(ip + MR_IPV6_DESTINATION);
  if (parsed.protocol == MR_PROTOCOL_ICMPV6 && payload_bytes >= MR_ICMP_BYTES) {
    // Duplicate address detection comes from ::, and only that may.
    const bool may_be_probe = parsed.source == AddrWords{0, 0} && !embeds_v4(parsed.destination);
    if (is_martian_v6(parsed) && !may_be_probe) {
      return refuse(parsed, Shape::suspicious, MR_DROP_MARTIAN);
    }
    parsed.shape = Shape::icmp;
    return;
  }
  if (is_martian_v6(parsed)) return refuse(parsed, Shape::suspicious, MR_DROP_MARTIAN);
  if (mr_is_transport(parsed.protocol)) [[likely]] {
    return parse_transport(ip + MR_IPV6_BYTES, payload_bytes, parsed);
  }
  if (parsed.protocol == MR_PROTOCOL_FRAGMENT && payload_bytes >= MR_IPV6_FRAGMENT_BYTES) {
    return parse_fragment(frame, parsed);
  }
  refuse(parsed, Shape::suspicious, mr_reason_of_next_header(parsed.protocol));
}

}  // namespace detail

// True when no client can have the addresses of the IP packet.
[[nodiscard]] inline bool is_martian(const Parsed& parsed) noexcept {
  return parsed.is_v4 ? detail::is_martian_v4(parsed) : detail::is_martian_v6(parsed);
}

// Bytes of data in a TCP segment; `parsed` has Shape::transport.
[[nodiscard]] inline std::uint32_t tcp_payload_bytes(const Packet& packet,
                                                     const Parsed& parsed) noexcept {
  const std::uint32_t header_bytes =
      mr_tcp_header_bytes(packet.data[parsed.l4_offset() + MR_TCP_DATA_OFFSET]);
  return parsed.ip_bytes - (parsed.l4_offset() - MR_ETH_BYTES) - header_bytes;
}

[[nodiscard]] inline std::uint8_t hops_left(const Packet& packet, const Parsed& parsed) noexcept {
  return packet.data[parsed.is_v4 ? Ipv4Frame::kHops : Ipv6Frame::kHops];
}

// Fills `parsed`; which fields count depends on `shape`: transport and fragment have all,
// suspicious and icmp have the addresses, protocol and lengths, drop and not_ip have none.
inline void parse(const Packet& packet, Parsed& parsed) noexcept {
  if (packet.length < MR_ETH_BYTES) {
    return detail::refuse(parsed, Shape::drop, MR_DROP_MALFORMED_L2);
  }
  const std::uint16_t type = load<std::uint16_t>(packet.data + MR_ETH_TYPE);
  if (type == be(EtherType::ipv4)) return detail::parse_ipv4(packet.data, packet.length, parsed);
  if (type == be(EtherType::ipv6)) return detail::parse_ipv6(packet.data, packet.length, parsed);
  parsed.shape = Shape::not_ip;
}

}  // namespace millrace::core
