// SPDX-License-Identifier: Apache-2.0
//
// A published image, checked once and then used unchecked. Cold to build, hot to read.
//
// check_image() is the border between the control plane's memory and the packet path: it looks at
// every offset, count and index of an image, and only what passes becomes a ConfigView. Lookup
// tables that an earlier checked view already had (same offset, same checksum) are not read again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/contract/config_abi.h"
#include "dataplane/core/result.h"
#include "dataplane/core/wire.h"

namespace millrace::core {

// Trivially copyable; valid as long as the segment stays mapped and the generation is not reused.
struct ConfigView {
  std::uint64_t generation = 0;
  const std::byte* segment = nullptr;
  const mr_image* image = nullptr;
  std::span<const mr_table_entry> listener_table;  // size is a power of two
  std::span<const mr_listener> listeners;          // by listener slot; id 0 is empty
  std::span<const mr_target_group> groups;         // by group slot; id 0 is empty
  std::span<const mr_target> targets;              // by target slot; id 0 is empty
  std::span<const mr_table_entry> reverse_table;   // size is a power of two
  std::span<const mr_addr> local_addrs;
  std::span<const mr_local_mac> local_macs;
  std::span<const mr_vlan> vlans;
  std::span<const std::uint8_t> vlan_slots;  // by nic and VLAN number

  [[nodiscard]] std::span<const std::uint32_t> members(const mr_target_group& group) const {
    return {reinterpret_cast<const std::uint32_t*>(segment + group.members_offset),
            group.member_count};
  }
  [[nodiscard]] std::span<const mr_lookup_slot> lookup_table(const mr_target_group& group) const {
    return {reinterpret_cast<const mr_lookup_slot*>(segment + group.table_offset),
            group.table_slots};
  }
};

// Checks the image of `generation` that `header.roots` names inside `segment`, and returns the
// view. `previous` is the last view that passed (or null): its unchanged tables are trusted. Reads
// each table entry once (about 10 us per changed 65537-slot table); never writes. Errors name the
// field and both values, e.g. "image 7: group slot 3: member_count 70000 > 16384".
[[nodiscard]] Result<ConfigView> check_image(std::span<const std::byte> segment,
                                             std::uint64_t generation, const ConfigView* previous);

// The checksum that view.image->checksum must hold: over the image with checksum 0, then every
// array in the order of mr_image. A publisher fills the spans of a view over what it wrote and
// calls this.
[[nodiscard]] std::uint64_t image_checksum(const ConfigView& view);

// What an image with these VLANs says in vlan_slots[]: of those that are there.
[[nodiscard]] std::vector<std::uint8_t> vlan_slots_of(std::span<const mr_vlan> vlans);

// The entry that (addr, port, protocol) has in an open-addressed table, or null.
// Port 0 and protocol 0 ask for the VIP itself. At most MR_TABLE_PROBE_MAX probes.
// HOT: mr_table_hash() on words, so that addresses stay in registers.
[[nodiscard]] inline const mr_table_entry* find_entry(std::span<const mr_table_entry> table,
                                                      const AddrWords& addr, std::uint16_t port_be,
                                                      std::uint8_t protocol) noexcept {
  const std::uint32_t mask = static_cast<std::uint32_t>(table.size()) - 1;
  const std::uint64_t key = std::uint64_t{port_be} << 8 | protocol;
  std::uint32_t index = mr_table_hash_words(addr.low, addr.high, key) & mask;
  for (std::uint32_t probe = 0; probe < MR_TABLE_PROBE_MAX; ++probe) {
    const mr_table_entry& entry = table[index];
    if (entry.slot == MR_TABLE_EMPTY) return nullptr;
    if (words_of(entry.addr) == addr && entry.port_be == port_be && entry.protocol == protocol) {
      return &entry;
    }
    index = (index + 1) & mask;
  }
  return nullptr;
}

[[nodiscard]] inline const mr_table_entry* find_entry(std::span<const mr_table_entry> table,
                                                      const mr_addr& addr, std::uint16_t port_be,
                                                      std::uint8_t protocol) noexcept {
  return find_entry(table, words_of(addr), port_be, protocol);
}

}  // namespace millrace::core
