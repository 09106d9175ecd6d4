// SPDX-License-Identifier: Apache-2.0
//
// A published image, checked once and then used unchecked. Cold to build, hot to read.
//
// check_image() is the border between the control plane's memory and the packet path: it looks at
// every offset, count and index of an image, and only what passes becomes a ConfigView. Lookup
// tables that an earlier checked view already had (same offset, same checksum) are not read again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/contract/config_abi.h"
#include "dataplane/core/answer.h"
#include "dataplane/core/result.h"
#include "dataplane/core/wire.h"
#include "dataplane/rules/port_rule.h"

namespace millrace::core {

// The tables of a view without an image, so that whoever looks up in them need not ask for one.
inline constexpr std::array<mr_table_entry, 1> kEmptyTable = {{{.addr = {},
                                                                .port_be = 0,
                                                                .protocol = 0,
                                                                .reserved = 0,
                                                                .first_port_be = 0,
                                                                .last_port_be = 0,
                                                                .slot = MR_TABLE_EMPTY,
                                                                .next = 0}}};

// Trivially copyable; valid as long as the segment stays mapped and the generation is not reused.
struct ConfigView {
  std::uint64_t generation = 0;
  const std::byte* segment = nullptr;
  const mr_image* image = nullptr;
  std::span<const mr_table_entry> listener_table = kEmptyTable;  // size is a power of two
  std::span<const mr_listener> listeners;                        // by listener slot; id 0 is empty
  std::span<const mr_target_group> groups;                       // by group slot; id 0 is empty
  std::span<const mr_target> targets;                            // by target slot; id 0 is empty
  std::span<const mr_table_entry> reverse_table = kEmptyTable;   // size is a power of two
  std::span<const mr_addr> local_addrs;
  std::span<const mr_local_mac> local_macs;
  std::span<const mr_port_range> port_ranges;
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

enum class ImageChecksum : std::uint8_t {
  check,
  just_made,  // by the caller, over what it wrote: not made once more
};

// Checks the image of `generation` that `header.roots` names inside `segment`, and returns the
// view. `previous` is the last view that passed (or null): its unchanged tables are trusted. Reads
// each entry of the others once (about 10 us per changed 65537-slot table); never writes. Errors
// name the field and both values, e.g. "image 7: group slot 3: member_count 70000 > 16384".
[[nodiscard]] Result<ConfigView> check_image(std::span<const std::byte> segment,
                                             std::uint64_t generation, const ConfigView* previous,
                                             ImageChecksum checksum = ImageChecksum::check);

// The checksum that view.image->checksum must hold: over the image with checksum 0, then every
// array in the order of mr_image. A publisher fills the spans of a view over what it wrote and
// calls this.
[[nodiscard]] std::uint64_t image_checksum(const ConfigView& view);

// What an image with these VLANs says in vlan_slots[]: of those that are there.
[[nodiscard]] std::vector<std::uint8_t> vlan_slots_of(std::span<const mr_vlan> vlans);

// MAC addresses that frames on a nic may be for, tagged or not, beside its own `usual` one: further
// ones, and those of its VLANs. Sorted, each once.
[[nodiscard]] std::vector<MacAddr> further_macs(const ConfigView& view, std::uint8_t nic,
                                                const MacAddr& usual);

// A listener as flows name it: slot, asked port and id.
[[nodiscard]] inline std::uint64_t word_of(const mr_listener& listener) noexcept {
  return load<std::uint64_t>(reinterpret_cast<const std::uint8_t*>(&listener) +
                             offsetof(mr_listener, slot));
}
[[nodiscard]] inline std::uint64_t listener_word_of(const mr_flow_record& flow) noexcept {
  return load<std::uint64_t>(reinterpret_cast<const std::uint8_t*>(&flow) +
                             offsetof(mr_flow_record, listener_slot));
}

// The entry that (addr, port, protocol) has in an open-addressed table, or null.
// Port 0 and protocol 0 ask for the VIP itself, port 0 and mr_ranges_of() for its port ranges.
// At most MR_TABLE_PROBE_MAX probes.
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

// The listener of the range that has the port (host byte order) of a VIP and protocol, or null.
// `entry` is the VIP's for mr_ranges_of(protocol), or null.
[[nodiscard]] inline const mr_listener* listener_in_ranges(const ConfigView& config,
                                                           const mr_table_entry* entry,
                                                           std::uint16_t port) noexcept {
  if (entry == nullptr) return nullptr;
  for (const mr_port_range& range : config.port_ranges.subspan(entry->slot, entry->next)) {
    if (!mr_ends_behind(&range, port)) continue;
    const bool has_port = range.first <= port && config.listeners[range.listener_slot].id != 0;
    return has_port ? &config.listeners[range.listener_slot] : nullptr;
  }
  return nullptr;
}

[[nodiscard]] inline const mr_table_entry* find_entry(std::span<const mr_table_entry> table,
                                                      const mr_addr& addr, std::uint16_t port_be,
                                                      std::uint8_t protocol) noexcept {
  return find_entry(table, words_of(addr), port_be, protocol);
}

}  // namespace millrace::core
