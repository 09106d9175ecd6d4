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
#include "dataplane/rules/forwarding_rule.h"

namespace millrace::core {

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
  // Identification 0, RFC 6864 section 4.1.
  constexpr std::uint32_t kDontFragment = std::uint32_t{to_be16(MR_IPV4_DONT_FRAGMENT)} << 16;
  const std::uint32_t first = MR_IPV4_NO_OPTIONS | std::uint32_t{inner[MR_IPV4_TOS]} << 8 |
                              std::uint32_t{to_be16(static_cast<std::uint16_t>(outer.ip_bytes))}
                                  << 16;
  const std::uint32_t third = MR_OWN_HOPS | std::uint32_t{outer.protocol} << 8;
  const std::uint32_t source = v4_of(outer.source);
  const std::uint32_t destination = v4_of(outer.destination);
  const std::uint16_t sum =
      mr_fold(std::uint64_t{first} + kDontFragment + third + source + destination);
  store(at, std::uint64_t{first} | std::uint64_t{kDontFragment} << 32);
  store(at + 8, third | std::uint32_t{static_cast<std::uint16_t>(~sum)} << 16);
  store(at + 12, std::uint64_t{source} | std::uint64_t{destination} << 32);
}

inline void write_outer_ipv6(std::uint8_t* at, const std::uint8_t* inner,
                             const Outer& outer) noexcept {
  const auto payload_be = to_be16(static_cast<std::uint16_t>(outer.ip_bytes - MR_IPV6_BYTES));
  store(at, load<std::uint32_t>(inner));  // version, traffic class, flow label
  store(at + 4,
        payload_be | std::uint32_t{outer.protocol} << 16 | std::uint32_t{MR_OWN_HOPS} << 24);
  const AddrWords source = words_of(outer.source);
  const AddrWords destination = words_of(outer.destination);
  store(at + MR_IPV6_SOURCE, source.low);
  store(at + MR_IPV6_SOURCE + 8, source.high);
  store(at + MR_IPV6_DESTINATION, destination.low);
  store(at + MR_IPV6_DESTINATION + 8, destination.high);
}

}  // namespace detail

// Moves packet.data to the front of the outer header. Cuts off the bytes behind the length that the
// inner IP header states. The caller writes the new link header. The packet has Shape::transport
// and mr_outer_bytes() of headroom, and is at most 65535 bytes long afterwards. `source` is an
// address of the family of `Frame`. Compiled once for ipip and once for gue.
template <typename Frame, mr_forwarding kForwarding>
void encapsulate(Packet& packet, const Parsed& parsed, const mr_target& target,
                 const mr_addr& source) noexcept {
  constexpr bool kIsGue = kForwarding == MR_FORWARDING_GUE;
  constexpr std::uint32_t kOverhead = mr_outer_bytes(kForwarding, Frame::kIsV4);
  const std::uint8_t* inner = packet.data + MR_ETH_BYTES;
  const detail::Outer outer{.source = source,
                            .destination = target.addr,
                            .ip_bytes = parsed.ip_bytes + kOverhead,
                            .protocol = mr_outer_protocol(kForwarding, Frame::kIsV4)};
  std::uint8_t* frame = packet.data - kOverhead;
  packet.data = frame;
  packet.headroom = static_cast<std::uint16_t>(packet.headroom - kOverhead);
  packet.length = MR_ETH_BYTES + outer.ip_bytes;
  if constexpr (Frame::kIsV4) {
    detail::write_outer_ipv4(frame + MR_ETH_BYTES, inner, outer);
  } else {
    detail::write_outer_ipv6(frame + MR_ETH_BYTES, inner, outer);
  }
  if constexpr (kIsGue) {
    const std::uint16_t source_port_be =
        mr_gue_source_port_be(parsed.source.low, parsed.source.high, parsed.source_port_be());
    const std::uint16_t bytes_be =
        to_be16(static_cast<std::uint16_t>(parsed.ip_bytes + MR_UDP_BYTES));
    // RFC 6935 section 5 wants a checksum over IPv6; over IPv4 the inner ones protect all that
    // matters.
    std::uint16_t checksum = 0;
    if constexpr (!Frame::kIsV4) {
      checksum = mr_gue_checksum_v6(sum_of(outer.source) + sum_of(outer.destination),
                                    std::uint64_t{source_port_be} + target.encap_port_be + bytes_be,
                                    bytes_be,
                                    {.first_word = load<std::uint32_t>(inner),
                                     .next_header = inner[MR_IPV6_NEXT_HEADER],
                                     .hop_limit = inner[MR_IPV6_HOP_LIMIT]});
    }
    store(frame + Frame::kL4, source_port_be | std::uint64_t{target.encap_port_be} << 16 |
                                  std::uint64_t{bytes_be} << 32 | std::uint64_t{checksum} << 48);
  }
}

}  // namespace millrace::core
