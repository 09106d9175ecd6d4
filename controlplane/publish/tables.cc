// SPDX-License-Identifier: Apache-2.0
#include "controlplane/publish/tables.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <utility>

namespace millrace::control {

namespace {

constexpr std::size_t kEntriesMin = 8;

mr_table_entry empty_entry() {
  mr_table_entry entry{};
  entry.slot = MR_TABLE_EMPTY;
  entry.next = MR_TABLE_EMPTY;
  return entry;
}

// Everything that identifies an entry, in an order that does not depend on slots.
std::string key_of(const mr_addr& addr, std::uint16_t port_be, std::uint8_t protocol) {
  std::string key(reinterpret_cast<const char*>(addr.bytes), sizeof(addr.bytes));
  key.append(reinterpret_cast<const char*>(&port_be), sizeof(port_be));
  key.push_back(static_cast<char>(protocol));
  return key;
}

// Longest run of occupied entries, cyclic; the table has at least one empty entry.
std::size_t longest_run(const std::vector<mr_table_entry>& table) {
  std::size_t longest = 0;
  std::size_t run = 0;
  // Twice around, so that a run over the end is seen whole.
  for (std::size_t i = 0; i < 2 * table.size(); ++i) {
    run = table[i % table.size()].slot == MR_TABLE_EMPTY ? 0 : run + 1;
    longest = std::max(longest, run);
  }
  return longest;
}

void enter(std::vector<mr_table_entry>& table, const mr_table_entry& entry) {
  const std::size_t mask = table.size() - 1;
  std::size_t index = mr_table_hash(&entry.addr, entry.port_be, entry.protocol) & mask;
  while (table[index].slot != MR_TABLE_EMPTY) index = (index + 1) & mask;
  table[index] = entry;
}

std::vector<mr_table_entry> build(const std::vector<mr_table_entry>& entries) {
  std::size_t size = std::bit_ceil(std::max(2 * entries.size(), kEntriesMin));
  for (;;) {
    std::vector<mr_table_entry> table(size, empty_entry());
    for (const mr_table_entry& entry : entries) enter(table, entry);
    // A reader looks at MR_TABLE_PROBE_MAX entries; the last of them must be an empty one.
    if (longest_run(table) < MR_TABLE_PROBE_MAX) return table;
    size *= 2;
  }
}

bool is_v4(const mr_addr& addr) {
  constexpr std::uint8_t kPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::memcmp(addr.bytes, kPrefix, sizeof(kPrefix)) == 0;
}

// By (group slot, family): the only listener, or MR_TABLE_EMPTY when there are several.
using ReplyListeners = std::map<std::pair<std::uint32_t, bool>, std::uint32_t>;

ReplyListeners reply_listeners(const std::vector<mr_listener>& listeners) {
  ReplyListeners found;
  for (std::uint32_t slot = 0; slot < listeners.size(); ++slot) {
    const mr_listener& listener = listeners[slot];
    if (listener.id == 0) continue;
    const auto [at, is_first] =
        found.emplace(std::pair(listener.group_slot, is_v4(listener.vip_addr)), slot);
    if (!is_first) at->second = MR_TABLE_EMPTY;
  }
  return found;
}

}  // namespace

std::vector<mr_table_entry> listener_table(const std::vector<mr_listener>& listeners) {
  std::vector<mr_table_entry> entries;
  std::set<std::string> vips;
  for (std::uint32_t slot = 0; slot < listeners.size(); ++slot) {
    const mr_listener& listener = listeners[slot];
    if (listener.id == 0) continue;
    mr_table_entry entry = empty_entry();
    entry.addr = listener.vip_addr;
    entry.slot = 0;
    if (vips.insert(key_of(entry.addr, 0, 0)).second) entries.push_back(entry);
    entry.port_be = listener.port_be;
    entry.protocol = listener.protocol;
    entry.slot = slot;
    entries.push_back(entry);
  }
  return build(entries);
}

std::vector<mr_table_entry> reverse_table(const ImageContents& contents) {
  const ReplyListeners listeners = reply_listeners(contents.listeners);
  std::map<std::string, mr_table_entry> by_key;
  for (std::uint32_t slot = 0; slot < contents.targets.size(); ++slot) {
    const mr_target& target = contents.targets[slot];
    if (target.id == 0) continue;
    if (contents.groups[target.group_slot].forwarding != MR_FORWARDING_NAT) continue;
    mr_table_entry entry = empty_entry();
    entry.addr = target.addr;
    entry.port_be = target.port_be;
    entry.protocol = target.protocol;
    entry.slot = slot;
    const auto listener = listeners.find(std::pair(target.group_slot, is_v4(target.addr)));
    if (listener != listeners.end()) entry.next = listener->second;
    const auto [at, is_first] =
        by_key.emplace(key_of(target.addr, target.port_be, target.protocol), entry);
    if (!is_first) at->second.next = MR_TABLE_EMPTY;
  }
  std::vector<mr_table_entry> entries;
  for (const auto& [key, entry] : by_key) entries.push_back(entry);
  return build(entries);
}

}  // namespace millrace::control
