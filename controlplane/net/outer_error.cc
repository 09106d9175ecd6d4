// SPDX-License-Identifier: Apache-2.0
#include "controlplane/net/outer_error.h"

#include <cstring>

#include "dataplane/core/wire.h"
#include "dataplane/rules/header_rule.h"

namespace millrace::control {
namespace {

using Bytes = std::span<const std::uint8_t>;

std::uint16_t read16(Bytes bytes, std::size_t at) {
  return core::from_be16(core::load<std::uint16_t>(bytes.data() + at));
}

IpAddress read_address(Bytes bytes, std::size_t at, bool is_v4) {
  if (is_v4) return IpAddress{core::v4_mapped(core::load<std::uint32_t>(bytes.data() + at))};
  IpAddress out;
  std::memcpy(out.addr.bytes, bytes.data() + at, sizeof(out.addr.bytes));
  return out;
}

// An IP packet of which the header is there. It has no options and no extension headers, since what
// the engines send and forward has none.
struct QuotedIp {
  IpAddress source;
  IpAddress destination;
  std::uint8_t protocol = 0;
  Bytes payload;
};

std::optional<QuotedIp> read_ip(Bytes packet) {
  if (packet.empty()) return std::nullopt;
  const bool is_v4 = packet[0] == MR_IPV4_NO_OPTIONS;
  const std::size_t header_bytes = is_v4 ? MR_IPV4_BYTES : MR_IPV6_BYTES;
  if ((!is_v4 && packet[0] >> 4 != 6) || packet.size() < header_bytes) return std::nullopt;
  return QuotedIp{
      .source = read_address(packet, is_v4 ? MR_IPV4_SOURCE : MR_IPV6_SOURCE, is_v4),
      .destination = read_address(packet, is_v4 ? MR_IPV4_DESTINATION : MR_IPV6_DESTINATION, is_v4),
      .protocol = packet[is_v4 ? MR_IPV4_PROTOCOL : MR_IPV6_NEXT_HEADER],
      .payload = packet.subspan(header_bytes)};
}

std::optional<OuterError::Inner> read_inner(Bytes packet) {
  const std::optional<QuotedIp> ip = read_ip(packet);
  if (!ip) return std::nullopt;
  OuterError::Inner inner{.vip = ip->destination, .protocol = ip->protocol, .vip_port = 0};
  const bool is_later_fragment =
      ip->destination.is_v4() && (read16(packet, MR_IPV4_FRAGMENT) & MR_IPV4_FRAGMENT_OFFSET) != 0;
  if (is_later_fragment) return std::nullopt;  // without ports
  if (mr_is_transport(ip->protocol)) {
    if (ip->payload.size() < MR_L4_PORTS_BYTES) return std::nullopt;
    inner.vip_port = read16(ip->payload, MR_L4_DESTINATION_PORT);
  }
  return inner;
}

// The MTU that an ICMP message tells; 0 when it tells none.
std::uint16_t mtu_told(bool is_v4, Bytes icmp) {
  if (icmp.size() < MR_ICMP_BYTES) return 0;
  if (is_v4) {
    const bool is_too_big =
        icmp[0] == MR_ICMPV4_UNREACHABLE && icmp[1] == MR_ICMPV4_FRAGMENTATION_NEEDED;
    return is_too_big ? read16(icmp, MR_ICMP_REST + 2) : std::uint16_t{0};
  }
  if (icmp[0] != MR_ICMPV6_PACKET_TOO_BIG) return 0;
  const bool is_over_16_bits = read16(icmp, MR_ICMP_REST) != 0;
  return is_over_16_bits ? std::uint16_t{UINT16_MAX} : read16(icmp, MR_ICMP_REST + 2);
}

}  // namespace

std::optional<OuterError> read_outer_error(bool is_v4, Bytes message) {
  if (is_v4) {
    const std::size_t header_bytes = message.empty() ? 0 : (message[0] & 0x0fu) * 4u;
    if (header_bytes < MR_IPV4_BYTES || message.size() < header_bytes) return std::nullopt;
    message = message.subspan(header_bytes);
  }
  const std::uint16_t mtu = mtu_told(is_v4, message);
  if (mtu == 0) return std::nullopt;
  const std::optional<QuotedIp> outer = read_ip(message.subspan(MR_ICMP_BYTES));
  if (!outer || outer->destination.is_v4() != is_v4) return std::nullopt;
  OuterError error{.source = outer->source,
                   .destination = outer->destination,
                   .protocol = outer->protocol,
                   .destination_port = 0,
                   .mtu = mtu,
                   .inner = std::nullopt};
  Bytes inner = outer->payload;
  if (outer->protocol == MR_PROTOCOL_UDP) {
    if (inner.size() < MR_UDP_BYTES) return std::nullopt;
    error.destination_port = read16(inner, MR_L4_DESTINATION_PORT);
    inner = inner.subspan(MR_UDP_BYTES);
  } else if (outer->protocol != MR_PROTOCOL_IPV4_IN_IP &&
             outer->protocol != MR_PROTOCOL_IPV6_IN_IP) {
    return std::nullopt;
  }
  error.inner = read_inner(inner);
  return error;
}

}  // namespace millrace::control
