// SPDX-License-Identifier: Apache-2.0
//
// The Internet checksum (rules/checksum_rule.h) of bytes in memory. HOT.
#pragma once

#include <cstdint>
#include <span>

#include "dataplane/contract/flow_abi.h"
#include "dataplane/core/wire.h"
#include "dataplane/rules/checksum_rule.h"

namespace millrace::core {

// One's-complement sum (not complemented) of any bytes; an odd last byte counts as if padded by
// zero.
[[nodiscard]] std::uint64_t sum_bytes(std::span<const std::uint8_t> bytes) noexcept;

// True when the 20 bytes of an option-less IPv4 header have the right checksum among them.
[[nodiscard]] inline bool ipv4_checksum_holds(const std::uint8_t* header) noexcept {
  return mr_ipv4_checksum_holds(load<std::uint64_t>(header), load<std::uint64_t>(header + 8),
                                load<std::uint32_t>(header + 16));
}

[[nodiscard]] inline std::uint64_t sum_of(const mr_addr& addr) noexcept {
  const auto word = [&](std::size_t index) { return load<std::uint32_t>(addr.bytes + 4 * index); };
  return mr_sum_of_addr(word(0), word(1), word(2), word(3));
}

// Full checksum of a transport segment with its pseudo-header (RFC 9293 section 3.1, RFC 8200 8.1).
// `source` and `destination` are raw addresses, both of 4 or both of 16 bytes; the segment's
// checksum field must be zero.
[[nodiscard]] std::uint16_t transport_checksum(std::span<const std::uint8_t> source,
                                               std::span<const std::uint8_t> destination,
                                               std::uint8_t protocol,
                                               std::span<const std::uint8_t> segment) noexcept;

}  // namespace millrace::core
