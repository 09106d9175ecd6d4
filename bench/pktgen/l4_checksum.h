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
  const std::uint8_t* ip = packet.data + MR_ETH_BYTES;
  const std::uint8_t* l4 = packet.data + parsed.l4_offset();
  std::uint32_t l4_bytes = MR_ETH_BYTES + parsed.ip_bytes - parsed.l4_offset();
  if (parsed.protocol == MR_PROTOCOL_UDP) {
    if (core::load<std::uint16_t>(l4 + MR_UDP_CHECKSUM) == 0) return parsed.is_v4;
    l4_bytes =
        core::from_be16(core::load<std::uint16_t>(l4 + MR_UDP_LENGTH));  // parse() checked it
  }
  std::uint64_t sum = core::sum_bytes({l4, l4_bytes});
  if (parsed.protocol != MR_PROTOCOL_ICMP) {
    sum += parsed.is_v4 ? sum_of_words(core::load<std::uint64_t>(ip + MR_IPV4_SOURCE))
                        : core::sum_bytes({ip + MR_IPV6_SOURCE, 32});
    sum += std::uint64_t{core::to_be16(static_cast<std::uint16_t>(l4_bytes))} +
           core::to_be16(parsed.protocol);
  }
  return mr_fold(sum) == 0xffff;
}

}  // namespace millrace::pktgen
