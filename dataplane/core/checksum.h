// SPDX-License-Identifier: Apache-2.0
//
// The Internet checksum (RFC 1071) and its incremental update (RFC 1624). HOT.
//
// Sums are taken over 16-bit words as they lie in memory: one's-complement addition does not care
// about byte order as long as both sides use the same one, so nothing is swapped.
#pragma once

#include <bit>
#include <cstdint>
#include <span>

#include "dataplane/contract/flow_abi.h"
#include "dataplane/core/wire.h"

namespace millrace::core {

// Folds a sum of 16-bit words (of up to 2^48 of them) to 16 bits with end-around carry. Is 0 for 0
// alone.
[[nodiscard]] inline std::uint16_t fold(std::uint64_t sum) noexcept {
  std::uint32_t words;
  const bool carries = __builtin_add_overflow(static_cast<std::uint32_t>(sum),
                                              static_cast<std::uint32_t>(sum >> 32), &words);
  words += carries;
  // The upper half becomes the sum of both, carry from the lower one included.
  return static_cast<std::uint16_t>((words + std::rotl(words, 16)) >> 16);
}

// One's-complement sum (not complemented) of any bytes; an odd last byte counts as if padded by
// zero.
[[nodiscard]] std::uint64_t sum_bytes(std::span<const std::uint8_t> bytes) noexcept;

// True when the 20 bytes of an option-less IPv4 header sum to 0xffff, checksum included.
// The header is summed in 64-bit words with end-around carry; because 0xffff divides 2^64 - 1, its
// 16-bit sum is 0xffff exactly when that sum is a multiple of 0xffff (zero is ruled out by the
// version field). Divisibility by a constant: Lemire et al., "Faster remainder by direct
// computation", 2019.
[[nodiscard]] inline bool ipv4_checksum_holds(const std::uint8_t* header) noexcept {
  constexpr std::uint64_t kInverse = 0xfffefffefffefffeULL + 1;  // of 0xffff modulo 2^64
  constexpr std::uint64_t kMultiples = 0xffffffffffffffffULL / 0xffff;
  static_assert(kInverse * 0xffff == 1);
  const std::uint64_t second = load<std::uint64_t>(header + 8);
  const std::uint64_t third = load<std::uint32_t>(header + 16);
  std::uint64_t sum = load<std::uint64_t>(header) + second;
  sum += sum < second;
  sum += third;
  sum += sum < third;
  return sum * kInverse <= kMultiples;
}

[[nodiscard]] inline std::uint64_t sum_of(const mr_addr& addr) noexcept {
  return std::uint64_t{load<std::uint32_t>(addr.bytes)} + load<std::uint32_t>(addr.bytes + 4) +
         load<std::uint32_t>(addr.bytes + 8) + load<std::uint32_t>(addr.bytes + 12);
}

// What a checksum field's complement must gain when words that sum to `old_sum` become words that
// sum to `new_sum`: ~m + m' of RFC 1624, equation 3. Sums of at most 2^36.
[[nodiscard]] inline std::uint16_t checksum_delta(std::uint64_t old_sum,
                                                  std::uint64_t new_sum) noexcept {
  // One's-complement zero, large enough that nothing goes below it.
  constexpr std::uint64_t kZero = std::uint64_t{0xffff} << 24;
  return fold(kZero - old_sum + new_sum);
}

// The delta of the opposite rewrite.
[[nodiscard]] inline std::uint16_t negated(std::uint16_t delta) noexcept {
  return static_cast<std::uint16_t>(~delta);
}

// The checksum after the rewrite: HC' = ~(~HC + delta), which is HC - delta with end-around borrow.
// Never turns a wrong checksum into a right one.
[[nodiscard]] inline std::uint16_t updated_checksum(std::uint16_t checksum,
                                                    std::uint16_t delta) noexcept {
  std::uint16_t updated;
  const bool borrows = __builtin_sub_overflow(checksum, delta, &updated);
  return static_cast<std::uint16_t>(updated - borrows);
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
