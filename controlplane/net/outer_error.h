// SPDX-License-Identifier: Apache-2.0
//
// What a router says of a packet that this node has put around a client's (ipip, gue): it was too
// big for the next link. Cold and pure.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "controlplane/model/model.h"

namespace millrace::control {

struct OuterError {
  // The client's packet that was inside, if so much of it is quoted.
  struct Inner {
    IpAddress vip;
    std::uint8_t protocol = 0;
    std::uint16_t vip_port = 0;  // 0 for other protocols than TCP and UDP
  };

  IpAddress source;  // of the outer packet, as below
  IpAddress destination;
  std::uint8_t protocol = 0;           // MR_PROTOCOL_IPV4_IN_IP, MR_PROTOCOL_IPV6_IN_IP or UDP
  std::uint16_t destination_port = 0;  // of UDP
  std::uint16_t mtu = 0;               // of the link, in bytes of L3
  std::optional<Inner> inner;
};

// `message` is what a raw ICMP socket of that family gives: over IPv4 with the IP header, over IPv6
// without (RFC 3542 section 3). Nothing unless it says "fragmentation needed" with the MTU (RFC
// 1191 section 4) or "packet too big" (RFC 4443 section 3.2), and quotes a packet that this node's
// engines could have sent. It may be forged: whoever uses it checks what it quotes.
[[nodiscard]] std::optional<OuterError> read_outer_error(bool is_v4,
                                                         std::span<const std::uint8_t> message);

}  // namespace millrace::control
