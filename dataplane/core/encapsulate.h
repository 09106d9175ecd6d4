// SPDX-License-Identifier: Apache-2.0
//
// Putting a packet into another one, addressed to its target: ipip (RFC 2003, RFC 2473, RFC 4213)
// and gue (draft-ietf-intarea-gue-09, variant 1: UDP between the two IP headers and nothing else).
// HOT.
//
// The inner packet stays as the client sent it, TTL included: the target takes it out and finds a
// packet to its VIP. The outer one has the family of the target's address, which may be another
// than the VIP's. Everything written here is composed in registers and stored in whole words.
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
struct OuterHeader {
  const mr_addr& source;
  const mr_addr& destination;
  std::uint32_t ip_bytes;  // of the outer packet, at most 65535
  std::uint8_t protocol;
};

// TOS or traffic class.
template <typename Inner>
std::uint8_t traffic_class(const std::uint8_t* inner) noexcept {
  if constexpr (Inner::kIsV4) return inner[MR_IPV4_TOS];
  return mr_class_of_v6(load<std::uint32_t>(inner));
}

inline std::uint32_t flow_entropy(const Parsed& parsed) noexcept {
  return mr_flow_entropy(parsed.source.low, parsed.source.high, parsed.source_port_be());
}

// Words are as in memory, first byte lowest.
template <typename Inner>
void write_outer_ipv4(std::uint8_t* at, const std::uint8_t* inner,
                      const OuterHeader& outer) noexcept {
  // Identification 0, RFC 6864 section 4.1.
  constexpr std::uint32_t kDontFragment = std::uint32_t{to_be16(MR_IPV4_DONT_FRAGMENT)} << 16;
  const std::uint32_t first = MR_IPV4_NO_OPTIONS | std::uint32_t{traffic_class<Inner>(inner)} << 8 |
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

// `first_word`: version, traffic class, flow label.
inline void write_outer_ipv6(std::uint8_t* at, std::uint32_t first_word,
                             const OuterHeader& outer) noexcept {
  const auto payload_be = to_be16(static_cast<std::uint16_t>(outer.ip_bytes - MR_IPV6_BYTES));
  store(at, first_word);
  store(at + 4,
        payload_be | std::uint32_t{outer.protocol} << 16 | std::uint32_t{MR_OWN_HOPS} << 24);
  const AddrWords source = words_of(outer.source);
  const AddrWords destination = words_of(outer.destination);
  store(at + MR_IPV6_SOURCE, source.low);
  store(at + MR_IPV6_SOURCE + 8, source.high);
  store(at + MR_IPV6_DESTINATION, destination.low);
  store(at + MR_IPV6_DESTINATION + 8, destination.high);
}

template <typename Inner>
std::uint32_t first_word_around(const std::uint8_t* inner, const Parsed& parsed) noexcept {
  if constexpr (!Inner::kIsV4) return load<std::uint32_t>(inner);
  return mr_first_word_v6(traffic_class<Inner>(inner), flow_entropy(parsed));
}

template <typename Inner>
std::uint64_t inner_sum(const std::uint8_t* inner, const Parsed& parsed) noexcept {
  if constexpr (Inner::kIsV4) {
    return mr_inner_sum_v4(std::uint64_t{load<std::uint32_t>(inner + MR_IPV4_SOURCE)} +
                               load<std::uint32_t>(inner + MR_IPV4_DESTINATION),
                           parsed.protocol, parsed.ip_bytes - MR_IPV4_BYTES);
  }
  return mr_inner_sum_v6(load<std::uint32_t>(inner), inner[MR_IPV6_NEXT_HEADER],
                         inner[MR_IPV6_HOP_LIMIT]);
}

}  // namespace detail

// Moves packet.data to the front of the outer header. Cuts off the bytes behind the length that the
// inner IP header states. The caller writes the new link header. The packet is an `Inner`, has
// Shape::transport and mr_outer_bytes() of headroom, and is at most 65535 bytes long afterwards.
// `source` and the target's address are of the family of `Outer`. Compiled once for ipip and once
// for gue.
template <typename Inner, typename Outer, mr_forwarding kForwarding>
void encapsulate(Packet& packet, const Parsed& parsed, const mr_target& target,
                 const mr_addr& source) noexcept {
  constexpr bool kIsGue = kForwarding == MR_FORWARDING_GUE;
  constexpr std::uint32_t kOverhead = mr_outer_bytes(kForwarding, Outer::kIsV4);
  const std::uint8_t* inner = packet.data + MR_ETH_BYTES;
  const detail::OuterHeader outer{.source = source,
                                  .destination = target.addr,
                                  .ip_bytes = parsed.ip_bytes + kOverhead,
                                  .protocol = mr_outer_protocol(kForwarding, Inner::kIsV4)};
  std::uint8_t* frame = packet.data - kOverhead;
  packet.data = frame;
  packet.headroom = static_cast<std::uint16_t>(packet.headroom - kOverhead);
  packet.length = MR_ETH_BYTES + outer.ip_bytes;
  if constexpr (Outer::kIsV4) {
    detail::write_outer_ipv4<Inner>(frame + MR_ETH_BYTES, inner, outer);
  } else {
    detail::write_outer_ipv6(frame + MR_ETH_BYTES, detail::first_word_around<Inner>(inner, parsed),
                             outer);
  }
  if constexpr (kIsGue) {
    const std::uint16_t source_port_be = mr_gue_source_port_be(detail::flow_entropy(parsed));
    const std::uint16_t bytes_be =
        to_be16(static_cast<std::uint16_t>(parsed.ip_bytes + MR_UDP_BYTES));
    // RFC 6935 section 5 wants a checksum over IPv6; over IPv4 the inner ones protect all that
    // matters.
    std::uint16_t checksum = 0;
    if constexpr (!Outer::kIsV4) {
      checksum = mr_gue_checksum_v6(sum_of(outer.source) + sum_of(outer.destination),
                                    std::uint64_t{source_port_be} + target.encap_port_be + bytes_be,
                                    bytes_be, detail::inner_sum<Inner>(inner, parsed));
    }
    store(frame + Outer::kL4, source_port_be | std::uint64_t{target.encap_port_be} << 16 |
                                  std::uint64_t{bytes_be} << 32 | std::uint64_t{checksum} << 48);
  }
}

// The address of a network that all packets of the flow come from.
[[nodiscard]] inline mr_addr source_of_flow(const mr_encap_source& network,
                                            const Parsed& parsed) noexcept {
  mr_addr source = network.addr;
  std::uint8_t* last = source.bytes + 12;
  store(last, load<std::uint32_t>(last) | (detail::flow_entropy(parsed) & network.spread_be));
  return source;
}

}  // namespace millrace::core
