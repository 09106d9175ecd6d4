// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Reading the config in force: listeners, groups, targets, and which target a flow gets.
#pragma once

#include "bpf/packet.bpf.h"
#include "dataplane/rules/choice_rule.h"

// The entry of (addr, port, protocol) in an open-addressed table, or null. Port 0 and protocol 0
// ask for the VIP itself.
INLINE const struct mr_table_entry* find_entry(uint32_t table_line, uint32_t mask,
                                               struct addr_words addr, uint16_t port_be,
                                               uint8_t protocol) {
  const uint32_t port_protocol = port_be | (uint32_t)protocol << 16;
  uint32_t index =
      mr_table_hash_words(addr.low, addr.high, (uint64_t)port_be << 8 | protocol) & mask;
#pragma clang loop unroll(disable)
  for (uint32_t probe = 0; probe < MR_TABLE_PROBE_MAX; ++probe) {
    const uint8_t* line = line_at(table_line + index / 2);
    if (line == 0) return 0;
    const struct mr_table_entry* entry = (const struct mr_table_entry*)(line + (index & 1) * 32);
    if (entry->slot == MR_TABLE_EMPTY) return 0;
    if (((load64(entry->addr.bytes) ^ addr.low) | (load64(entry->addr.bytes + 8) ^ addr.high) |
         ((load32(&entry->port_be) & 0xffffffu) ^ port_protocol)) == 0) {
      return entry;
    }
    index = (index + 1) & mask;
  }
  return 0;
}

INLINE const struct mr_listener* listener_at(const struct mr_xdp_root* root, uint32_t slot) {
  return slot < root->listener_slots ? line_at(root->listeners_line + slot) : 0;
}
INLINE const struct mr_target* target_at(const struct mr_xdp_root* root, uint32_t slot) {
  return slot < root->target_slots ? line_at(root->targets_line + slot) : 0;
}
INLINE const struct mr_target_group* group_at(const struct mr_xdp_root* root, uint32_t slot) {
  return slot < root->group_slots ? line_at(root->groups_line + slot) : 0;
}

// A VLAN that a nic's index names, if it can be used; null for any other index.
INLINE const struct mr_vlan* vlan_at(const struct mr_xdp_root* root, uint32_t nic) {
  const uint32_t slot = nic - MR_NIC_COUNT_MAX;
  const struct mr_vlan* vlan = slot < root->vlan_count ? line_at(root->vlans_line + slot) : 0;
  const _Bool is_usable =
      vlan != 0 && (vlan->flags & MR_VLAN_PRESENT) != 0 && vlan->nic < control.nic_count;
  return is_usable ? vlan : 0;
}

// Whether frames can leave by a nic's index. `root`: its index in control.roots.
VERIFIED_ONCE int has_exit(uint32_t root, uint32_t nic) {
  return nic < control.nic_count || vlan_at(&control.roots[root & 1], nic) != 0;
}

// The listener that a packet goes to, or null; sets p->listener_slot with it.
INLINE const struct mr_listener* find_listener(struct packet* p) {
  if (p->root->generation == 0) return 0;
  const struct mr_table_entry* entry =
      find_entry(p->root->listener_table_line, p->root->listener_table_mask, p->destination,
                 p->destination_port_be, p->protocol);
  if (entry == 0) return 0;
  p->listener_slot = entry->slot;
  const struct mr_listener* listener = listener_at(p->root, entry->slot);
  return listener != 0 && listener->id != 0 ? listener : 0;
}

// Slot of the listener there, MR_TABLE_EMPTY when there is none. `root`: its index in
// control.roots.
VERIFIED_ONCE uint32_t find_listener_slot(uint32_t root, uint64_t low, uint64_t high,
                                          uint32_t port_be, uint32_t protocol) {
  const struct mr_xdp_root* at = &control.roots[root & 1];
  if (at->generation == 0) return MR_TABLE_EMPTY;
  const struct mr_table_entry* entry =
      find_entry(at->listener_table_line, at->listener_table_mask, (struct addr_words){low, high},
                 (uint16_t)port_be, (uint8_t)protocol);
  return entry == 0 ? MR_TABLE_EMPTY : entry->slot;
}

// enum mr_vip_flag of a VIP, MR_TABLE_EMPTY of what is none. A VIP's own entry has port and
// protocol 0, and its flags as slot.
INLINE uint32_t find_vip_flags(uint32_t root, struct addr_words addr) {
  return find_listener_slot(root, addr.low, addr.high, 0, 0);
}

// `root` of these two functions is its index in control.roots.
VERIFIED_ONCE int is_vip(uint32_t root, uint64_t low, uint64_t high) {
  const struct mr_xdp_root* at = &control.roots[root & 1];
  if (at->generation == 0) return 0;
  return find_entry(at->listener_table_line, at->listener_table_mask,
                    (struct addr_words){low, high}, 0, 0) != 0;
}

// False for most addresses that are no VIP, and costs no call.
INLINE _Bool may_be_vip(const struct mr_xdp_root* root, struct addr_words addr) {
  const uint32_t index = mr_table_hash_words(addr.low, addr.high, 0) & root->listener_table_mask;
  const uint8_t* line = line_at(root->listener_table_line + index / 2);
  return line != 0 &&
         ((const struct mr_table_entry*)(line + (index & 1) * 32))->slot != MR_TABLE_EMPTY;
}

