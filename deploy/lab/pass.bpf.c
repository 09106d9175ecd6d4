// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Leaves every frame to the kernel. For the other end of a veth whose own end runs the engine's
// program: what XDP sends (XDP_TX) waits there for ever unless that end has a program, too.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

SEC("xdp")
int pass(__attribute__((unused)) struct xdp_md* ctx) { return XDP_PASS; }
