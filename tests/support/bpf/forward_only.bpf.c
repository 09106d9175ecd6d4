// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// The least that XDP can do as a router: a new target MAC address, out by the other nic. What it
// adds in the lab is the kernel's part of any XDP program's cost there. The nics are interfaces 2
// and 3 of their namespace; bench/lab/network.py gives what is behind interface N the address
// 02::N.
#include <linux/bpf.h>
#include <linux/if_ether.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int forward_only(struct xdp_md* ctx) {
  struct ethhdr* eth = (void*)(long)ctx->data;
  if ((void*)(eth + 1) > (void*)(long)ctx->data_end) return XDP_PASS;
  if (eth->h_proto != bpf_htons(ETH_P_IP)) return XDP_PASS;
  const __u32 out = ctx->ingress_ifindex ^ 1;
  __builtin_memcpy(eth->h_source, eth->h_dest, ETH_ALEN);
  __builtin_memset(eth->h_dest, 0, ETH_ALEN);
  eth->h_dest[0] = 2;
  eth->h_dest[5] = (__u8)out;
  return bpf_redirect(out, 0);
}
