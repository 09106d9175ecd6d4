// SPDX-License-Identifier: Apache-2.0
//
// The headers of a stream, laid out once. Cold.
#include "bench/pktgen/packet_template.h"

#include <algorithm>

namespace millrace::pktgen {

using namespace core;  // wire.h's offsets, loads and stores

namespace {

constexpr std::uint16_t kTcpWindow = 65535;
constexpr std::uint16_t kDontFragment = 0x4000;

std::uint8_t ip_protocol_of(Protocol protocol, bool is_ipv4) {
  switch (protocol) {
    case Protocol::udp:
      return MR_PROTOCOL_UDP;
    case Protocol::tcp:
      return MR_PROTOCOL_TCP;
    case Protocol::icmp:
      break;
  }
  return is_ipv4 ? MR_PROTOCOL_ICMP : MR_PROTOCOL_ICMPV6;
}

}  // namespace

PacketTemplate::PacketTemplate(const Headers& headers, bool is_measured)
    : ports_(headers.clients.port_count),
      first_host_(from_be32(v4_of(headers.clients.first))),
      port_first_(headers.clients.port_first),
      protocol_(headers.protocol),
      is_v4_(is_v4(headers.destination)),
      is_measured_(is_measured),
      has_payload_(headers.protocol != Protocol::tcp ||
                   (headers.tcp_flags & (MR_TCP_SYN | MR_TCP_RST | MR_TCP_FIN)) == 0) {
  build_link(headers);
  build_ip(headers);
  build_l4(headers);
  sum_constants();
  is_long_ = payload_offset_ + (is_measured ? kMarkBytes : 0) > 64;
}

std::uint32_t PacketTemplate::frame_bytes_min() const {
  return std::max(kFrameBytesMin, payload_offset_ + (is_measured_ ? kMarkBytes : 0));
}

void PacketTemplate::build_link(const Headers& headers) {
  std::uint8_t* at = head_.data();
  std::ranges::copy(headers.destination_mac, at + MR_ETH_DESTINATION);
  std::ranges::copy(headers.source_mac, at + MR_ETH_SOURCE);
  const std::uint16_t type = be(is_v4_ ? EtherType::ipv4 : EtherType::ipv6);
  ip_offset_ = MR_ETH_BYTES;
  if (headers.vlan != 0) {
    store(at + MR_ETH_TYPE, be(EtherType::vlan));
    store(at + MR_ETH_TYPE + 2, to_be16(headers.vlan));
    ip_offset_ = MR_ETH_BYTES + MR_VLAN_BYTES;
  }
  store(at + ip_offset_ - 2, type);
}

void PacketTemplate::build_ip(const Headers& headers) {
  std::uint8_t* ip = head_.data() + ip_offset_;
  const std::uint8_t protocol = ip_protocol_of(protocol_, is_v4_);
  const std::uint32_t source = is_v4_ ? MR_IPV4_SOURCE : MR_IPV6_SOURCE;
  if (is_v4_) {
    ip[0] = 0x45;
    store(ip + MR_IPV4_FRAGMENT, to_be16(kDontFragment));
    ip[MR_IPV4_TTL] = headers.ttl;
    ip[MR_IPV4_PROTOCOL] = protocol;
    store(ip + MR_IPV4_DESTINATION, v4_of(headers.destination));
    host_offset_ = static_cast<std::uint8_t>(ip_offset_ + source);
    l4_offset_ = static_cast<std::uint8_t>(ip_offset_ + MR_IPV4_BYTES);
    return;
  }
  ip[0] = 0x60;
  ip[MR_IPV6_NEXT_HEADER] = protocol;
  ip[MR_IPV6_HOP_LIMIT] = headers.ttl;
  std::ranges::copy(headers.clients.first.bytes, ip + source);
  store(ip + source + kV4InMapped, std::uint32_t{0});  // differs
  std::ranges::copy(headers.destination.bytes, ip + MR_IPV6_DESTINATION);
  host_offset_ = static_cast<std::uint8_t>(ip_offset_ + source + kV4InMapped);
  l4_offset_ = static_cast<std::uint8_t>(ip_offset_ + MR_IPV6_BYTES);
}

void PacketTemplate::build_l4(const Headers& headers) {
  std::uint8_t* l4 = head_.data() + l4_offset_;
  std::uint32_t port = 0;
  std::uint32_t checksum = 0;
  std::uint32_t bytes = 0;
  switch (protocol_) {
    case Protocol::udp:
      store(l4 + 2, to_be16(headers.destination_port));
      checksum = MR_UDP_CHECKSUM;
      bytes = MR_UDP_BYTES;
      break;
    case Protocol::tcp:
      store(l4 + 2, to_be16(headers.destination_port));
      l4[MR_TCP_DATA_OFFSET] = 5 << 4;
      l4[MR_TCP_FLAGS] = headers.tcp_flags;
      store(l4 + 14, to_be16(kTcpWindow));
      checksum = MR_TCP_CHECKSUM;
      bytes = MR_TCP_BYTES;
      break;
    case Protocol::icmp:
      l4[0] = is_v4_ ? MR_ICMPV4_ECHO_REQUEST : MR_ICMPV6_ECHO_REQUEST;
      port = 4;  // the identifier
      checksum = MR_ICMP_CHECKSUM;
      bytes = MR_ICMP_BYTES;
      break;
  }
  port_offset_ = static_cast<std::uint8_t>(l4_offset_ + port);
  checksum_offset_ = static_cast<std::uint8_t>(l4_offset_ + checksum);
  payload_offset_ = static_cast<std::uint8_t>(l4_offset_ + bytes);
}

void PacketTemplate::sum_constants() {
  const std::uint8_t* ip = head_.data() + ip_offset_;
  const std::uint32_t l4_bytes = payload_offset_ - l4_offset_;
  l4_sum_ = sum_bytes({head_.data() + l4_offset_, l4_bytes});
  if (is_v4_) {
    ip_sum_ = sum_bytes({ip, MR_IPV4_BYTES});
    if (protocol_ == Protocol::icmp) return;
    l4_sum_ += load<std::uint32_t>(ip + MR_IPV4_DESTINATION);
  } else {
    l4_sum_ += sum_bytes({ip + MR_IPV6_SOURCE, 32});
  }
  l4_sum_ += to_be16(ip_protocol_of(protocol_, is_v4_));
}

}  // namespace millrace::pktgen