// Slot of the target that has this address and port. Above it is the slot of the target's only
// listener, or MR_TABLE_EMPTY if there are several. NO_TARGET when there is no such target.
static const uint64_t NO_TARGET = ~0ULL;
VERIFIED_ONCE uint64_t find_reverse(uint32_t root, uint64_t low, uint64_t high, uint32_t port_be,
                                    uint32_t protocol) {
  const struct mr_xdp_root* at = &control.roots[root & 1];
  const struct mr_table_entry* entry =
      find_entry(at->reverse_table_line, at->reverse_table_mask, (struct addr_words){low, high},
                 (uint16_t)port_be, (uint8_t)protocol);
  if (entry == 0) return NO_TARGET;
  return (uint64_t)entry->next << 32 | entry->slot;
}

// One of the node's own addresses. A config line holds four of them.
VERIFIED_ONCE int is_local(uint32_t root, uint64_t low, uint64_t high) {
  const struct mr_xdp_root* at = &control.roots[root & 1];
#pragma clang loop unroll(disable)
  for (uint32_t i = 0; i < MR_LOCAL_ADDRS_MAX; i += 4) {
    if (i >= at->local_addr_count) return 0;
    const uint32_t left = at->local_addr_count - i;
    const uint8_t* line = line_at(at->local_addrs_line + i / 4);
    if (line == 0) return 0;
#pragma clang loop unroll(full)
    for (uint32_t k = 0; k < 4; ++k) {
      const uint64_t difference =
          (load64(line + k * 16) ^ low) | (load64(line + k * 16 + 8) ^ high);
      if (difference == 0) return k < left;
    }
  }
  return 0;
}

// Whether `wanted` is a MAC address that the node has beside the nic's own: the address as loaded
// from a frame in the low 48 bits, the nic above.
VERIFIED_ONCE int is_local_mac(uint32_t root, uint64_t wanted) {
  const struct mr_xdp_root* at = &control.roots[root & 1];
#pragma clang loop unroll(disable)
  for (uint32_t i = 0; i < MR_LOCAL_MACS_MAX; ++i) {
    if (i >= at->local_mac_count) return 0;
    const uint8_t* line = line_at(at->local_macs_line + i / 8);
    if (line == 0) return 0;
    if (load64(line + (i & 7) * 8) << 8 >> 8 == wanted) return 1;
  }
  return 0;
}

// A word of a block. A group names the block by its offset in the segment; a line has 16 words.
INLINE const uint32_t* word_at(const struct mr_xdp_root* root, uint64_t offset, uint32_t index) {
  const uint32_t line = root->base_line + (uint32_t)(offset / MR_CONFIG_LINE_BYTES) + index / 16;
  const uint32_t* words = line_at(line);
  return words == 0 ? 0 : words + (index & 15);
}

// Slot of a group's member, MR_TABLE_EMPTY when there is none.
INLINE uint32_t member_slot(const struct mr_xdp_root* root, const struct mr_target_group* group,
                            uint32_t member) {
  const uint32_t* slot = word_at(root, group->members_offset, member);
  return slot == 0 ? MR_TABLE_EMPTY : *slot;
}

// The results of choose_target().
enum {
  NO_CHOICE = MR_TABLE_EMPTY,  // the group has no target
};
static const uint64_t IS_ORPHAN = 1ULL << 32;   // went to `prev` on trust
static const uint64_t FAILS_OPEN = 1ULL << 33;  // the group has no healthy target

// {slot of the target that a client's flow to a listener gets, IS_ORPHAN, FAILS_OPEN}
// (ARCHITECTURE.md, "Choosing a target"). `client` is {port and protocol, root's index};
// `listener_slot` is one of that root.
VERIFIED_ONCE uint64_t choose_target(uint64_t low, uint64_t high, uint64_t client,
                                     uint32_t listener_slot, uint32_t may_be_orphan) {
  const struct mr_xdp_root* root = &control.roots[client >> 32 & 1];
  const struct mr_listener* listener = listener_at(root, listener_slot);
  if (listener == 0) return NO_CHOICE;
  const struct mr_target_group* group = group_at(root, listener->group_slot);
  if (group == 0 || group->table_offset == 0) return NO_CHOICE;
  const uint64_t fails_open = (group->flags & MR_GROUP_FAIL_OPEN) != 0 ? FAILS_OPEN : 0;
  struct mr_addr client_addr;
  store64(client_addr.bytes, low);
  store64(client_addr.bytes + 8, high);
  const struct mr_flow_tuple tuple = mr_selection_tuple(&client_addr, (uint16_t)client, listener);
  const uint64_t hash = mr_selection_hash(&root->selection_key, &tuple);
  const uint32_t* found =
      word_at(root, group->table_offset, mr_slot_of_hash(hash, group->table_slots));
  if (found == 0) return NO_CHOICE;
  const uint32_t slot = *found;  // struct mr_lookup_slot: cur below, prev above
  const uint32_t prev = slot >> 16;
  if (may_be_orphan != 0 && prev != MR_MEMBER_NONE) {
    const uint32_t prev_slot = member_slot(root, group, prev);
    const struct mr_target* target = target_at(root, prev_slot);
    if (target != 0 && mr_takes_orphan(target->flags)) {
      return prev_slot | IS_ORPHAN | fails_open;
    }
  }
  return member_slot(root, group, slot & 0xffff) | fails_open;
}

// For the packet's client and listener.
INLINE uint64_t choose_for(const struct packet* p, _Bool may_be_orphan) {
  return choose_target(p->client.low, p->client.high,
                       p->client_port_protocol | (uint64_t)p->root_index << 32, p->listener_slot,
                       may_be_orphan);
}
