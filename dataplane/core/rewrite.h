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

namespace millrace::core {

// What translation adds to the IPv4 header's and the transport's checksum, client -> target.
struct NatDeltas {
  std::uint16_t ip;
  std::uint16_t l4;
};

[[nodiscard]] inline NatDeltas nat_deltas(const mr_listener& listener,
                                          const mr_target& target) noexcept {
  const std::uint64_t vip = sum_of(listener.vip_addr);
  const std::uint64_t addr = sum_of(target.addr);
  return {.ip = checksum_delta(vip, addr),
          .l4 = checksum_delta(vip + listener.port_be, addr + target.port_be)};
}

// MAC addresses are the low six bytes of words, as loaded from memory; what lies above the
// destination's does not matter, above the source's is nothing.
inline void write_link_header(std::uint8_t* frame, std::uint64_t destination_mac,
                              std::uint64_t source_mac, EtherType type) noexcept {
  store(frame + eth::kDestination, destination_mac);
  store(frame + eth::kSource, source_mac | std::uint64_t{be(type)} << 48);
}

namespace detail {

template <typename Frame>
void update_l4_checksum(std::uint8_t* frame, std::uint8_t protocol, std::uint16_t delta) noexcept {
  if (protocol == ip_protocol::kTcp) [[likely]] {
    std::uint8_t* field = frame + Frame::kL4 + tcp::kChecksum;
    store(field, updated_checksum(load<std::uint16_t>(field), delta));
    return;
  }
  std::uint8_t* field = frame + Frame::kL4 + udp::kChecksum;
  const auto before = load<std::uint16_t>(field);
  // The sender computed none (RFC 768), over IPv6 too (RFC 6935): its receiver decides.
  if (before == 0) return;
  const std::uint16_t after = updated_checksum(before, delta);
  store(field, after == 0 ? std::uint16_t{0xffff} : after);  // RFC 768: zero would say so
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
    std::uint8_t* field = frame + eth::kBytes + ipv4::kChecksum;
    const std::uint16_t checksum = updated_checksum(load<std::uint16_t>(field), ip_delta);
    store(field, updated_checksum(checksum, kTtlDelta));
  }
}

}  // namespace detail

// Client -> target: destination becomes the target's address and port.
template <typename Frame>
void translate_to_target(std::uint8_t* frame, std::uint8_t protocol, const mr_target& target,
                         NatDeltas deltas) noexcept {
  detail::use_up_hop<Frame>(frame, deltas.ip);
  detail::rewrite_addr<Frame>(frame + Frame::kDestination, target.addr);
  store(frame + Frame::kL4 + 2, target.port_be);
  detail::update_l4_checksum<Frame>(frame, protocol, deltas.l4);
}

// Target -> client: source becomes the VIP and the listener's port again.
template <typename Frame>
void translate_to_client(std::uint8_t* frame, std::uint8_t protocol, const mr_listener& listener,
                         NatDeltas deltas) noexcept {
  detail::use_up_hop<Frame>(frame, negated(deltas.ip));
  detail::rewrite_addr<Frame>(frame + Frame::kSource, listener.vip_addr);
  store(frame + Frame::kL4, listener.port_be);
  detail::update_l4_checksum<Frame>(frame, protocol, negated(deltas.l4));
}

}  // namespace millrace::core
