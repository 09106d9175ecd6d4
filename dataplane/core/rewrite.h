// SPDX-License-Identifier: Apache-2.0
//
// Changing a frame on its way: destination translation, its reversal, and the new link header. HOT.
//
// Checksums are updated incrementally (RFC 1624) from the two deltas that the flow record keeps, so
// that a wrong checksum stays wrong and nothing of the payload is read.
#pragma once

#include <cstdint>

#include "dataplane/contract/config_abi.h"
#include "dataplane/core/checksum.h"
#include "dataplane/core/packet.h"
#include "dataplane/core/wire.h"
#include "dataplane/rules/forwarding_rule.h"
#include "dataplane/rules/port_rule.h"

namespace millrace::core {

// `vip_port_be` is the listener's, or the one of its ports that the client asked for.
[[nodiscard]] inline mr_nat_deltas nat_deltas(const mr_listener& listener,
                                              std::uint16_t vip_port_be,
                                              const mr_target& target) noexcept {
  return mr_nat_deltas_of(sum_of(listener.vip_addr), vip_port_be, sum_of(target.addr),
                          mr_target_port_be_of(target.port_be, vip_port_be));
}

// MAC addresses are the low six bytes of words, as loaded from memory. The two bytes above a
// destination do not matter; those above a source must be zero.
inline void write_link_header(std::uint8_t* frame, std::uint64_t destination_mac,
                              std::uint64_t source_mac, EtherType type) noexcept {
  store(frame + MR_ETH_DESTINATION, destination_mac);
  store(frame + MR_ETH_SOURCE, source_mac | std::uint64_t{be(type)} << 48);
}

namespace detail {

template <typename Frame>
void update_l4_checksum(std::uint8_t* frame, std::uint8_t protocol, std::uint16_t delta) noexcept {
  if (protocol == MR_PROTOCOL_TCP) [[likely]] {
    std::uint8_t* field = frame + Frame::kL4 + MR_TCP_CHECKSUM;
    store(field, mr_updated_checksum(load<std::uint16_t>(field), delta));
    return;
  }
  std::uint8_t* field = frame + Frame::kL4 + MR_UDP_CHECKSUM;
  store(field, mr_updated_udp_checksum(load<std::uint16_t>(field), delta));
}

template <typename Frame>
void rewrite_addr(std::uint8_t* at, const mr_addr& addr) noexcept {
  if constexpr (Frame::kIsV4) {
    store(at, v4_of(addr));
  } else {
    const AddrWords words = words_of(addr);
    store(at, words.low);
    store(at + 8, words.high);
  }
}

// Decrements TTL or hop limit, which the caller found to be at least 2.
template <typename Frame>
void use_up_hop(std::uint8_t* frame, std::uint16_t ip_delta) noexcept {
  std::uint8_t* hops = frame + Frame::kHops;
  *hops = static_cast<std::uint8_t>(*hops - 1);
  if constexpr (Frame::kIsV4) {
    std::uint8_t* field = frame + MR_ETH_BYTES + MR_IPV4_CHECKSUM;
    const std::uint16_t checksum = mr_updated_checksum(load<std::uint16_t>(field), ip_delta);
    store(field, mr_updated_checksum(checksum, MR_TTL_DELTA));
  }
}

}  // namespace detail

// Client -> target: destination becomes the target's address and port.
template <typename Frame>
void translate_to_target(std::uint8_t* frame, std::uint8_t protocol, const mr_target& target,
                         mr_nat_deltas deltas) noexcept {
  detail::use_up_hop<Frame>(frame, deltas.ip);
  detail::rewrite_addr<Frame>(frame + Frame::kDestination, target.addr);
  store(frame + Frame::kL4 + MR_L4_DESTINATION_PORT, target.port_be);
  detail::update_l4_checksum<Frame>(frame, protocol, deltas.l4);
}

// Likewise for a target that takes any port.
template <typename Frame>
void translate_addr_to_target(std::uint8_t* frame, std::uint8_t protocol, const mr_target& target,
                              mr_nat_deltas deltas) noexcept {
  detail::use_up_hop<Frame>(frame, deltas.ip);
  detail::rewrite_addr<Frame>(frame + Frame::kDestination, target.addr);
  detail::update_l4_checksum<Frame>(frame, protocol, deltas.l4);
}

// Target -> client: source becomes the VIP and the port that the client asked for again.
template <typename Frame>
void translate_to_client(std::uint8_t* frame, std::uint8_t protocol, const mr_listener& listener,
                         std::uint16_t vip_port_be, mr_nat_deltas deltas) noexcept {
  detail::use_up_hop<Frame>(frame, mr_negated_delta(deltas.ip));
  detail::rewrite_addr<Frame>(frame + Frame::kSource, listener.vip_addr);
  store(frame + Frame::kL4 + MR_L4_SOURCE_PORT, vip_port_be);
  detail::update_l4_checksum<Frame>(frame, protocol, mr_negated_delta(deltas.l4));
}

// An end of a flow as the other side knows it.
struct NewEnd {
  bool is_to_target;  // it becomes the destination, else the source
  const mr_addr& addr;
  std::uint16_t port_be;
  mr_nat_deltas deltas;  // negated if it becomes the source
};

// Likewise for a fragment. `udp` is the datagram's header in a first fragment; null in a later one,
// of which only an address changes.
template <typename Frame>
void translate_fragment(std::uint8_t* frame, std::uint8_t* udp, const NewEnd& end) noexcept {
  detail::use_up_hop<Frame>(frame, end.deltas.ip);
  detail::rewrite_addr<Frame>(frame + (end.is_to_target ? Frame::kDestination : Frame::kSource),
                              end.addr);
  if (udp == nullptr) return;
  store(udp + (end.is_to_target ? MR_L4_DESTINATION_PORT : MR_L4_SOURCE_PORT), end.port_be);
  std::uint8_t* field = udp + MR_UDP_CHECKSUM;
  store(field, mr_updated_udp_checksum(load<std::uint16_t>(field), end.deltas.l4));
}

}  // namespace millrace::core
