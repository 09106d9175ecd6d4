// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// The maximum segment size (MSS) that a SYN announces, and how it is lowered (RFC 9293 sections 3.2
// and 3.7.1). Sizes are of data alone: without the headers, and without taking options into account
// (RFC 6691).
#ifndef MILLRACE_RULES_MSS_RULE_H_
#define MILLRACE_RULES_MSS_RULE_H_

#include "dataplane/rules/checksum_rule.h"
#include "dataplane/rules/header_rule.h"

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#endif

#define MR_TCP_OPTION_END 0u
#define MR_TCP_OPTION_NONE 1u  // one byte, without a length
#define MR_TCP_OPTION_MSS 2u
#define MR_TCP_MSS_BYTES 4u  // kind, length, and the size in network order
#define MR_TCP_OPTIONS_BYTES_MAX 40u

// A size that every host takes in segments (RFC 9293 section 3.7.1, RFC 8200 section 5).
#define MR_MSS_MIN 536u

// The largest size whose segments fit `mtu` bytes of L3; MR_MSS_MIN where even that does not fit.
MR_RULE uint16_t mr_mss_of_mtu(uint32_t mtu, bool is_v4) {
  const uint32_t header_bytes = (is_v4 ? MR_IPV4_BYTES : MR_IPV6_BYTES) + MR_TCP_BYTES;
  const uint32_t mss = mtu > header_bytes ? mtu - header_bytes : 0;
  return (uint16_t)(mss < MR_MSS_MIN ? MR_MSS_MIN : mss);
}

// Bytes from an option's kind to the next option's. 0: the option is the last one or malformed.
// `left`: bytes of header from the kind on. `length` is the byte behind the kind.
MR_RULE uint32_t mr_tcp_option_bytes(uint32_t kind, uint32_t length, uint32_t left) {
  if (kind == MR_TCP_OPTION_END) return 0;
  if (kind == MR_TCP_OPTION_NONE) return 1;
  return length < 2 || length > left ? 0 : length;
}

// What TCP's checksum gains when the size changes. `is_odd`: the size starts at an odd byte of the
// header, so that its bytes are halves of two words.
MR_RULE uint16_t mr_mss_delta(uint16_t old_be, uint16_t new_be, bool is_odd) {
  const uint16_t delta = mr_checksum_delta(old_be, new_be);
  return is_odd ? __builtin_bswap16(delta) : delta;
}

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif  // MILLRACE_RULES_MSS_RULE_H_
