// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// The Internet checksum (RFC 1071) and its incremental update (RFC 1624), over numbers.
//
// Sums are taken over 16-bit words as they lie in memory: one's-complement addition does not care
// about byte order as long as both sides use the same one, so nothing is swapped.
#ifndef MILLRACE_RULES_CHECKSUM_RULE_H_
#define MILLRACE_RULES_CHECKSUM_RULE_H_

#include "dataplane/rules/rule.h"

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#endif

// What one decrement of TTL adds to the IPv4 header's checksum. TTL is the low byte of its word:
// ~1 + 0, that is -1.
#define MR_TTL_DELTA 0xfffeu

// Folds a sum of 16-bit words (of up to 2^48 of them) to 16 bits with end-around carry. The result
// is 0 only for 0.
MR_RULE uint16_t mr_fold(uint64_t sum) {
  uint32_t words = 0;
  const bool carries = __builtin_add_overflow((uint32_t)sum, (uint32_t)(sum >> 32), &words);
  words += carries;
  // The upper half becomes the sum of both, carry from the lower one included.
  return (uint16_t)((words + (words << 16 | words >> 16)) >> 16);
}

// One's-complement sum of an address by its four words, of at most 2^34.
MR_RULE uint64_t mr_sum_of_addr(uint32_t first, uint32_t second, uint32_t third, uint32_t fourth) {
  return (uint64_t)first + second + third + fourth;
}

// What a transport's pseudo-header adds to the addresses (RFC 9293 section 3.1, RFC 8200 section
// 8.1).
MR_RULE uint64_t mr_sum_of_pseudo_header(uint64_t addr_sum, uint32_t protocol, uint32_t bytes) {
  return addr_sum + __builtin_bswap16((uint16_t)protocol) + __builtin_bswap32(bytes);
}

// True when the 20 bytes of an option-less IPv4 header sum to 0xffff, checksum included; they are
// three words as loaded. The header is summed in 64-bit words with end-around carry. 0xffff divides
// 2^64 - 1, so the 16-bit sum is 0xffff exactly when the 64-bit sum is a multiple of 0xffff. (It is
// not zero, because of the version field.) Divisibility by a constant: Lemire et al., "Faster
// remainder by direct computation", 2019.
MR_RULE bool mr_ipv4_checksum_holds(uint64_t first, uint64_t second, uint64_t third) {
  const uint64_t inverse = 0xfffefffefffeffffULL;  // of 0xffff modulo 2^64
  const uint64_t multiples = 0xffffffffffffffffULL / 0xffff;
  uint64_t sum = first + second;
  sum += sum < second;
  sum += third;
  sum += sum < third;
  return sum * inverse <= multiples;
}

// What a checksum field's complement must gain when words that sum to `old_sum` become words that
// sum to `new_sum`: ~m + m' of RFC 1624, equation 3. Sums of at most 2^36.
MR_RULE uint16_t mr_checksum_delta(uint64_t old_sum, uint64_t new_sum) {
  const uint64_t zero = 0xffffULL << 24;  // of one's complement: nothing goes below it
  return mr_fold(zero - old_sum + new_sum);
}

// The checksum after a word of what it covers has changed, as if it was computed anew: of the two
// forms of zero the same one comes out. The sum must have another word that is not 0.
MR_RULE uint16_t mr_recomputed_checksum(uint16_t checksum, uint32_t before, uint32_t after) {
  return (uint16_t)~mr_fold((uint64_t)(uint16_t)~checksum + (uint32_t)~before + after);
}

// The delta of the opposite rewrite.
MR_RULE uint16_t mr_negated_delta(uint16_t delta) { return (uint16_t)~delta; }

// The checksum after the rewrite: HC' = ~(~HC + delta), which is HC - delta with end-around borrow.
// Never turns a wrong checksum into a right one.
MR_RULE uint16_t mr_updated_checksum(uint16_t checksum, uint16_t delta) {
  uint16_t updated = 0;
  const bool borrows = __builtin_sub_overflow(checksum, delta, &updated);
  return (uint16_t)(updated - borrows);
}

// A checksum of UDP as it is written: zero would say that there is none (RFC 768).
MR_RULE uint16_t mr_written_udp_checksum(uint16_t checksum) {
  return checksum == 0 ? (uint16_t)0xffff : checksum;
}

// UDP's checksum after a rewrite. The sender may have computed none (RFC 768), over IPv6 too (RFC
// 6935). The receiver decides whether it accepts that.
MR_RULE uint16_t mr_updated_udp_checksum(uint16_t checksum, uint16_t delta) {
  if (checksum == 0) return 0;
  return mr_written_udp_checksum(mr_updated_checksum(checksum, delta));
}

// ICMP's checksum after its type changed. RFC 1624 cannot tell the two zeros of one's complement
// apart. 0xffff is right for both, also when everything else is 0.
MR_RULE uint16_t mr_checksum_of_type(uint16_t checksum, uint32_t old_type, uint32_t new_type) {
  return mr_written_udp_checksum(
      mr_updated_checksum(checksum, mr_checksum_delta(old_type, new_type)));
}

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif  // MILLRACE_RULES_CHECKSUM_RULE_H_
