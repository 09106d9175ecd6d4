// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// What the wrapper program (xdp_bench.bpf.c) is told by the benchmark. C subset.
#ifndef MILLRACE_BENCH_XDP_XDP_BENCH_ABI_H_
#define MILLRACE_BENCH_XDP_XDP_BENCH_ABI_H_

#include <stdint.h>

struct mr_xdp_bench {
  uint64_t headers[8];  // the first 64 bytes of a frame, its client to be filled in
  uint32_t frame_bytes;
  uint32_t flow_mask;      // flows less one, a power of two less one
  uint32_t sequence;       // of flows
  uint32_t is_sequential;  // one flow after the other, to fill the table
  uint32_t is_v4;
  uint32_t client_be;  // first client's IPv4 address, or the last word of its IPv6 prefix
  uint32_t ip_sum;     // of the IPv4 header's words without checksum and source
  uint32_t reserved;
  uint64_t forwarded;  // packets that were sent on
};

// What the sender of live frames (xdp_live.bpf.c) is told, and what the receiver counts.
struct mr_xdp_live {
  uint32_t out_ifindex;
  uint32_t reserved;
  uint64_t arrived;
};

#endif  // MILLRACE_BENCH_XDP_XDP_BENCH_ABI_H_
