// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// The link header of what comes in: whom the frame is for, and in which VLAN.
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
  if (!has_room(frame, MR_ETH_BYTES + MR_IPV4_BYTES, end)) return punt(ctx, p);
  const uint16_t type = load16(frame + MR_ETH_TYPE);
  struct addr_words destination = {0, 0};
  if (type == bpf_htons(MR_ETH_TYPE_IPV4)) {
    destination = v4_words(load32(frame + MR_ETH_BYTES + MR_IPV4_DESTINATION));
  } else if (type == bpf_htons(MR_ETH_TYPE_IPV6) &&
             has_room(frame, MR_ETH_BYTES + MR_IPV6_BYTES, end)) {
    destination = words_at(frame + MR_ETH_BYTES + MR_IPV6_DESTINATION);
  }
  const _Bool is_to_vip = is_vip(p->root_index, destination.low, destination.high);
  return is_to_vip ? drop(p, MR_DROP_OTHER_MAC) : punt(ctx, p);
}

enum {
  TAG_STAYS = -1,
  IS_FOREIGN = 1 << 8,
  IS_OURS = -4,  // no verdict
};

// Beside the nic's own. For a VLAN take_off_tag() has judged.
INLINE _Bool is_further_mac(uint32_t root, uint64_t wanted) {
  return wanted >> 48 >= MR_NIC_COUNT_MAX || is_local_mac(root, wanted);
}

// Takes off a tag that names no VLAN but a priority (IEEE 802.1Q, VID 0), since the packet belongs
// to the untagged interface, and one of a VLAN that the config knows. Frames with other tags are
// the kernel's, and so are tagged frames that carry neither IP nor ARP. Returns the index of nic or
// VLAN that the packet came by, with the frame 4 bytes shorter and packet pointers stale; and
// IS_FOREIGN beside it where the frame is for none of the VLAN's MAC addresses. Or TAG_STAYS.
// `root`: its index in control.roots.
VERIFIED_ONCE int take_off_tag(struct xdp_md* ctx, uint32_t root, uint32_t nic,
                               uint32_t cpu_index) {
  const struct mr_xdp_root* at = &control.roots[root & 1];
  uint8_t* frame = packet_start(ctx);
  if (!has_room(frame, MR_ETH_BYTES + MR_VLAN_BYTES, packet_end(ctx))) return TAG_STAYS;
  const uint8_t* tag = frame + MR_ETH_TYPE;
  const uint16_t type = load16(tag + MR_VLAN_BYTES);
  if (type != bpf_htons(MR_ETH_TYPE_IPV4) && type != bpf_htons(MR_ETH_TYPE_IPV6) &&
      type != bpf_htons(MR_ETH_TYPE_ARP)) {
    return TAG_STAYS;
  }
  const uint32_t id = bpf_ntohs(load16(tag + MR_VLAN_CONTROL)) & MR_VLAN_ID_MASK;
  if (id != 0) {
    const uint32_t place = (nic & (MR_NIC_COUNT_MAX - 1)) * MR_VLAN_ID_COUNT + id;
    if (place >= at->vlan_slot_count) return TAG_STAYS;
    const uint8_t* line = line_at(at->vlan_slots_line + place / MR_CONFIG_LINE_BYTES);
    struct mr_xdp_cpu* cpu = bpf_map_lookup_elem(&cpus, &cpu_index);
    if (line == 0 || cpu == 0) return TAG_STAYS;
    const uint32_t index = MR_NIC_COUNT_MAX + line[place % MR_CONFIG_LINE_BYTES];
    const struct mr_vlan* vlan = vlan_at(at, index);
    if (vlan == 0) return TAG_STAYS;
    cpu->vlan_tag = load32(tag);
    cpu->vlan_nic = (uint8_t)nic;
    store32(cpu->vlan_mac, load32(vlan->mac));
    store16(cpu->vlan_mac + 4, load16(vlan->mac + 4));
    nic = index;
    const uint64_t own = load64(frame) << 16 >> 16 | (uint64_t)index << 48;
    if (!is_addressed_to(frame, vlan->mac) && !is_local_mac(root, own)) nic |= IS_FOREIGN;
  }
  const uint64_t first = load64(frame);
  const uint32_t second = load32(frame + 8);
  store64(frame + MR_VLAN_BYTES, first);
  store32(frame + MR_VLAN_BYTES + 8, second);
  return bpf_xdp_adjust_head(ctx, MR_VLAN_BYTES) == 0 ? (int)nic : TAG_STAYS;
}

// Returns a verdict, or IS_OURS: whether or not the tag is gone, the packet is looked at further.
OUT_OF_LINE int look_at_tag(struct xdp_md* ctx, struct packet* p) {
  const int index = take_off_tag(ctx, p->root_index, p->nic, p->cpu_index);
  if (index < 0) return IS_OURS;
  p->frame_bytes -= MR_VLAN_BYTES;
  p->nic = (uint8_t)index;
  return index >= IS_FOREIGN ? leave_foreign(ctx, p) : IS_OURS;
}
