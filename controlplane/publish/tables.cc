// SPDX-License-Identifier: Apache-2.0
#include "controlplane/publish/tables.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <map>
#include <set>
#include <span>
#include <tuple>
#include <utility>

#include "dataplane/core/wire.h"
#include "dataplane/rules/forwarding_rule.h"
#include "dataplane/rules/port_rule.h"

namespace millrace::control {

namespace {

constexpr std::size_t kEntriesMin = 8;

mr_table_entry empty_entry() {
  mr_table_entry entry{};
  entry.slot = MR_TABLE_EMPTY;
  entry.next = MR_TABLE_EMPTY;
  return entry;
}

// Everything that identifies an entry is its first 19 bytes; their order does not depend on slots.
constexpr std::size_t kKeyBytes = offsetof(mr_table_entry, reserved);

bool is_same_key(const mr_table_entry& a, const mr_table_entry& b) {
  return std::memcmp(&a, &b, kKeyBytes) == 0;
}
bool is_key_before(const mr_table_entry& a, const mr_table_entry& b) {
  return std::memcmp(&a, &b, kKeyBytes) < 0;
}

template <typename T>
bool same_bytes(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
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

// From the lowest to the highest of some ports.
struct PortSpan {
  std::uint16_t first = 0xffff;
  std::uint16_t last = 0;

  void add(const PortSpan& other) {
    first = std::min(first, other.first);
    last = std::max(last, other.last);
  }
  [[nodiscard]] static PortSpan of(const mr_table_entry& entry) {
    return {core::from_be16(entry.first_port_be), core::from_be16(entry.last_port_be)};
  }
  void write_to(mr_table_entry& entry) const {
    entry.first_port_be = core::to_be16(first);
    entry.last_port_be = core::to_be16(last);
  }
};

using IpWords = std::array<std::uint64_t, 2>;

// By VIP and protocol.
using RangesOfVips = std::map<std::pair<IpWords, std::uint8_t>, std::vector<mr_port_range>>;

// In order. A listener to any port has first port 0 and gets what the others leave.
std::vector<mr_port_range> without_overlaps(std::vector<mr_port_range> ranges) {
  std::ranges::sort(ranges, {}, &mr_port_range::first);
  const bool has_any = ranges.front().first == 0;
  const mr_port_range any = ranges.front();
  std::vector<mr_port_range> out;
  std::uint32_t next = 1;  // the first port that is not placed
  for (const mr_port_range& range : std::span(ranges).subspan(has_any ? 1 : 0)) {
    if (has_any && range.first > next) {
      out.push_back({.first = static_cast<std::uint16_t>(next),
                     .last = static_cast<std::uint16_t>(range.first - 1),
                     .listener_slot = any.listener_slot});
    }
    out.push_back(range);
    next = std::uint32_t{range.last} + 1;
  }
  if (has_any && next <= any.last) {
    out.push_back({.first = static_cast<std::uint16_t>(next),
                   .last = any.last,
                   .listener_slot = any.listener_slot});
  }
  return out;
}

// By (group slot, family, protocol).
struct ReplyListener {
  std::uint32_t slot;  // of the only one, or MR_TABLE_EMPTY when there are several
  PortSpan ports;
  std::vector<std::uint32_t> slots;  // of all
};
using ReplyListeners = std::map<std::tuple<std::uint32_t, bool, std::uint8_t>, ReplyListener>;

ReplyListeners reply_listeners(const std::vector<mr_listener>& listeners) {
  ReplyListeners found;
  for (std::uint32_t slot = 0; slot < listeners.size(); ++slot) {
    const mr_listener& listener = listeners[slot];
    if (listener.id == 0) continue;
    const PortSpan ports{core::from_be16(listener.port_be), core::from_be16(listener.last_port_be)};
    const auto [at, is_first] = found.try_emplace(
        std::tuple(listener.group_slot, is_v4(listener.vip_addr), listener.protocol),
        ReplyListener{slot, ports, {}});
    at->second.slots.push_back(slot);
    if (is_first) continue;
    at->second.slot = MR_TABLE_EMPTY;
    at->second.ports.add(ports);
  }
  return found;
}

// Of the packets that a target sends.
std::span<const std::uint8_t> protocols_of(const mr_target& target) {
  static constexpr std::uint8_t kBoth[] = {MR_PROTOCOL_TCP, MR_PROTOCOL_UDP};
  return target.protocol == MR_PROTOCOL_TCP_UDP ? std::span(kBoth)
                                                : std::span(&target.protocol, std::size_t{1});
}

bool passes_replies(const mr_target& target, const ImageContents& contents) {
  return target.id != 0 && mr_sees_replies(contents.groups[target.group_slot].forwarding);
}

// Targets of any port: what else an answer from one of their ports may be of. A machine may be such
// a target of one group, and with one of its ports a target of another.
class Machines {
 public:
  explicit Machines(const std::vector<mr_listener>& listeners) : listeners_(listeners) {}

  void add(const mr_table_entry& entry, const ReplyListener& asked) {
    if (machines_.empty()) remember_single_ports();
    machines_[{std::bit_cast<IpWords>(entry.addr), entry.protocol}].push_back(&asked);
  }
  // Whether another listener than `entry.next` leads to the entry's address and port.
  [[nodiscard]] bool have(const mr_table_entry& entry) const {
    const auto found = machines_.find({std::bit_cast<IpWords>(entry.addr), entry.protocol});
    if (found == machines_.end()) return false;
    return std::ranges::any_of(found->second, [&](const ReplyListener* asked) {
      return std::ranges::any_of(asked->slots, [&](std::uint32_t slot) {
        return slot != entry.next && leads_to(listeners_[slot], entry.port_be);
      });
    });
  }

 private:
  void remember_single_ports() {
    for (const mr_listener& one : listeners_) {
      if (one.id != 0 && !mr_has_several_ports(&one))
        single_ports_.insert(key_of(one, one.port_be));
    }
  }
  // A port by itself wins over a range.
  [[nodiscard]] bool leads_to(const mr_listener& listener, std::uint16_t port_be) const {
    if (!mr_has_several_ports(&listener)) return listener.port_be == port_be;
    const std::uint16_t port = core::from_be16(port_be);
    return port >= core::from_be16(listener.port_be) &&
           port <= core::from_be16(listener.last_port_be) &&
           !single_ports_.contains(key_of(listener, port_be));
  }
  using Key = std::tuple<IpWords, std::uint8_t, std::uint16_t>;
  static Key key_of(const mr_listener& listener, std::uint16_t port_be) {
    return {std::bit_cast<IpWords>(listener.vip_addr), listener.protocol, port_be};
  }

  const std::vector<mr_listener>& listeners_;
  std::set<Key> single_ports_;
  // By address and protocol.
  std::map<std::pair<IpWords, std::uint8_t>, std::vector<const ReplyListener*>> machines_;
};

}  // namespace

ListenerTables listener_tables(const std::vector<mr_listener>& listeners,
                               const std::vector<VipContents>& vips) {
  std::vector<mr_table_entry> entries;
  RangesOfVips ranges;
  std::set<IpWords> known;
  for (const VipContents& vip : vips) {
    mr_table_entry entry = empty_entry();
    entry.addr = vip.addr;
    entry.slot = vip.flags;
    if (known.insert(std::bit_cast<IpWords>(entry.addr)).second) entries.push_back(entry);
  }
  for (std::uint32_t slot = 0; slot < listeners.size(); ++slot) {
    const mr_listener& listener = listeners[slot];
    if (listener.id == 0) continue;
    mr_table_entry entry = empty_entry();
    entry.addr = listener.vip_addr;
    entry.slot = 0;
    if (known.insert(std::bit_cast<IpWords>(entry.addr)).second) entries.push_back(entry);
    if (mr_has_several_ports(&listener)) {
      ranges[{std::bit_cast<IpWords>(listener.vip_addr), listener.protocol}].push_back(
          {.first = core::from_be16(listener.port_be),
           .last = core::from_be16(listener.last_port_be),
           .listener_slot = slot});
      continue;
    }
    entry.port_be = listener.port_be;
    entry.protocol = listener.protocol;
    entry.slot = slot;
    entries.push_back(entry);
  }
  ListenerTables out;
  for (auto& [key, of_vip] : ranges) {
    const std::vector<mr_port_range> placed = without_overlaps(of_vip);
    mr_table_entry entry = empty_entry();
    entry.addr = std::bit_cast<mr_addr>(key.first);
    entry.protocol = mr_ranges_of(key.second);
    entry.slot = static_cast<std::uint32_t>(out.ranges.size());
    entry.next = static_cast<std::uint32_t>(placed.size());
    entries.push_back(entry);
    out.ranges.insert(out.ranges.end(), placed.begin(), placed.end());
  }
  out.table = build(entries);
  return out;
}

std::vector<mr_table_entry> reverse_table(const ImageContents& contents) {
  const ReplyListeners listeners = reply_listeners(contents.listeners);
  Machines machines(contents.listeners);
  std::vector<mr_table_entry> entries;
  for (std::uint32_t slot = 0; slot < contents.targets.size(); ++slot) {
    const mr_target& target = contents.targets[slot];
    if (!passes_replies(target, contents)) continue;
    mr_table_entry entry = empty_entry();
    entry.addr = target.addr;
    entry.port_be = target.port_be;
    entry.slot = slot;
    for (const std::uint8_t protocol : protocols_of(target)) {
      entry.protocol = protocol;
      const auto listener =
          listeners.find(std::tuple(target.group_slot, is_v4(target.addr), protocol));
      entry.next = listener == listeners.end() ? MR_TABLE_EMPTY : listener->second.slot;
      const bool is_asked = target.port_be == 0 && listener != listeners.end();
      if (target.port_be == 0) (is_asked ? listener->second.ports : PortSpan{}).write_to(entry);
      const bool is_told = entry.next == MR_TABLE_EMPTY || target.port_be == 0 ||
                           !mr_has_several_ports(&contents.listeners[entry.next]);
      if (!is_told) entry.next = MR_TABLE_EMPTY;
      if (is_asked) machines.add(entry, listener->second);
      entries.push_back(entry);
    }
  }
  std::ranges::stable_sort(entries, is_key_before);
  // Of several with one key the lowest slot stands for all, and none of their listeners is sure.
  auto last = entries.begin();
  for (auto at = entries.begin(); at != entries.end(); ++at) {
    if (at == entries.begin()) continue;
    if (is_same_key(*last, *at)) {
      last->next = MR_TABLE_EMPTY;
      if (at->port_be != 0) continue;
      PortSpan ports = PortSpan::of(*last);
      ports.add(PortSpan::of(*at));
      ports.write_to(*last);
    } else {
      *++last = *at;
    }
  }
  if (!entries.empty()) entries.erase(last + 1, entries.end());
  for (mr_table_entry& entry : entries) {
    if (entry.port_be != 0 && entry.next != MR_TABLE_EMPTY && machines.have(entry)) {
      entry.next = MR_TABLE_EMPTY;
    }
  }
  return build(entries);
}

TableMaker::Origin TableMaker::Origin::of(const mr_target& target, const ImageContents& contents) {
  if (!passes_replies(target, contents)) return {};
  return {.addr = target.addr,
          .group_slot = target.group_slot,
          .port_be = target.port_be,
          .protocol = target.protocol,
          .is_in_table = 1};
}

bool TableMaker::has_same_origins(const ImageContents& contents) const {
  return std::ranges::equal(origins_, contents.targets,
                            [&](const Origin& origin, const mr_target& target) {
                              const Origin now = Origin::of(target, contents);
                              return std::memcmp(&origin, &now, sizeof(Origin)) == 0;
                            });
}

void TableMaker::update(const ImageContents& contents) {
  const bool are_listeners_same = version_ != 0 && same_bytes(listeners_, contents.listeners);
  const bool are_vips_same = same_bytes(vips_, contents.vips);
  const bool is_reverse_same = are_listeners_same && has_same_origins(contents);
  if (are_vips_same && is_reverse_same) return;
  if (!are_listeners_same || !are_vips_same) {
    listener_tables_ = listener_tables(contents.listeners, contents.vips);
  }
  if (!is_reverse_same) reverse_table_ = reverse_table(contents);
  vips_ = contents.vips;
  listeners_ = contents.listeners;
  origins_.clear();
  for (const mr_target& target : contents.targets) origins_.push_back(Origin::of(target, contents));
  ++version_;
}

}  // namespace millrace::control
