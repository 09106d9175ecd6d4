// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// A sender of live frames, what receives them in the end, and the least that a program in between
// can do. The frames are the kernel's own and come back to it: what came back is written anew.
#include <linux/ip.h>

#include "bench/xdp/xdp_bench.bpf.c"

struct mr_xdp_live live SEC(".data.live");

// Not on any nic: run by BPF_PROG_TEST_RUN, the next flow's packet for each turn.
SEC("xdp")
int live_send(struct xdp_md* ctx) {
  const uint32_t flow = bench.is_sequential ? bench.sequence++ & bench.flow_mask : next_flow();
  if (write_headers(ctx, flow) != 0) return XDP_ABORTED;
  return (int)bpf_redirect(live.out_ifindex, 0);
}

SEC("xdp")
int live_drop(struct xdp_md* ctx) {
  live.arrived += 1;
  return ctx == 0 ? XDP_PASS : XDP_DROP;
}

INLINE void swap_macs(uint8_t* frame) {
  const uint64_t destination = load64(frame);
  store32(frame, load32(frame + MR_ETH_SOURCE));
  store16(frame + 4, load16(frame + MR_ETH_SOURCE + 4));
  store32(frame + MR_ETH_SOURCE, (uint32_t)destination);
  store16(frame + MR_ETH_SOURCE + 4, (uint16_t)(destination >> 32));
}

SEC("xdp")
int live_swap(struct xdp_md* ctx) {
  uint8_t* frame = packet_start(ctx);
  if (frame + MR_ETH_BYTES > packet_end(ctx)) return XDP_DROP;
  swap_macs(frame);
  return XDP_TX;
}

// An outer IPv4 header that is the same for all.
SEC("xdp")
int live_encapsulate(struct xdp_md* ctx) {
  uint8_t* frame = packet_start(ctx);
  if (frame + MR_ETH_BYTES > packet_end(ctx)) return XDP_DROP;
  const uint64_t macs_low = load64(frame);
  const uint64_t macs_high = load64(frame + 6);
  if (bpf_xdp_adjust_head(ctx, -(int)MR_IPV4_BYTES) != 0) return XDP_DROP;
  frame = packet_start(ctx);
  if (frame + MR_ETH_BYTES + MR_IPV4_BYTES > packet_end(ctx)) return XDP_DROP;
  store64(frame, macs_low);
  store64(frame + 6, macs_high);
  swap_macs(frame);
  struct iphdr* outer = (struct iphdr*)(frame + MR_ETH_BYTES);
  *outer = (struct iphdr){.ihl = 5,
                          .version = 4,
                          .tot_len = bpf_htons(70),
                          .ttl = 64,
                          .protocol = MR_PROTOCOL_IPV4_IN_IP,
                          .check = 0x1234,
                          .saddr = bpf_htonl(0xc0000201),
                          .daddr = bpf_htonl(0xac1f0101)};
  return XDP_TX;
}
