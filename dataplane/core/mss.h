// SPDX-License-Identifier: Apache-2.0
//
// Lowers the maximum segment size that a SYN announces (rules/mss_rule.h). Warm: once per
// connection and direction.
#pragma once

#include <cstdint>

#include "dataplane/contract/config_abi.h"
#include "dataplane/core/parse.h"
#include "dataplane/core/wire.h"
#include "dataplane/rules/mss_rule.h"

namespace millrace::core {

// `tcp`: a header whose options are whole. A size of at most `mss_max` stays, and a SYN without one
// gets none: its receiver then sends MR_MSS_MIN at most.
inline void lower_mss(std::uint8_t* tcp, std::uint16_t mss_max) noexcept {
  const std::uint32_t header_bytes = mr_tcp_header_bytes(tcp[MR_TCP_DATA_OFFSET]);
  std::uint8_t* const checksum = tcp + MR_TCP_CHECKSUM;
  std::uint32_t step = 0;
  for (std::uint32_t at = MR_TCP_BYTES; at + MR_TCP_MSS_BYTES <= header_bytes; at += step) {
    std::uint8_t* const option = tcp + at;
    step = mr_tcp_option_bytes(option[0], option[1], header_bytes - at);
    if (step == 0) return;
    if (option[0] != MR_TCP_OPTION_MSS || step != MR_TCP_MSS_BYTES) continue;
    const auto old_be = load<std::uint16_t>(option + 2);
    if (from_be16(old_be) <= mss_max) continue;
    const std::uint16_t new_be = to_be16(mss_max);
    const std::uint16_t delta = mr_mss_delta(old_be, new_be, at % 2 != 0);
    store(checksum, mr_updated_checksum(load<std::uint16_t>(checksum), delta));
    store(option + 2, new_be);
  }
}

// Lowers what a SYN of the target announces. A packet that has no hop left is quoted as it came, so
// it stays as it is.
inline void clamp_mss_of_target(Packet& packet, const Parsed& parsed,
                                const mr_target& target) noexcept {
  if (target.mss_max == 0 || (parsed.tcp_flags & MR_TCP_SYN) == 0) return;
  if (hops_left(packet, parsed) < 2) return;
  lower_mss(packet.data + parsed.l4_offset(), target.mss_max);
}

// Likewise of a client, whose packets are also quoted when they are too large.
inline void clamp_mss_of_client(Packet& packet, const Parsed& parsed,
                                const mr_target& target) noexcept {
  if (parsed.ip_bytes <= target.mtu) clamp_mss_of_target(packet, parsed, target);
}

}  // namespace millrace::core
