// SPDX-License-Identifier: Apache-2.0
//
// Does the checksum of a received packet's transport header hold? HOT.
#pragma once

#include "dataplane/core/checksum.h"
#include "dataplane/core/parse.h"
#include "dataplane/core/wire.h"

namespace millrace::pktgen {

[[nodiscard]] inline std::uint64_t sum_of_words(std::uint64_t words) noexcept {
  return (words & 0xffffffffu) + (words >> 32);
}

// `parsed` is of `packet`, with shape transport or icmp. UDP without a checksum over IPv4 holds.
[[nodiscard]] inline bool l4_checksum_holds(const core::Packet& packet,
                                            const core::Parsed& parsed) noexcept {
  const std::uint8_t* ip = packet.data + core::eth::kBytes;
  const std::uint8_t* l4 = packet.data + parsed.l4_offset();
  std::uint32_t l4_bytes = core::eth::kBytes + parsed.ip_bytes - parsed.l4_offset();
  if (parsed.protocol == core::ip_protocol::kUdp) {
    if (core::load<std::uint16_t>(l4 + core::udp::kChecksum) == 0) return parsed.is_v4;
    l4_bytes =
        core::from_be16(core::load<std::uint16_t>(l4 + core::udp::kLength));  // parse() checked it
  }
  std::uint64_t sum = core::sum_bytes({l4, l4_bytes});
  if (parsed.protocol != core::ip_protocol::kIcmp) {
    sum += parsed.is_v4 ? sum_of_words(core::load<std::uint64_t>(ip + core::ipv4::kSource))
                        : core::sum_bytes({ip + core::ipv6::kSource, 32});
    sum += std::uint64_t{core::to_be16(static_cast<std::uint16_t>(l4_bytes))} +
           core::to_be16(parsed.protocol);
  }
  return core::fold(sum) == 0xffff;
}

}  // namespace millrace::pktgen
