// SPDX-License-Identifier: Apache-2.0
#include "tests/support/cc/image_builder.h"

#include <arpa/inet.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>
#include <optional>

#include "controlplane/lookup/fallback.h"
#include "dataplane/core/checksum64.h"
#include "dataplane/core/wire.h"
#include "dataplane/rules/forwarding_rule.h"
#include "dataplane/rules/port_rule.h"

namespace millrace::test {
namespace {

using core::to_be16;

[[noreturn]] void fail(const std::string& what) {
  static_cast<void>(std::fprintf(stderr, "image_builder: %s\n", what.c_str()));
  std::abort();
}

mr_table_entry empty_entry() {
  mr_table_entry entry{};
  entry.slot = MR_TABLE_EMPTY;
  entry.next = MR_TABLE_EMPTY;
  return entry;
}

// A table with room for `count` entries at most half full, as config_abi.h demands.
std::vector<mr_table_entry> empty_table(std::size_t count) {
  return {std::bit_ceil(std::max<std::size_t>(2 * count, 8)), empty_entry()};
}

void enter(std::vector<mr_table_entry>& table, const mr_table_entry& entry) {
  const std::size_t mask = table.size() - 1;
  std::size_t index = mr_table_hash(&entry.addr, entry.port_be, entry.protocol) & mask;
  while (table[index].slot != MR_TABLE_EMPTY) index = (index + 1) & mask;
  table[index] = entry;
}

template <typename T>
std::span<const T> array_at(std::span<const std::byte> bytes, std::uint64_t offset,
                            std::size_t count) {
  return {reinterpret_cast<const T*>(bytes.data() + offset), count};
}

// As the control plane derives it: equal on every node that has this target in its config.
std::uint64_t identity_of(const TargetSpec& spec) {
  struct {
    mr_addr addr;
    std::uint16_t port_be;
    std::uint8_t protocol;
  } const named{spec.addr, to_be16(spec.port),
                spec.protocol == MR_PROTOCOL_UDP ? spec.protocol : std::uint8_t{MR_PROTOCOL_TCP}};
  return core::checksum64(std::as_bytes(std::span{&named, 1}).first(19));
}

mr_config_header header_of(std::uint64_t generation, std::uint64_t image_offset,
                           std::uint64_t total_bytes) {
  mr_config_header header{};
  header.segment.magic = MR_SEGMENT_MAGIC;
  header.segment.abi_version = MR_ABI_VERSION;
  header.segment.kind = MR_SEGMENT_CONFIG;
  header.segment.total_bytes = total_bytes;
  header.generation = generation;
  header.roots[generation % MR_ROOT_COUNT] = {generation, image_offset};
  return header;
}

core::ConfigView view_of(std::span<const std::byte> segment, const mr_image& image) {
  core::ConfigView view;
  view.image = &image;
  view.listener_table = array_at<mr_table_entry>(segment, image.listener_table_offset,
                                                 std::size_t{image.listener_table_mask} + 1);
  view.listeners = array_at<mr_listener>(segment, image.listeners_offset, image.listener_slots);
  view.groups = array_at<mr_target_group>(segment, image.groups_offset, image.group_slots);
  view.targets = array_at<mr_target>(segment, image.targets_offset, image.target_slots);
  view.reverse_table = array_at<mr_table_entry>(segment, image.reverse_table_offset,
                                                std::size_t{image.reverse_table_mask} + 1);
  view.local_addrs = array_at<mr_addr>(segment, image.local_addrs_offset, image.local_addr_count);
  view.local_macs = array_at<mr_local_mac>(segment, image.local_macs_offset, image.local_mac_count);
  view.port_ranges =
      array_at<mr_port_range>(segment, image.port_ranges_offset, image.port_range_count);
  view.vlans = array_at<mr_vlan>(segment, image.vlans_offset, image.vlan_count);
  view.vlan_slots = array_at<std::uint8_t>(segment, image.vlan_slots_offset, image.vlan_slot_count);
  return view;
}

}  // namespace

// Lays arrays out one behind the other, each on its own cache line.
class ImageBuilder::Arena {
 public:
  explicit Arena(std::size_t start) : bytes_(start) {}

