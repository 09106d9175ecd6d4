// SPDX-License-Identifier: Apache-2.0
//
// The Internet checksum (RFC 1071) and its incremental update (RFC 1624). HOT.
//
// Sums are taken over 16-bit words as they lie in memory: one's-complement addition does not care
// about byte order as long as both sides use the same one, so nothing is swapped.
#pragma once

#include <cstdint>
#include <span>

#include "dataplane/contract/flow_abi.h"
#include "dataplane/core/wire.h"

namespace millrace::core {

// Folds a sum of 16-bit words (of up to 2^48 of them) to 16 bits with end-around carry.
[[nodiscard]] inline std::uint16_t fold(std::uint64_t sum) noexcept {
  sum = (sum & 0xffffffffu) + (sum >> 32);
  sum = (sum & 0xffffu) + (sum >> 16);
  sum = (sum & 0xffffu) + (sum >> 16);
  sum = (sum & 0xffffu) + (sum >> 16);
  return static_cast<std::uint16_t>(sum);
}

// One's-complement sum (not complemented) of any bytes; an odd last byte counts as if padded by
// zero.
[[nodiscard]] std::uint64_t sum_bytes(std::span<const std::uint8_t> bytes) noexcept;

// True when the 20 bytes of an option-less IPv4 header sum to 0xffff, checksum included.
[[nodiscard]] inline bool ipv4_checksum_holds(const std::uint8_t* header) noexcept {
  std::uint64_t sum = 0;
  for (std::uint32_t at = 0; at < ipv4::kBytes; at += 4) sum += load<std::uint32_t>(header + at);
  return fold(sum) == 0xffff;
}

[[nodiscard]] inline std::uint64_t sum_of(const mr_addr& addr) noexcept {
  return std::uint64_t{load<std::uint32_t>(addr.bytes)} + load<std::uint32_t>(addr.bytes + 4) +
         load<std::uint32_t>(addr.bytes + 8) + load<std::uint32_t>(addr.bytes + 12);
}

// What a checksum field's complement must gain when words that sum to `old_sum` become words that
// sum to `new_sum`: ~m + m' of RFC 1624, equation 3.
[[nodiscard]] inline std::uint16_t checksum_delta(std::uint64_t old_sum,
                                                  std::uint64_t new_sum) noexcept {
  return fold(std::uint64_t{static_cast<std::uint16_t>(~fold(old_sum))} + fold(new_sum));
}

// The delta of the opposite rewrite.
[[nodiscard]] inline std::uint16_t negated(std::uint16_t delta) noexcept {
  return static_cast<std::uint16_t>(~delta);
}

// The checksum after the rewrite: HC' = ~(~HC + delta). Never turns a wrong checksum into a right
// one.
[[nodiscard]] inline std::uint16_t updated_checksum(std::uint16_t checksum,
                                                    std::uint32_t delta) noexcept {
  std::uint32_t sum = static_cast<std::uint16_t>(~checksum) + delta;
  sum = (sum & 0xffffu) + (sum >> 16);
  sum = (sum & 0xffffu) + (sum >> 16);
  return static_cast<std::uint16_t>(~sum);
}

// Delta of one TTL decrement in the IPv4 header: TTL is the first byte of its word, the low one
// here.
inline constexpr std::uint16_t kTtlDelta = 0xfffe;  // ~1 + 0, that is -1

// Full checksum of a transport segment with its pseudo-header (RFC 9293 section 3.1, RFC 8200 8.1).
// `source` and `destination` are raw addresses, both of 4 or both of 16 bytes; the segment's
// checksum field must be zero.
[[nodiscard]] std::uint16_t transport_checksum(std::span<const std::uint8_t> source,
                                               std::span<const std::uint8_t> destination,
                                               std::uint8_t protocol,
                                               std::span<const std::uint8_t> segment) noexcept;

}  // namespace millrace::core
