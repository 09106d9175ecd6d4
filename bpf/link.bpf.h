// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// The link header: whom the frame is for, and a tag that names no VLAN.
#pragma once

#include "bpf/config.bpf.h"
#include "bpf/rewrite.bpf.h"

INLINE _Bool is_addressed_to(const uint8_t* frame, const uint8_t* mac) {
  return (frame[0] & 1) != 0 ||
         ((load32(frame) ^ load32(mac)) | (load16(frame + 4) ^ load16(mac + 4))) == 0;
}

// Frames for other machines (bridged virtual machines, what a switch floods) are the kernel's. But
// a packet to a VIP is dropped: another node may be forwarding it.
OUT_OF_LINE int leave_foreign(struct xdp_md* ctx, struct packet* p) {
  const uint8_t* frame = packet_start(ctx);
  const uint8_t* end = packet_end(ctx);
  if (!has_room(frame, MR_ETH_BYTES + MR_IPV4_BYTES, end)) return punt(p);
  const uint16_t type = load16(frame + MR_ETH_TYPE);
  struct addr_words destination = {0, 0};
  if (type == bpf_htons(MR_ETH_TYPE_IPV4)) {
    destination = v4_words(load32(frame + MR_ETH_BYTES + MR_IPV4_DESTINATION));
  } else if (type == bpf_htons(MR_ETH_TYPE_IPV6) &&
             has_room(frame, MR_ETH_BYTES + MR_IPV6_BYTES, end)) {
    destination = words_at(frame + MR_ETH_BYTES + MR_IPV6_DESTINATION);
  }
  const _Bool is_to_vip = is_vip(p->root_index, destination.low, destination.high);
  return is_to_vip ? drop(p, MR_DROP_OTHER_MAC) : punt(p);
}

// Takes off a tag that names a priority but no VLAN (IEEE 802.1Q, VID 0), since the packet belongs
// to the untagged interface. Frames with other tags are the kernel's, and so are tagged frames that
// carry neither IP nor ARP. Nonzero when the frame is 4 bytes shorter; packet pointers are stale
// then.
VERIFIED_ONCE int strip_priority_tag(struct xdp_md* ctx) {
  uint8_t* frame = packet_start(ctx);
  if (!has_room(frame, MR_ETH_BYTES + MR_VLAN_BYTES, packet_end(ctx))) return 0;
  const uint8_t* tag = frame + MR_ETH_TYPE;
  const uint16_t type = load16(tag + MR_VLAN_BYTES);
  if ((load16(tag + MR_VLAN_CONTROL) & bpf_htons(MR_VLAN_ID_MASK)) != 0) return 0;
  if (type != bpf_htons(MR_ETH_TYPE_IPV4) && type != bpf_htons(MR_ETH_TYPE_IPV6) &&
      type != bpf_htons(MR_ETH_TYPE_ARP)) {
    return 0;
  }
  const uint64_t first = load64(frame);
  const uint32_t second = load32(frame + 8);
  store64(frame + MR_VLAN_BYTES, first);
  store32(frame + MR_VLAN_BYTES + 8, second);
  return bpf_xdp_adjust_head(ctx, MR_VLAN_BYTES) == 0;
}
