// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// The Internet checksum (RFC 1071) and its incremental update (RFC 1624), as core/checksum.h has
// them: sums of 16-bit words as they lie in memory.
#pragma once

#include "bpf/packet.bpf.h"

INLINE uint16_t fold(uint64_t sum) {
  sum = (sum & 0xffffffffu) + (sum >> 32);
  sum = (sum & 0xffffu) + (sum >> 16);
  sum = (sum & 0xffffu) + (sum >> 16);
  sum = (sum & 0xffffu) + (sum >> 16);
  return (uint16_t)sum;
}

INLINE uint16_t plus(uint16_t a, uint16_t b) {
  const uint32_t sum = (uint32_t)a + b;
  return (uint16_t)(sum + (sum >> 16));
}

INLINE uint16_t updated_checksum(uint16_t checksum, uint16_t delta) {
  return (uint16_t)~plus((uint16_t)~checksum, delta);
}

// For sums below 2^35. The constant is a multiple of 0xffff, so it changes nothing but that the
// difference stays above 0.
INLINE uint16_t checksum_delta(uint64_t old_sum, uint64_t new_sum) {
  return fold(new_sum + (0xffffULL << 32) - old_sum);
}

INLINE uint64_t sum_of_addr(const struct mr_addr* addr) {
  return (uint64_t)load32(addr->bytes) + load32(addr->bytes + 4) + load32(addr->bytes + 8) +
         load32(addr->bytes + 12);
}

INLINE uint64_t sum_of_words(struct addr_words addr) {
  return (addr.low & 0xffffffffu) + (addr.low >> 32) + (addr.high & 0xffffffffu) +
         (addr.high >> 32);
}

// Of the 20 bytes of an IPv4 header, its own checksum among them.
INLINE uint64_t sum_of_ipv4_header(const uint8_t* ip) {
  return (uint64_t)load32(ip) + load32(ip + 4) + load32(ip + 8) + load32(ip + 12) + load32(ip + 16);
}

INLINE void write_ipv4_checksum(uint8_t* ip) {
  store16(ip + 10, 0);
  store16(ip + 10, (uint16_t)~fold(sum_of_ipv4_header(ip)));
}

// What the pseudo-header of a transport adds (RFC 9293 section 3.1, RFC 8200 section 8.1).
INLINE uint64_t sum_of_pseudo_header(uint64_t addr_sum, uint8_t protocol, uint32_t bytes) {
  return addr_sum + bpf_htons(protocol) + bpf_htonl(bytes);
}

// Of `bytes` bytes from `at` on, at most 512 of them: what the program sums in full is short. The
// verifier follows every turn, so the bound is part of the function.
enum {
  SUM_BYTES_MAX = 512,
};
VERIFIED_ONCE uint64_t sum_of_packet(struct xdp_md* ctx, uint32_t offset, uint32_t bytes) {
  const uint8_t* end = packet_end(ctx);
  const uint8_t* at = packet_start(ctx) + (offset & 0xff);
  uint64_t sum = 0;
#pragma clang loop unroll(disable)
  for (uint32_t i = 0; i < SUM_BYTES_MAX; i += 2) {
    if (i >= bytes) break;
    if (i + 1 == bytes) {
      if (at + 1 > end) break;
      sum += *at;
      break;
    }
    if (at + 2 > end) break;
    sum += load16(at);
    at += 2;
  }
  return sum;
}
