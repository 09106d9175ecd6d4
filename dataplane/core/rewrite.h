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
#include "dataplane/core/parse.h"
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

inline void write_link_header(std::uint8_t* frame, const std::uint8_t* destination_mac,
                              const std::uint8_t* source_mac) noexcept {
  store(frame + eth::kDestination, load<std::uint32_t>(destination_mac));
  store(frame + eth::kDestination + 4, load<std::uint16_t>(destination_mac + 4));
  store(frame + eth::kSource, load<std::uint32_t>(source_mac));
  store(frame + eth::kSource + 4, load<std::uint16_t>(source_mac + 4));
}

namespace detail {

inline void update_l4_checksum(std::uint8_t* l4, std::uint8_t protocol, bool is_v4,
                               std::uint16_t delta) noexcept {
  std::uint8_t* field = l4 + (protocol == ip_protocol::kTcp ? tcp::kChecksum : udp::kChecksum);
  const std::uint16_t before = load<std::uint16_t>(field);
  std::uint16_t after = updated_checksum(before, delta);
  if (protocol == ip_protocol::kUdp) {
    if (before == 0 && is_v4) return;  // RFC 768: the sender computed none
    if (after == 0) after = 0xffff;    // RFC 768: zero would say so
  }
  store(field, after);
}

// Decrements TTL or hop limit, which the caller found to be at least 2, and writes one address.
inline void rewrite_ip(std::uint8_t* frame, const Parsed& parsed, std::uint32_t v4_offset,
                       std::uint32_t v6_offset, const mr_addr& addr,
                       std::uint16_t ip_delta) noexcept {
  std::uint8_t* ip = frame + eth::kBytes;
  if (parsed.is_v4) {
    ip[ipv4::kTtl] = static_cast<std::uint8_t>(ip[ipv4::kTtl] - 1);
    const std::uint16_t checksum = load<std::uint16_t>(ip + ipv4::kChecksum);
    store(ip + ipv4::kChecksum, updated_checksum(checksum, ip_delta, kTtlDelta));
    store(ip + v4_offset, v4_of(addr));
  } else {
    ip[ipv6::kHopLimit] = static_cast<std::uint8_t>(ip[ipv6::kHopLimit] - 1);
    const AddrWords words = words_of(addr);
    store(ip + v6_offset, words.low);
    store(ip + v6_offset + 8, words.high);
  }
}

}  // namespace detail

[[nodiscard]] inline std::uint8_t hops_left(const std::uint8_t* frame, bool is_v4) noexcept {
  return frame[eth::kBytes + (is_v4 ? ipv4::kTtl : ipv6::kHopLimit)];
}

// Client -> target: destination becomes the target's address and port.
inline void translate_to_target(std::uint8_t* frame, const Parsed& parsed, const mr_target& target,
                                NatDeltas deltas) noexcept {
  detail::rewrite_ip(frame, parsed, ipv4::kDestination, ipv6::kDestination, target.addr, deltas.ip);
  std::uint8_t* l4 = frame + parsed.l4_offset;
  store(l4 + 2, target.port_be);
  detail::update_l4_checksum(l4, parsed.protocol, parsed.is_v4, deltas.l4);
}

// Target -> client: source becomes the VIP and the listener's port again.
inline void translate_to_client(std::uint8_t* frame, const Parsed& parsed,
                                const mr_listener& listener, NatDeltas deltas) noexcept {
  detail::rewrite_ip(frame, parsed, ipv4::kSource, ipv6::kSource, listener.vip_addr,
                     negated(deltas.ip));
  std::uint8_t* l4 = frame + parsed.l4_offset;
  store(l4, listener.port_be);
  detail::update_l4_checksum(l4, parsed.protocol, parsed.is_v4, negated(deltas.l4));
}

}  // namespace millrace::core
