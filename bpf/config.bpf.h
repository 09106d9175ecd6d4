// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//
// Reading the config in force: listeners, groups, targets, and which target a flow gets.
#pragma once

#include "bpf/packet.bpf.h"
#include "dataplane/rules/choice_rule.h"
#include "dataplane/rules/forwarding_rule.h"

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

// {slot of the entry there, `next` of it above}; NO_SLOT when there is none. `root`: its index in
// control.roots.
static const uint64_t NO_SLOT = MR_TABLE_EMPTY;
VERIFIED_ONCE uint64_t find_slot(uint32_t root, uint64_t low, uint64_t high, uint32_t port_be,
                                 uint32_t protocol) {
  const struct mr_xdp_root* at = &control.roots[root & 1];
  if (at->generation == 0) return NO_SLOT;
  const struct mr_table_entry* entry =
      find_entry(at->listener_table_line, at->listener_table_mask, (struct addr_words){low, high},
                 (uint16_t)port_be, (uint8_t)protocol);
  return entry == 0 ? NO_SLOT : (uint64_t)entry->next << 32 | entry->slot;
}

// Slot of the listener that has the port among several, MR_TABLE_EMPTY when there is none. `ranges`
// is what find_slot() says of the VIP's.
VERIFIED_ONCE uint32_t find_in_ranges(uint32_t root, uint64_t ranges, uint32_t port) {
  const struct mr_xdp_root* at = &control.roots[root & 1];
  const uint32_t first = (uint32_t)ranges;
#pragma clang loop unroll(disable)
  for (uint32_t i = 0; i < MR_PORT_RANGES_OF_VIP_MAX; ++i) {
    const uint32_t index = first + i;
    if (i >= (uint32_t)(ranges >> 32) || index >= at->port_range_count) break;
    const uint8_t* line = line_at(at->port_ranges_line + index / 8);
    if (line == 0) break;
    const struct mr_port_range* range = (const struct mr_port_range*)(line + (index & 7) * 8);
    if (!mr_ends_behind(range, port)) continue;
    return range->first <= port ? range->listener_slot : MR_TABLE_EMPTY;
  }
  return MR_TABLE_EMPTY;
}

// The listener `slot` with its word in p->listener_word, or null.
INLINE const struct mr_listener* take_listener(struct packet* p, uint32_t slot) {
  const struct mr_listener* listener = listener_at(p->root, slot);
  if (listener == 0) return 0;
  p->listener_word = load64(&listener->slot);
  return listener_id_of(p->listener_word) != 0 ? listener : 0;
}

// Sets p->listener for a packet to a port that no listener has for itself.
OUT_OF_LINE int take_listener_of_range(struct packet* p) {
  p->listener = 0;
  const uint64_t ranges = find_slot(p->root_index, p->destination.low, p->destination.high, 0,
                                    mr_ranges_of(p->protocol));
  if (ranges == NO_SLOT) return 0;
  const uint32_t port = bpf_ntohs(p->destination_port_be);
  p->listener = take_listener(p, find_in_ranges(p->root_index, ranges, port));
  p->listener_word |= (uint64_t)p->destination_port_be << 16;
  return 0;
}

// The listener that a packet goes to, or null; sets p->listener_word with it.
INLINE const struct mr_listener* find_listener(struct packet* p) {
  if (p->root->generation == 0) return 0;
  const struct mr_table_entry* entry =
      find_entry(p->root->listener_table_line, p->root->listener_table_mask, p->destination,
                 p->destination_port_be, p->protocol);
  if (entry != 0) return take_listener(p, entry->slot);
  if (LIKELY(p->root->port_range_count == 0)) return 0;
  take_listener_of_range(p);
  return p->listener;
}

// Likewise by calls, for packets that are rare. Sets p->listener.
OUT_OF_LINE int find_listener_by_call(struct packet* p) {
  const uint64_t slot = find_slot(p->root_index, p->destination.low, p->destination.high,
                                  p->destination_port_be, p->protocol);
  if (slot == NO_SLOT) return take_listener_of_range(p);
  p->listener = take_listener(p, (uint32_t)slot);
  return 0;
}

// enum mr_vip_flag of a VIP, MR_TABLE_EMPTY of what is none. A VIP's own entry has port and
// protocol 0, and its flags as slot.
INLINE uint32_t find_vip_flags(uint32_t root, struct addr_words addr) {
  return (uint32_t)find_slot(root, addr.low, addr.high, 0, 0);
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

// The port at which the target of a flow is asked and from which it answers, as
// Forwarder::target_port_be_of().
VERIFIED_ONCE uint32_t target_port_be(uint32_t root, uint32_t target_slot, uint64_t listener_word) {
  const struct mr_xdp_root* at = &control.roots[root & 1];
  const struct mr_target* target = target_at(at, target_slot);
  if (target == 0) return 0;
  if (target->port_be != 0 || !mr_translates(target->forwarding)) return target->port_be;
  const struct mr_listener* listener = listener_at(at, (uint16_t)listener_word);
  const uint16_t asked_port_be = asked_port_be_of(listener_word);
  if (listener == 0 || listener->id != listener_id_of(listener_word)) return asked_port_be;
  return mr_vip_port_be_of(asked_port_be, listener->port_be);
}

// Slot of the target that answers from this address and port. Above it is the slot of the target's
// only listener, or MR_TABLE_EMPTY if there are several. NO_TARGET when there is no such target.
static const uint64_t NO_TARGET = ~0ULL;
VERIFIED_ONCE uint64_t find_reverse(uint32_t root, uint64_t low, uint64_t high, uint32_t port_be,
                                    uint32_t protocol) {
  if (port_be == 0) return NO_TARGET;  // the port of entries for targets of any port
  const struct mr_xdp_root* at = &control.roots[root & 1];
  const struct mr_table_entry* entry =
      find_entry(at->reverse_table_line, at->reverse_table_mask, (struct addr_words){low, high},
                 (uint16_t)port_be, (uint8_t)protocol);
  if (entry != 0) return (uint64_t)entry->next << 32 | entry->slot;
  if (at->any_port_targets == 0) return NO_TARGET;
  entry = find_entry(at->reverse_table_line, at->reverse_table_mask, (struct addr_words){low, high},
                     0, (uint8_t)protocol);
  if (entry == 0 || !mr_answers_from(entry, (uint16_t)port_be)) return NO_TARGET;
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
// `listener_word` is of a listener of that root.
VERIFIED_ONCE uint64_t choose_target(uint64_t low, uint64_t high, uint64_t client,
                                     uint64_t listener_word, uint32_t may_be_orphan) {
  const struct mr_xdp_root* root = &control.roots[client >> 32 & 1];
  const struct mr_listener* listener = listener_at(root, (uint16_t)listener_word);
  if (listener == 0) return NO_CHOICE;
  const struct mr_target_group* group = group_at(root, listener->group_slot);
  if (group == 0 || group->table_offset == 0) return NO_CHOICE;
  const uint64_t fails_open = (group->flags & MR_GROUP_FAIL_OPEN) != 0 ? FAILS_OPEN : 0;
  struct mr_addr client_addr;
  store64(client_addr.bytes, low);
  store64(client_addr.bytes + 8, high);
  const uint16_t vip_port_be =
      mr_vip_port_be_of(asked_port_be_of(listener_word), listener->port_be);
  const struct mr_flow_tuple tuple =
      mr_selection_tuple(&client_addr, (uint16_t)client, listener, vip_port_be);
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
                       p->client_port_protocol | (uint64_t)p->root_index << 32, p->listener_word,
                       may_be_orphan);
}
