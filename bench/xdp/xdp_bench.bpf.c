// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Calls the XDP engine's packet path again and again with the packets of changing flows, inside one
// BPF_PROG_TEST_RUN: that repeats a program on its own output, so this wrapper takes away what was
// put in front and writes the headers of the next flow, in an order without a pattern. What it
// costs itself is measured by the arm that only drops.
#include "bpf/nlb_xdp.bpf.c"

#include "bench/xdp/xdp_bench_abi.h"

struct mr_xdp_bench bench SEC(".data.bench");

// Global functions, as a program that is linked in would be; the verifier looks at each once.
__attribute__((noinline)) int bench_balance(struct xdp_md* ctx) { return balance(ctx); }
__attribute__((noinline)) int bench_drop(struct xdp_md* ctx) {
  return ctx == 0 ? XDP_PASS : XDP_DROP;
}

// The next flow: a multiplicative congruential step over a power of two visits each once.
INLINE uint32_t next_flow(void) {
  bench.sequence = bench.sequence * 1664525u + 1013904223u;
  return bench.sequence & bench.flow_mask;
}

// Headers as they arrive, with the client's address and port of flow `flow`.
INLINE int write_headers(struct xdp_md* ctx, uint32_t flow) {
  uint8_t* frame = packet_start(ctx);
  if (frame + sizeof(bench.headers) > packet_end(ctx)) return -1;
#pragma clang loop unroll(full)
  for (uint32_t i = 0; i < sizeof(bench.headers) / 8; ++i) {
    store64(frame + 8 * i, bench.headers[i]);
  }
  const uint32_t client = bench.client_be + bpf_htonl(flow >> 14 & 0xffff);
  const uint16_t port = bpf_htons((uint16_t)(1024 + (flow & 0x3fff)));
  if (bench.is_v4) {
    store32(frame + MR_ETH_BYTES + MR_IPV4_SOURCE, client);
    store16(frame + MR_ETH_BYTES + MR_IPV4_CHECKSUM,
            (uint16_t)~mr_fold((uint64_t)bench.ip_sum + client));
    store16(frame + l4_offset(1), port);
  } else {
    store32(frame + MR_ETH_BYTES + MR_IPV6_SOURCE + 12, client);
    store16(frame + l4_offset(0), port);
  }
  return 0;
}

INLINE int prepare(struct xdp_md* ctx) {
  uint64_t bytes = (uint64_t)(packet_end(ctx) - packet_start(ctx));
  asm volatile("" : "+r"(bytes));  // or the compiler subtracts in 32 bits, which pointers may not
  const int32_t added = (int32_t)bytes - (int32_t)bench.frame_bytes;
  if (added != 0 && bpf_xdp_adjust_head(ctx, added) != 0) return -1;
  return write_headers(ctx, bench.is_sequential ? bench.sequence++ & bench.flow_mask : next_flow());
}

SEC("xdp")
int xdp_bench_balance(struct xdp_md* ctx) {
  if (prepare(ctx) != 0) return XDP_ABORTED;
  const int verdict = bench_balance(ctx);
  if (verdict == XDP_TX || verdict == XDP_REDIRECT) bench.forwarded += 1;
  return verdict;
}

SEC("xdp")
int xdp_bench_drop(struct xdp_md* ctx) {
  if (prepare(ctx) != 0) return XDP_ABORTED;
  return bench_drop(ctx);
}
