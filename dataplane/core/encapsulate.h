// SPDX-License-Identifier: Apache-2.0
//
// Putting a packet into another one, addressed to its target: ipip (RFC 2003, RFC 2473) and gue
// (draft-ietf-intarea-gue-09, variant 1: UDP between the two IP headers and nothing else). HOT.
//
// The inner packet stays as the client sent it, TTL included: the target takes it out and finds a
// packet to its VIP. Everything written here is composed in registers and stored in whole words.
#pragma once

#include <cstdint>

#include "dataplane/contract/config_abi.h"
#include "dataplane/core/checksum.h"
#include "dataplane/core/packet.h"
#include "dataplane/core/parse.h"
#include "dataplane/core/wire.h"

namespace millrace::core {

inline constexpr std::uint8_t kOuterHops = 64;

// Bytes that `forwarding` (ipip or gue) puts around a packet.
[[nodiscard]] constexpr std::uint32_t encapsulation_bytes(std::uint8_t forwarding,
                                                          bool is_v4) noexcept {
  return (is_v4 ? ipv4::kBytes : ipv6::kBytes) +
         (forwarding == MR_FORWARDING_GUE ? udp::kBytes : 0);
}

// Source port of the outer UDP header, in host order: the same for all packets of a flow and spread
// over the ephemeral range (RFC 6335 section 6) for all flows, so that routers and nics that hash
// ports see flows.
[[nodiscard]] inline std::uint16_t gue_source_port(const AddrWords& client,
                                                   std::uint16_t client_port_be) noexcept {
  const std::uint64_t mixed = (client.low ^ client.high ^ client_port_be) * 0x9e3779b97f4a7c15ULL;
  const auto folded = static_cast<std::uint32_t>(mixed ^ mixed >> 32);
  return static_cast<std::uint16_t>(0xc000u | (folded >> 16 & 0x3fffu));
}

namespace detail {

// Outer header fields that come from the caller, lengths in host order.
struct Outer {
  const mr_addr& source;
  const mr_addr& destination;
  std::uint32_t ip_bytes;  // of the outer packet, at most 65535
  std::uint8_t protocol;
};

// Words are as in memory, first byte lowest.
inline void write_outer_ipv4(std::uint8_t* at, const std::uint8_t* inner,
                             const Outer& outer) noexcept {
  constexpr std::uint32_t kDontFragment = 0x0040u << 16;  // identification 0, RFC 6864 section 4.1
  const std::uint32_t first = 0x45u | std::uint32_t{inner[1]} << 8 |
                              std::uint32_t{to_be16(static_cast<std::uint16_t>(outer.ip_bytes))}
                                  << 16;
  const std::uint32_t third = kOuterHops | std::uint32_t{outer.protocol} << 8;
  const std::uint32_t source = v4_of(outer.source);
  const std::uint32_t destination = v4_of(outer.destination);
  const std::uint16_t sum =
      fold(std::uint64_t{first} + kDontFragment + third + source + destination);
  store(at, std::uint64_t{first} | std::uint64_t{kDontFragment} << 32);
  store(at + 8, third | std::uint32_t{static_cast<std::uint16_t>(~sum)} << 16);
  store(at + 12, std::uint64_t{source} | std::uint64_t{destination} << 32);
}

inline void write_outer_ipv6(std::uint8_t* at, const std::uint8_t* inner,
                             const Outer& outer) noexcept {
  const auto payload_be = to_be16(static_cast<std::uint16_t>(outer.ip_bytes - ipv6::kBytes));
  store(at, load<std::uint32_t>(inner));  // version, traffic class, flow label
  store(at + 4, payload_be | std::uint32_t{outer.protocol} << 16 | std::uint32_t{kOuterHops} << 24);
  const AddrWords source = words_of(outer.source);
  const AddrWords destination = words_of(outer.destination);
  store(at + ipv6::kSource, source.low);
  store(at + ipv6::kSource + 8, source.high);
  store(at + ipv6::kDestination, destination.low);
  store(at + ipv6::kDestination + 8, destination.high);
}

// Checksum of the outer UDP header over IPv6 without reading the payload (local checksum offload).
// `udp_sum` is the sum of that header's own ports and length. A TCP or UDP segment with a right
// checksum sums to the complement of its pseudo-header, that is of the inner header's addresses,
// length and next header; what is left of the inner header is its first word, its hop limit and the
// half of the next header's word that a pseudo-header has not. A wrong inner checksum makes a wrong
// outer one, and the target drops the packet a layer earlier; so does a UDP datagram shorter than
// the IP payload around it, which nobody sends.
[[nodiscard]] inline std::uint16_t outer_udp_checksum(const std::uint8_t* inner, const Outer& outer,
                                                      std::uint64_t udp_sum) noexcept {
  const auto udp_bytes_be = to_be16(static_cast<std::uint16_t>(outer.ip_bytes - ipv6::kBytes));
  const std::uint64_t pseudo =
      sum_of(outer.source) + sum_of(outer.destination) + udp_bytes_be + to_be16(ip_protocol::kUdp);
  const std::uint16_t hop_limit = static_cast<std::uint16_t>(inner[ipv6::kHopLimit] << 8);
  const std::uint16_t next_header = inner[ipv6::kNextHeader];
  const auto pseudo_next_header = static_cast<std::uint16_t>(~to_be16(next_header));
  const std::uint64_t rest =
      std::uint64_t{load<std::uint32_t>(inner)} + (next_header | hop_limit) + pseudo_next_header;
  const auto checksum = static_cast<std::uint16_t>(~fold(pseudo + udp_sum + rest));
  return checksum == 0 ? std::uint16_t{0xffff} : checksum;  // RFC 768: zero would say "none"
}

}  // namespace detail

// Moves packet.data to the front of the outer header and cuts off what stands behind the length
// that the inner IP header states; the new link header is the caller's to write. The packet has
// Shape::transport and encapsulation_bytes() of headroom, and is at most 65535 bytes afterwards;
// `source` is of its family, `Frame`. Compiled for each of the forwardings ipip and gue.
template <typename Frame, mr_forwarding kForwarding>
void encapsulate(Packet& packet, const Parsed& parsed, const mr_target& target,
                 const mr_addr& source) noexcept {
  constexpr std::uint8_t kInside = Frame::kIsV4 ? ip_protocol::kIpv4InIp : ip_protocol::kIpv6InIp;
  constexpr bool kIsGue = kForwarding == MR_FORWARDING_GUE;
  constexpr std::uint32_t kOverhead = encapsulation_bytes(kForwarding, Frame::kIsV4);
  const std::uint8_t* inner = packet.data + eth::kBytes;
  const detail::Outer outer{.source = source,
                            .destination = target.addr,
                            .ip_bytes = parsed.ip_bytes + kOverhead,
                            .protocol = kIsGue ? ip_protocol::kUdp : kInside};
  std::uint8_t* frame = packet.data - kOverhead;
  packet.data = frame;
  packet.headroom = static_cast<std::uint16_t>(packet.headroom - kOverhead);
  packet.length = eth::kBytes + outer.ip_bytes;
  if constexpr (Frame::kIsV4) {
    detail::write_outer_ipv4(frame + eth::kBytes, inner, outer);
  } else {
    detail::write_outer_ipv6(frame + eth::kBytes, inner, outer);
  }
  if constexpr (kIsGue) {
    const std::uint16_t source_port_be =
        to_be16(gue_source_port(parsed.source, parsed.source_port_be()));
    const std::uint16_t bytes_be =
        to_be16(static_cast<std::uint16_t>(parsed.ip_bytes + udp::kBytes));
    // RFC 6935 section 5 wants a checksum over IPv6; over IPv4 the inner ones protect all that
    // matters.
    std::uint16_t checksum = 0;
    if constexpr (!Frame::kIsV4) {
      checksum = detail::outer_udp_checksum(
          inner, outer, std::uint64_t{source_port_be} + target.encap_port_be + bytes_be);
    }
    store(frame + Frame::kL4, source_port_be | std::uint64_t{target.encap_port_be} << 16 |
                                  std::uint64_t{bytes_be} << 32 | std::uint64_t{checksum} << 48);
  }
}

}  // namespace millrace::core
