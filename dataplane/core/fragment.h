// SPDX-License-Identifier: Apache-2.0
//
// What the headers of a fragment say: where in its datagram it lies, and which datagram that is.
// Warm.
#pragma once

#include <cstdint>

#include "dataplane/core/wire.h"
#include "dataplane/rules/fragment_rule.h"

namespace millrace::core {

struct Fragment {
  mr_fragment_place place;
  std::uint32_t id;           // of the datagram, as loaded
  std::uint32_t data_offset;  // of what is behind IP and fragment header, from the frame's start
  std::uint8_t protocol;      // of the datagram
};

// The frame is IPv4 without options, or IPv6 with a whole fragment header right behind its own.
[[nodiscard]] inline Fragment fragment_at(const std::uint8_t* frame, bool is_v4) noexcept {
  const std::uint8_t* ip = frame + MR_ETH_BYTES;
  if (is_v4) {
    return {.place = mr_fragment_place_v4(from_be16(load<std::uint16_t>(ip + MR_IPV4_FRAGMENT))),
            .id = load<std::uint16_t>(ip + MR_IPV4_ID),
            .data_offset = MR_ETH_BYTES + MR_IPV4_BYTES,
            .protocol = ip[MR_IPV4_PROTOCOL]};
  }
  const std::uint8_t* header = ip + MR_IPV6_BYTES;
  const auto word = load<std::uint16_t>(header + MR_IPV6_FRAGMENT_WORD);
  return {.place = mr_fragment_place_v6(from_be16(word)),
          .id = load<std::uint32_t>(header + MR_IPV6_FRAGMENT_ID),
          .data_offset = MR_ETH_BYTES + MR_IPV6_BYTES + MR_IPV6_FRAGMENT_BYTES,
          .protocol = header[0]};
}

}  // namespace millrace::core
