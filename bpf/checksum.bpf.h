// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// The Internet checksum (rules/checksum_rule.h) of bytes in memory.
#pragma once

#include "bpf/packet.bpf.h"
#include "dataplane/rules/checksum_rule.h"

INLINE uint64_t sum_of_words(struct addr_words addr) {
  return mr_sum_of_addr((uint32_t)addr.low, (uint32_t)(addr.low >> 32), (uint32_t)addr.high,
                        (uint32_t)(addr.high >> 32));
}

INLINE uint64_t sum_of_addr(const struct mr_addr* addr) {
  const uint8_t* bytes = addr->bytes;
  return mr_sum_of_addr(load32(bytes), load32(bytes + 4), load32(bytes + 8), load32(bytes + 12));
}

// Of the 20 bytes of an IPv4 header, its own checksum among them.
INLINE uint64_t sum_of_ipv4_header(const uint8_t* ip) {
  return (uint64_t)load32(ip) + load32(ip + 4) + load32(ip + 8) + load32(ip + 12) + load32(ip + 16);
}

INLINE void write_ipv4_checksum(uint8_t* ip) {
  store16(ip + MR_IPV4_CHECKSUM, 0);
  store16(ip + MR_IPV4_CHECKSUM, (uint16_t)~mr_fold(sum_of_ipv4_header(ip)));
}

// The sum of `bytes` bytes from `at` on, at most 512 of them: what the program sums in full is
// short. The verifier follows every turn of the loop, so the bound is part of the function.
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