  template <typename T>
  std::uint64_t add(const std::vector<T>& values) {
    const std::size_t offset =
        (bytes_.size() + MR_CACHE_LINE_BYTES - 1) / MR_CACHE_LINE_BYTES * MR_CACHE_LINE_BYTES;
    bytes_.resize(offset + values.size() * sizeof(T));
    if (!values.empty()) {
      std::memcpy(bytes_.data() + offset, values.data(), values.size() * sizeof(T));
    }
    return offset;
  }
  [[nodiscard]] std::span<std::byte> bytes() { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

mr_addr addr_of(const std::string& text) {
  std::uint32_t v4 = 0;
  if (inet_pton(AF_INET, text.c_str(), &v4) == 1) return core::v4_mapped(v4);
  mr_addr addr{};
  if (inet_pton(AF_INET6, text.c_str(), addr.bytes) != 1) fail("no address: " + text);
  return addr;
}

mr_next_hop next_hop_of(const std::string& mac, std::uint8_t nic) {
  mr_next_hop hop{};
  unsigned bytes[6] = {};
  if (std::sscanf(mac.c_str(), "%2x:%2x:%2x:%2x:%2x:%2x", &bytes[0], &bytes[1], &bytes[2],
                  &bytes[3], &bytes[4], &bytes[5]) != 6) {
    fail("no MAC address: " + mac);
  }
  std::copy(std::begin(bytes), std::end(bytes), std::begin(hop.mac));
  hop.nic = nic;
  hop.flags = MR_NEXT_HOP_RESOLVED;
  return hop;
}

void Image::Free::operator()(std::byte* memory) const {
  ::operator delete[](memory, std::align_val_t{MR_CACHE_LINE_BYTES});
}

std::uint32_t ImageBuilder::add_group(const GroupSpec& spec) {
  groups_.push_back({next_id_++, spec, {}});
  return static_cast<std::uint32_t>(groups_.size()) - 1;
}

std::uint32_t ImageBuilder::add_target(const TargetSpec& spec) {
  const auto slot = static_cast<std::uint32_t>(targets_.size());
  std::vector<std::uint32_t>& members = groups_.at(spec.group_slot).members;
  targets_.push_back({next_id_++, static_cast<std::uint32_t>(members.size()), spec});
  members.push_back(slot);
  return slot;
}

std::uint32_t ImageBuilder::add_listener(const ListenerSpec& spec) {
  listeners_.push_back({next_id_++, spec});
  return static_cast<std::uint32_t>(listeners_.size()) - 1;
}

void ImageBuilder::set_encap_source(const mr_addr& addr, std::uint32_t spread_be) {
  (core::is_v4(addr) ? encap_source_v4_ : encap_source_v6_) = {
      .addr = addr, .spread_be = spread_be, .reserved = 0};
}

void ImageBuilder::set_nic_addr(std::uint32_t nic, const mr_addr& addr) {
  mr_nic_addrs& own =
      nic < MR_NIC_COUNT_MAX ? nic_addrs_.at(nic) : vlans_.at(nic - MR_NIC_COUNT_MAX).addrs;
  (core::is_v4(addr) ? own.v4 : own.v6) = addr;
}

void ImageBuilder::replace_target(std::uint32_t slot, const TargetSpec& spec) {
  Target& target = targets_.at(slot);
  if (spec.group_slot != target.spec.group_slot) fail("replace_target cannot change the group");
  target.id = next_id_++;
  target.spec = spec;
}

std::vector<mr_listener> ImageBuilder::listeners() const {
  std::vector<mr_listener> out;
  for (const Listener& from : listeners_) {
    mr_listener listener{};
    listener.vip_addr = from.spec.vip_addr;
    listener.slot = static_cast<std::uint16_t>(out.size());
    listener.id = from.id;
    listener.group_slot = static_cast<std::uint16_t>(from.spec.group_slot);
    listener.last_port_be = to_be16(std::max(from.spec.port, from.spec.last_port));
    listener.port_be = to_be16(from.spec.port);
    listener.asked_port_be = mr_asked_port_be_of(listener.port_be, listener.last_port_be);
    listener.protocol = from.spec.protocol;
    listener.timeout_ticks[MR_FLOW_SYN] = ticks_of_seconds(kSynTimeoutSeconds);
    listener.timeout_ticks[MR_FLOW_ESTABLISHED] = ticks_of_seconds(kEstablishedTimeoutSeconds);
    listener.timeout_ticks[MR_FLOW_CLOSING] = ticks_of_seconds(kClosingTimeoutSeconds);
    listener.timeout_ticks[MR_FLOW_CLOSED] = ticks_of_seconds(kClosedTimeoutSeconds);
    listener.timeout_ticks[MR_FLOW_TIMEOUT_RESET] = ticks_of_seconds(kResetTimeoutSeconds);
    listener.timeout_ticks[MR_FLOW_UDP_NEW] = ticks_of_seconds(kUdpNewTimeoutSeconds);
    listener.timeout_ticks[MR_FLOW_UDP] = ticks_of_seconds(kUdpTimeoutSeconds);
    listener.timeout_ticks[MR_FLOW_EXPIRED] = ticks_of_seconds(kExpiredTimeoutSeconds);
    out.push_back(listener);
  }
  return out;
}

std::vector<mr_target> ImageBuilder::targets() const {
  std::vector<mr_target> out;
  for (const Target& from : targets_) {
    const GroupSpec& group = groups_[from.spec.group_slot].spec;
    const bool keeps_port = group.forwarding != MR_FORWARDING_NAT;
    mr_target target{};
    target.addr = from.spec.addr;
    target.id = from.id;
    target.group_slot = from.spec.group_slot;
    target.next_hop = from.spec.next_hop;
    target.port_be = keeps_port ? std::uint16_t{0} : to_be16(from.spec.port);
    target.protocol = from.spec.protocol;
    target.flags = from.spec.flags;
    target.forwarding = group.forwarding;
    target.variant = mr_variant_of(group.forwarding, core::is_v4(target.addr), target.port_be != 0);
    target.mtu = from.spec.mtu;
    target.mss_max = from.spec.mss_max;
    if (group.forwarding == MR_FORWARDING_GUE) target.encap_port_be = to_be16(group.encap_port);
    target.identity = identity_of(from.spec);
    out.push_back(target);
  }
  return out;
}

// Of the VIP and protocol of a listener, in order. What they leave is for a listener to any port.
std::vector<mr_port_range> ImageBuilder::ranges_of(const ListenerSpec& of) const {
  std::map<std::uint32_t, mr_port_range> by_first;
  std::optional<std::uint32_t> any;
  for (std::uint32_t slot = 0; slot < listeners_.size(); ++slot) {
    const ListenerSpec& spec = listeners_[slot].spec;
    const bool is_of_same = listeners_[slot].id != 0 && spec.protocol == of.protocol &&
                            text_of(spec.vip_addr) == text_of(of.vip_addr);
    if (!is_of_same || spec.last_port == 0) continue;
    if (spec.port == 0) {
      any = slot;
    } else {
      by_first[spec.port] = {.first = spec.port, .last = spec.last_port, .listener_slot = slot};
    }
  }
  for (std::uint32_t port = 1; any && port <= 0xffff; ++port) {
    auto next = by_first.upper_bound(port);
    if (next != by_first.begin() && std::prev(next)->second.last >= port) continue;
    const std::uint32_t end = next == by_first.end() ? 0x10000 : next->first;
    by_first[port] = {.first = static_cast<std::uint16_t>(port),
                      .last = static_cast<std::uint16_t>(end - 1),
                      .listener_slot = *any};
  }
  std::vector<mr_port_range> out;
  for (const auto& [first, range] : by_first) out.push_back(range);
  return out;
}

std::vector<mr_table_entry> ImageBuilder::listener_table(std::vector<mr_port_range>& ranges) const {
  std::vector<mr_table_entry> table = empty_table(2 * listeners_.size());
  for (std::uint32_t slot = 0; slot < listeners_.size(); ++slot) {
    if (listeners_[slot].id == 0) continue;
    const ListenerSpec& spec = listeners_[slot].spec;
    mr_table_entry entry = empty_entry();
    entry.addr = spec.vip_addr;
    const auto flags = vip_flags_.find(text_of(spec.vip_addr));
    entry.slot = flags == vip_flags_.end() ? 0 : flags->second;
    if (core::find_entry(table, entry.addr, 0, 0) == nullptr) enter(table, entry);
    if (spec.last_port != 0) {
      entry.protocol = mr_ranges_of(spec.protocol);
      if (core::find_entry(table, entry.addr, 0, entry.protocol) != nullptr) continue;
      const std::vector<mr_port_range> of_vip = ranges_of(spec);
      entry.slot = static_cast<std::uint32_t>(ranges.size());
      entry.next = static_cast<std::uint32_t>(of_vip.size());
      ranges.insert(ranges.end(), of_vip.begin(), of_vip.end());
      enter(table, entry);
      continue;
    }
    entry.port_be = to_be16(spec.port);
    entry.protocol = spec.protocol;
    entry.slot = slot;
    enter(table, entry);
  }
  return table;
}

// The listener that replies of the group's targets are translated to without a flow: the only one
// of that protocol that forwards to the group.
std::uint32_t ImageBuilder::reply_listener(std::uint32_t group_slot, std::uint8_t protocol) const {
  std::uint32_t found = MR_TABLE_EMPTY;
  for (std::uint32_t slot = 0; slot < listeners_.size(); ++slot) {
    const ListenerSpec& spec = listeners_[slot].spec;
    if (listeners_[slot].id == 0 || spec.group_slot != group_slot || spec.protocol != protocol) {
      continue;
    }
    if (found != MR_TABLE_EMPTY) return MR_TABLE_EMPTY;
    found = slot;
  }
  return found;
}

std::vector<mr_table_entry> ImageBuilder::reverse_table() const {
  std::vector<mr_table_entry> table = empty_table(2 * targets_.size());
  for (std::uint32_t slot = 0; slot < targets_.size(); ++slot) {
    const TargetSpec& spec = targets_[slot].spec;
    if (targets_[slot].id == 0) continue;
    if (groups_[spec.group_slot].spec.forwarding != MR_FORWARDING_NAT) continue;
    for (const std::uint8_t protocol : {MR_PROTOCOL_TCP, MR_PROTOCOL_UDP}) {
      if (spec.protocol == protocol || spec.protocol == MR_PROTOCOL_TCP_UDP) {
        enter_reverse(table, slot, protocol);
      }
    }
  }
  for (mr_table_entry& entry : table) {
    if (entry.slot == MR_TABLE_EMPTY || entry.port_be == 0) continue;
    if (is_asked_of_machine(entry)) entry.next = MR_TABLE_EMPTY;
  }
  return table;
}

// Whether another listener than `entry.next` leads to the port of the entry, at a target of any
// port with the entry's address.
bool ImageBuilder::is_asked_of_machine(const mr_table_entry& entry) const {
  const std::uint16_t port = core::from_be16(entry.port_be);
  const auto leads_there = [&](const Listener& listener) {
    const ListenerSpec& spec = listener.spec;
    if (listener.id == 0 || spec.protocol != entry.protocol) return false;
    if (entry.next == static_cast<std::uint32_t>(&listener - listeners_.data())) return false;
    if (port < spec.port || port > std::max(spec.port, spec.last_port)) return false;
    ListenerSpec single = spec;
    single.port = port;
    const auto exact = spec.last_port == 0 ? std::nullopt : listener_like(single);
    if (exact && listeners_[*exact].spec.last_port == 0) return false;
    return std::ranges::any_of(targets_, [&](const Target& target) {
      return target.id != 0 && target.spec.port == 0 && target.spec.group_slot == spec.group_slot &&
             groups_[spec.group_slot].spec.forwarding == MR_FORWARDING_NAT &&
             text_of(target.spec.addr) == text_of(entry.addr);
    });
  };
  return std::ranges::any_of(listeners_, leads_there);
}

void ImageBuilder::enter_reverse(std::vector<mr_table_entry>& table, std::uint32_t slot,
                                 std::uint8_t protocol) const {
  const TargetSpec& spec = targets_[slot].spec;
  mr_table_entry entry{spec.addr, to_be16(spec.port),
                       protocol,  0,
                       0,         0,
                       slot,      reply_listener(spec.group_slot, protocol)};
  if (spec.port == 0) write_asked_ports(entry, spec.group_slot);
  const bool is_told =
      entry.next == MR_TABLE_EMPTY || spec.port == 0 || listeners_[entry.next].spec.last_port == 0;
  if (!is_told) entry.next = MR_TABLE_EMPTY;
  const auto* other = core::find_entry(table, entry.addr, entry.port_be, entry.protocol);
  if (other == nullptr) {
    enter(table, entry);
  } else {
    table[static_cast<std::size_t>(other - table.data())].next = MR_TABLE_EMPTY;
  }
}

// The lowest and the highest port of listeners that lead to the group by the entry's protocol.
void ImageBuilder::write_asked_ports(mr_table_entry& entry, std::uint32_t group_slot) const {
  std::uint16_t first = 0xffff;
  std::uint16_t last = 0;
  for (const Listener& listener : listeners_) {
    const ListenerSpec& spec = listener.spec;
    if (listener.id == 0 || spec.group_slot != group_slot || spec.protocol != entry.protocol) {
      continue;
    }
    first = std::min(first, spec.port);
    last = std::max({last, spec.port, spec.last_port});
  }
  entry.first_port_be = to_be16(first);
  entry.last_port_be = to_be16(last);
}

ImageBuilder::Table ImageBuilder::lookup_table(std::uint32_t group_slot,
                                               const Image* previous) const {
  const Group& group = groups_[group_slot];
  std::vector<control::MaglevTarget> candidates;
  std::vector<std::uint8_t> is_in;
  for (const std::uint32_t slot : group.members) {
    const Target& target = targets_[slot];
    candidates.push_back({identity_of(target.spec), target.id != 0 ? target.spec.weight : 0});
    is_in.push_back(candidates.back().weight > 0 && target.spec.gets_new_flows ? 1 : 0);
  }
  const auto base = control::maglev_table(candidates, lookup_seed_, group.spec.table_slots);
  const auto owners = control::fallback_table(base, candidates, is_in, lookup_seed_);
  Table table;
  if (owners.front() == control::kMaglevNoTarget) return table;
  table.digest = control::maglev_digest(candidates, owners);
  table.slots.resize(owners.size());
  std::span<const mr_lookup_slot> before;
  if (previous != nullptr && group_slot < previous->view().groups.size() &&
      previous->view().groups[group_slot].table_offset != 0) {
    before = previous->view().lookup_table(previous->view().groups[group_slot]);
  }
  for (std::size_t i = 0; i < owners.size(); ++i) {
    mr_lookup_slot& slot = table.slots[i];
    slot.cur = owners[i];
    slot.prev = MR_MEMBER_NONE;
    if (before.size() != owners.size()) continue;
    const std::uint16_t prev = before[i].cur != slot.cur ? before[i].cur : before[i].prev;
    if (prev != MR_MEMBER_NONE && targets_[group.members[prev]].id != 0) slot.prev = prev;
  }
  return table;
}

// Writes members and lookup tables; a freed target is no member, nor anybody's `prev`.
std::vector<mr_target_group> ImageBuilder::write_groups(Arena& arena, const Image* previous) const {
  std::vector<mr_target_group> groups;
  for (std::uint32_t slot = 0; slot < groups_.size(); ++slot) {
    const Group& from = groups_[slot];
    const Table table = lookup_table(slot, previous);
    std::vector<std::uint32_t> members = from.members;
    const auto live = std::ranges::find_if(members, [&](auto m) { return targets_[m].id != 0; });
    const std::uint32_t stand_in = live == members.end() ? 0 : *live;
    if (live == members.end()) members.clear();
    for (std::uint32_t& member : members) {
      if (targets_[member].id == 0) member = stand_in;
    }
    mr_target_group group{};
    group.id = from.id;
    group.member_count = static_cast<std::uint32_t>(members.size());
    group.members_offset = arena.add(members);
    if (!table.slots.empty()) {
      group.table_offset = arena.add(table.slots);
      group.table_slots = from.spec.table_slots;
      group.table_digest = table.digest;
      group.table_checksum = core::checksum64(std::as_bytes(std::span{table.slots}));
    }
    group.forwarding = from.spec.forwarding;
    group.flags = from.spec.flags;
    groups.push_back(group);
  }
  return groups;
}

mr_image ImageBuilder::write_arrays(Arena& arena, const Image* previous) const {
  std::vector<mr_port_range> ranges;
  const auto listener_entries = listener_table(ranges);
  const auto reverse_entries = reverse_table();
  mr_image image{};
  image.magic = MR_IMAGE_MAGIC;
  image.listener_table_offset = arena.add(listener_entries);
  image.listeners_offset = arena.add(listeners());
  image.groups_offset = arena.add(write_groups(arena, previous));
  image.targets_offset = arena.add(targets());
  image.reverse_table_offset = arena.add(reverse_entries);
  image.local_addrs_offset = arena.add(local_addrs_);
  image.local_macs_offset = arena.add(local_macs_);
  image.port_ranges_offset = arena.add(ranges);
  image.port_range_count = static_cast<std::uint32_t>(ranges.size());
  image.any_port_targets = static_cast<std::uint32_t>(
      std::ranges::count(targets(), std::uint8_t{MR_VARIANT_ANY_PORT}, &mr_target::variant));
  const std::vector<std::uint8_t> vlan_slots = core::vlan_slots_of(vlans_);
  image.vlans_offset = arena.add(vlans_);
  image.vlan_slots_offset = arena.add(vlan_slots);
  image.listener_table_mask = static_cast<std::uint32_t>(listener_entries.size()) - 1;
  image.listener_slots = static_cast<std::uint32_t>(listeners_.size());
  image.group_slots = static_cast<std::uint32_t>(groups_.size());
  image.target_slots = static_cast<std::uint32_t>(targets_.size());
  image.reverse_table_mask = static_cast<std::uint32_t>(reverse_entries.size()) - 1;
  image.local_addr_count = static_cast<std::uint32_t>(local_addrs_.size());
  image.local_mac_count = static_cast<std::uint32_t>(local_macs_.size());
  image.vlan_count = static_cast<std::uint32_t>(vlans_.size());
  image.vlan_slot_count = static_cast<std::uint32_t>(vlan_slots.size());
  image.default_next_hop_v4 = default_next_hop_v4_;
  image.default_next_hop_v6 = default_next_hop_v6_;
  image.selection_key = selection_key_;
  image.encap_source_v4 = encap_source_v4_;
  image.encap_source_v6 = encap_source_v6_;
  std::ranges::copy(nic_addrs_, image.nic_addrs);
  return image;
}

Image ImageBuilder::build(std::uint64_t generation, const Image* previous) const {
  Arena arena(sizeof(mr_config_header));
  const std::uint64_t image_offset = arena.add(std::vector<mr_image>(1));
  mr_image image = write_arrays(arena, previous);
  image.generation = generation;

  Image built;
  built.bytes_ = arena.bytes().size();
  built.memory_.reset(static_cast<std::byte*>(
      ::operator new[](built.bytes_, std::align_val_t{MR_CACHE_LINE_BYTES})));
  std::memcpy(built.memory_.get(), arena.bytes().data(), built.bytes_);
  const mr_config_header header = header_of(generation, image_offset, built.bytes_);
  std::memcpy(built.memory_.get(), &header, sizeof(header));
  image.checksum = core::image_checksum(view_of(built.segment(), image));
  std::memcpy(built.memory_.get() + image_offset, &image, sizeof(image));

  auto checked = core::check_image(built.segment(), generation, nullptr);
  if (!checked) fail(checked.error().message);
  built.view_ = *checked;
  return built;
}

}  // namespace millrace::test
