// SPDX-License-Identifier: Apache-2.0
//
// The kinds of packets whose instructions are counted, the same for both engines
// (forwarder_trace.cc, xdp/xdp_trace.cc). Cold.
#pragma once

#include <cstdint>
#include <string_view>

#include "bench/balancer.h"

namespace millrace::bench {

enum class Way : std::uint8_t {
  hit,      // to a VIP, of a known flow
  reply,    // from a target, of a known flow
  opening,  // the first of its flow
  cut,      // as hit, but the first fragment of a longer datagram over IPv4
};

struct TraceCase {
  std::string_view name;
  Way way;
  bool is_v4;
  std::uint8_t protocol;
  std::uint8_t forwarding;
  bool takes_any_port = false;
  std::uint32_t listeners = 1;

  [[nodiscard]] FlowShape shape() const {
    FlowShape shape = shape_of(is_v4, protocol, way == Way::opening ? MR_TCP_SYN : MR_TCP_ACK);
    shape.takes_any_port = takes_any_port;
    shape.listeners = listeners;
    return shape;
  }
};

inline constexpr TraceCase kTraceCases[] = {
    {"nat tcp4 hit", Way::hit, true, MR_PROTOCOL_TCP, MR_FORWARDING_NAT},
    {"nat tcp6 hit", Way::hit, false, MR_PROTOCOL_TCP, MR_FORWARDING_NAT},
    {"nat udp4 hit", Way::hit, true, MR_PROTOCOL_UDP, MR_FORWARDING_NAT},
    {"nat udp4 fragment", Way::cut, true, MR_PROTOCOL_UDP, MR_FORWARDING_NAT},
    {"nat tcp4 reply", Way::reply, true, MR_PROTOCOL_TCP, MR_FORWARDING_NAT},
    {"nat tcp6 reply", Way::reply, false, MR_PROTOCOL_TCP, MR_FORWARDING_NAT},
    {"nat tcp4 new", Way::opening, true, MR_PROTOCOL_TCP, MR_FORWARDING_NAT},
    {"nat tcp6 new", Way::opening, false, MR_PROTOCOL_TCP, MR_FORWARDING_NAT},
    {"dsr tcp4 hit", Way::hit, true, MR_PROTOCOL_TCP, MR_FORWARDING_DSR},
    {"ipip tcp4 hit", Way::hit, true, MR_PROTOCOL_TCP, MR_FORWARDING_IPIP},
    {"ipip tcp6 hit", Way::hit, false, MR_PROTOCOL_TCP, MR_FORWARDING_IPIP},
    {"ipip tcp4 new", Way::opening, true, MR_PROTOCOL_TCP, MR_FORWARDING_IPIP},
    {"gue tcp4 hit", Way::hit, true, MR_PROTOCOL_TCP, MR_FORWARDING_GUE},
    {"gue tcp6 hit", Way::hit, false, MR_PROTOCOL_TCP, MR_FORWARDING_GUE},
    {"nat tcp4 hit, 1024 listeners", Way::hit, true, MR_PROTOCOL_TCP, MR_FORWARDING_NAT, false,
     1024},
    {"nat tcp4 reply, 1024 listeners", Way::reply, true, MR_PROTOCOL_TCP, MR_FORWARDING_NAT, false,
     1024},
    {"nat tcp4 hit, any port", Way::hit, true, MR_PROTOCOL_TCP, MR_FORWARDING_NAT, true},
    {"nat tcp4 reply, any port", Way::reply, true, MR_PROTOCOL_TCP, MR_FORWARDING_NAT, true},
};

// Makes a datagram over IPv4 the first fragment of a longer one.
inline void cut_datagram(std::uint8_t* frame) {
  std::uint8_t* ip = frame + MR_ETH_BYTES;
  const auto before = core::load<std::uint16_t>(ip + MR_IPV4_FRAGMENT);
  const std::uint16_t after = core::to_be16(MR_IPV4_MORE_FRAGMENTS);
  const auto checksum = core::load<std::uint16_t>(ip + MR_IPV4_CHECKSUM);
  core::store(ip + MR_IPV4_FRAGMENT, after);
  core::store(ip + MR_IPV4_CHECKSUM,
              mr_updated_checksum(checksum, mr_checksum_delta(before, after)));
  core::store(ip + MR_IPV4_BYTES + MR_UDP_LENGTH, core::to_be16(2000));
}

inline constexpr std::uint32_t kKnownFlows = 1000;
inline constexpr std::uint8_t kNodeMac[6] = {2, 0, 0, 0, 0, 0};

}  // namespace millrace::bench
