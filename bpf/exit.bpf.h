// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Leaving by any nic or VLAN, for what does not take the short way: core/forwarder_link.cc for the
// other engine.
#pragma once

#include "bpf/flows.bpf.h"
#include "bpf/rewrite.bpf.h"

// Gives a frame that is ready from its type on the link header to a neighbour that has_exit(), and
// a tag where that is in a VLAN. `hop`: MAC address, then the index of nic or VLAN. `from`: the nic
// that the packet came by. Returns the action, and above it the nic; XDP_ABORTED: there is no room.
VERIFIED_ONCE int write_exit(struct xdp_md* ctx, uint64_t hop, uint32_t root, uint32_t from) {
  uint32_t nic = hop >> LAST_HOP_NIC_SHIFT & 0xff;
  const uint8_t* own = nic_mac(nic);
  uint32_t tag = 0;
  if (nic >= MR_NIC_COUNT_MAX) {
    const struct mr_vlan* vlan = vlan_at(&control.roots[root & 1], nic);
    if (vlan == 0) return XDP_ABORTED;
    nic = vlan->nic;
    own = vlan->mac;
    tag = vlan->tag;
  }
  uint8_t macs[16];
  store64(macs, hop);
  store32(macs + 6, load32(own));
  store16(macs + 10, load16(own + 4));
  uint8_t* frame = packet_start(ctx);
  if (!has_room(frame, MR_ETH_BYTES, packet_end(ctx))) return XDP_ABORTED;
  store32(frame, load32(macs));
  store32(frame + 4, load32(macs + 4));
  store32(frame + 8, load32(macs + 8));
  if (tag != 0 && !put_tag(ctx, tag)) return XDP_ABORTED;
  const int action = nic == from ? (int)XDP_TX : (int)bpf_redirect_map(&tx_nics, nic, XDP_DROP);
  return action | (int)(nic << 8);
}

// Sends a packet that has been counted as forwarded.
OUT_OF_LINE int send_counted(struct xdp_md* ctx, struct packet* p, uint64_t hop) {
  const int exit = write_exit(ctx, hop, p->root_index, nic_it_came_by(p));
  if ((exit & 0xff) == XDP_ABORTED) {
    p->cpu->stats.counters[MR_COUNTER_FORWARDED_PACKETS] -= 1;
    p->cpu->stats.counters[MR_COUNTER_FORWARDED_BYTES] -= p->frame_bytes;
    return drop(p, MR_DROP_TOO_BIG);
  }
  if ((uint8_t)(hop >> LAST_HOP_NIC_SHIFT) >= MR_NIC_COUNT_MAX) {
    p->cpu->stats.counters[MR_COUNTER_FORWARDED_BYTES] += MR_VLAN_BYTES;
  }
  show_verdict(p, (uint8_t)(exit >> 8), 0);
  return exit & 0xff;
}
