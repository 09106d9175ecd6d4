// SPDX-License-Identifier: Apache-2.0
//
// Checks what the control plane wrote before the packet path uses it. Cold; the engine's main
// thread. Every worker uses a checked image without further checks, so a check that is missing here
// is a wild read there.
#include "dataplane/core/config_view.h"

#include <algorithm>
#include <bit>
#include <string>

#include "dataplane/core/checksum64.h"
#include "dataplane/core/image_arrays.h"
#include "dataplane/core/wire.h"
#include "dataplane/rules/forwarding_rule.h"

namespace millrace::core {
namespace {

// The image under examination, and the words for what is wrong with it.
class Checker {
 public:
  Checker(std::span<const std::byte> segment, std::uint64_t generation, const ConfigView* previous,
          ImageChecksum checksum)
      : segment_(segment),
        generation_(generation),
        previous_(previous),
        checks_checksum_(checksum == ImageChecksum::check) {}

  [[nodiscard]] Result<ConfigView> run();

 private:
  [[nodiscard]] Error wrong(const std::string& what) const {
    return Error{"image " + std::to_string(generation_) + ": " + what};
  }
  [[nodiscard]] Error wrong(const std::string& what, std::uint64_t found, const char* relation,
                            std::uint64_t limit) const {
    return wrong(what + " " + std::to_string(found) + " " + relation + " " + std::to_string(limit));
  }

  // Points `out` at `count` elements at `offset`; false when they do not lie inside the segment.
  template <typename T>
  [[nodiscard]] bool place(std::uint64_t offset, std::uint64_t count,
                           std::span<const T>& out) const {
    if (offset % alignof(std::uint64_t) != 0 || offset > segment_.size() ||
        count > (segment_.size() - offset) / sizeof(T)) {
      return false;
    }
    out = {reinterpret_cast<const T*>(segment_.data() + offset), static_cast<std::size_t>(count)};
    return true;
  }

  [[nodiscard]] Status find_image();
  [[nodiscard]] Status place_arrays();
  [[nodiscard]] Status check_checksum() const;
  [[nodiscard]] Status check_listeners() const;
  [[nodiscard]] Status check_group(std::uint32_t slot) const;
  [[nodiscard]] Status check_lookup_table(std::uint32_t slot, const mr_target_group& group) const;
  [[nodiscard]] Status check_targets() const;
  [[nodiscard]] Status check_ranges(const mr_table_entry& entry) const;
  [[nodiscard]] Status check_vlans() const;
  [[nodiscard]] Status check_tables() const;
  [[nodiscard]] Status check_table(const char* name, std::span<const mr_table_entry> table,
                                   std::uint64_t slot_limit) const;

  std::span<const std::byte> segment_;
  std::uint64_t generation_;
  const ConfigView* previous_;
  bool checks_checksum_;
  ConfigView view_;
};

Status Checker::find_image() {
  if (segment_.size() < sizeof(mr_config_header)) return wrong("segment has no header");
  const auto* header = reinterpret_cast<const mr_config_header*>(segment_.data());
  const mr_root& root = header->roots[generation_ % MR_ROOT_COUNT];
  if (root.generation != generation_) {
    return wrong("its root names generation", root.generation, "instead of", generation_);
  }
  std::span<const mr_image> image;
  if (root.image_offset < sizeof(mr_config_header) || !place(root.image_offset, 1, image)) {
    return wrong("image_offset", root.image_offset, "is not inside the segment of",
                 segment_.size());
  }
  view_.generation = generation_;
  view_.segment = segment_.data();
  view_.image = image.data();
  if (view_.image->magic != MR_IMAGE_MAGIC) return wrong("magic is wrong");
  if (view_.image->generation != generation_) {
    return wrong("it says it is generation", view_.image->generation, "instead of", generation_);
  }
  return ok();
}

Status Checker::place_arrays() {
  const mr_image& image = *view_.image;
  Status status = ok();
  (void)for_each_array([&](const auto& row) {
    const std::uint64_t count = row.count_in(image);
    if (row.size_max != 0 && count > row.size_max) {
      status = wrong(row.size_name, count, ">", row.size_max);
    } else if (row.is_table && !std::has_single_bit(count)) {
      status = wrong(row.size_name, image.*row.size, "is not a power of two less one:", count);
    } else if (!place(image.*row.offset, count, view_.*row.view)) {
      status = wrong("an array reaches beyond the segment or is not aligned");
    }
    return bool{status};
  });
  return status;
}

Status Checker::check_checksum() const {
  if (checks_checksum_ && view_.image->checksum != image_checksum(view_)) {
    return wrong("checksum does not match the contents");
  }
  return ok();
}

bool is_of_ranges(const mr_table_entry& entry) {
  return entry.protocol == mr_ranges_of(MR_PROTOCOL_TCP) ||
         entry.protocol == mr_ranges_of(MR_PROTOCOL_UDP);
}

// The ranges of one VIP and protocol.
Status Checker::check_ranges(const mr_table_entry& entry) const {
  if (entry.next > MR_PORT_RANGES_OF_VIP_MAX) {
    return wrong("a VIP's port ranges", entry.next, ">", MR_PORT_RANGES_OF_VIP_MAX);
  }
  if (std::uint64_t{entry.slot} + entry.next > view_.port_ranges.size()) {
    return wrong("a VIP's port ranges end at", std::uint64_t{entry.slot} + entry.next, ">",
                 view_.port_ranges.size());
  }
  for (const mr_port_range& range : view_.port_ranges.subspan(entry.slot, entry.next)) {
    if (range.listener_slot >= view_.listeners.size()) {
      return wrong("a port range names listener slot", range.listener_slot,
                   ">=", view_.listeners.size());
    }
  }
  return ok();
}

// Blocks are immutable: what an earlier view had checked at these places still holds, if the arrays
// that the entries point into have not shrunk.
Status Checker::check_tables() const {
  const auto is_as_before = [&](auto array) {
    return ((*previous_).*array).data() == (view_.*array).data() &&
           ((*previous_).*array).size() == (view_.*array).size();
  };
  if (previous_ != nullptr && is_as_before(&ConfigView::listener_table) &&
      is_as_before(&ConfigView::reverse_table) && is_as_before(&ConfigView::port_ranges) &&
      previous_->listeners.size() <= view_.listeners.size() &&
      previous_->targets.size() <= view_.targets.size()) {
    return ok();
  }
  if (Status s = check_table("listener table", view_.listener_table, view_.listeners.size()); !s) {
    return s;
  }
  return check_table("reverse table", view_.reverse_table, view_.targets.size());
}

Status Checker::check_table(const char* name, std::span<const mr_table_entry> table,
                            std::uint64_t slot_limit) const {
  std::uint64_t used = 0;
  for (const mr_table_entry& entry : table) {
    if (entry.slot == MR_TABLE_EMPTY) continue;
    ++used;
    const bool is_vip = entry.port_be == 0 && entry.protocol == 0;
    constexpr std::uint32_t kEither = MR_VIP_REJECTS | MR_VIP_PUNTS;
    if (is_vip && (entry.slot > MR_VIP_FLAGS_MASK || (entry.slot & kEither) == kEither)) {
      return wrong(std::string(name) + " gives a VIP flags", entry.slot, "that are impossible, of",
                   MR_VIP_FLAGS_MASK);
    }
    if (is_of_ranges(entry)) {
      if (Status status = check_ranges(entry); !status) return status;
      continue;
    }
    if (!is_vip && entry.slot >= slot_limit) {
      return wrong(std::string(name) + " names slot", entry.slot, ">=", slot_limit);
    }
    if (entry.next != MR_TABLE_EMPTY && entry.next >= view_.listeners.size()) {
      return wrong(std::string(name) + " names listener slot", entry.next,
                   ">=", view_.listeners.size());
    }
  }
  if (used == table.size()) return wrong(std::string(name) + " has no empty entry");
  return ok();
}

Status Checker::check_listeners() const {
  for (std::uint32_t slot = 0; slot < view_.listeners.size(); ++slot) {
    const mr_listener& listener = view_.listeners[slot];
    if (listener.id == 0) continue;
    const auto name = [slot] { return "listener slot " + std::to_string(slot) + ": "; };
    if (listener.slot != slot) {
      return wrong(name() + "it says that it is slot", listener.slot, "instead of", slot);
    }
    const std::uint16_t asked_port_be =
        mr_asked_port_be_of(listener.port_be, listener.last_port_be);
    if (listener.asked_port_be != asked_port_be) {
      return wrong(name() + "it is asked for port", from_be16(listener.asked_port_be), "instead of",
                   from_be16(asked_port_be));
    }
    if (listener.group_slot >= view_.groups.size() || view_.groups[listener.group_slot].id == 0) {
      return wrong(name() + "group_slot", listener.group_slot, "is not one of",
                   view_.groups.size());
    }
    if (listener.protocol != MR_PROTOCOL_TCP && listener.protocol != MR_PROTOCOL_UDP) {
      return wrong(name() + "protocol", listener.protocol, "is neither TCP nor UDP:", 0);
    }
  }
  return ok();
}

Status Checker::check_lookup_table(std::uint32_t slot, const mr_target_group& group) const {
  const auto name = [slot] { return "group slot " + std::to_string(slot) + ": "; };
  if (group.table_slots < 2 || group.table_slots > MR_LOOKUP_SLOTS_MAX) {
    return wrong(name() + "table_slots", group.table_slots, "is not between 2 and",
                 MR_LOOKUP_SLOTS_MAX);
  }
  std::span<const mr_lookup_slot> table;
  if (!place(group.table_offset, group.table_slots, table)) {
    return wrong(name() + "table_offset", group.table_offset, "is not inside the segment of",
                 segment_.size());
  }
  // Blocks are immutable. What an earlier view had checked at this place with this checksum still
  // holds, if the segment is the same and the group has no fewer members.
  if (previous_ != nullptr && previous_->segment == segment_.data() &&
      slot < previous_->groups.size()) {
    const mr_target_group& before = previous_->groups[slot];
    if (before.id == group.id && before.table_offset == group.table_offset &&
        before.table_checksum == group.table_checksum && before.table_slots == group.table_slots &&
        before.member_count <= group.member_count) {
      return ok();
    }
  }
  if (checksum64(std::as_bytes(table)) != group.table_checksum) {
    return wrong(name() + "lookup table does not match its checksum");
  }
  // No branch per slot, because a changed table is read at every change of health. Signed numbers,
  // because every x86 compares four of those at once.
  int cur_max = 0;
  int prev_max = 0;
  for (const mr_lookup_slot& entry : table) {
    cur_max = std::max<int>(cur_max, entry.cur);
    prev_max = std::max<int>(prev_max, entry.prev == MR_MEMBER_NONE ? 0 : entry.prev);
  }
  const auto member_count = static_cast<int>(group.member_count);  // checked to be small
  const auto largest = [](int member) { return static_cast<std::uint64_t>(member); };
  if (cur_max >= member_count) {
    return wrong(name() + "lookup table names member", largest(cur_max), ">=", group.member_count);
  }
  if (prev_max >= member_count) {
    return wrong(name() + "lookup table names previous member", largest(prev_max),
                 ">=", group.member_count);
  }
  return ok();
}

Status Checker::check_group(std::uint32_t slot) const {
  const mr_target_group& group = view_.groups[slot];
  if (group.id == 0) return ok();
  const auto name = [slot] { return "group slot " + std::to_string(slot) + ": "; };
  if (group.member_count > MR_GROUP_MEMBERS_MAX) {
    return wrong(name() + "member_count", group.member_count, ">", MR_GROUP_MEMBERS_MAX);
  }
  if (group.forwarding < MR_FORWARDING_NAT || group.forwarding > MR_FORWARDING_GUE) {
    return wrong(name() + "forwarding", group.forwarding, "is not one of the modes up to",
                 MR_FORWARDING_GUE);
  }
  std::span<const std::uint32_t> members;
  if (!place(group.members_offset, group.member_count, members)) {
    return wrong(name() + "members_offset", group.members_offset, "is not inside the segment of",
                 segment_.size());
  }
  for (const std::uint32_t target_slot : members) {
    if (target_slot >= view_.targets.size() || view_.targets[target_slot].id == 0) {
      return wrong(name() + "member target slot", target_slot, "is not one of",
                   view_.targets.size());
    }
  }
  return group.table_offset == 0 ? ok() : check_lookup_table(slot, group);
}

Status Checker::check_targets() const {
  for (std::uint32_t slot = 0; slot < view_.targets.size(); ++slot) {
    const mr_target& target = view_.targets[slot];
    if (target.id == 0) continue;
    if (target.group_slot >= view_.groups.size()) {
      return wrong("target slot " + std::to_string(slot) + ": group_slot", target.group_slot,
                   ">=", view_.groups.size());
    }
    const mr_target_group& group = view_.groups[target.group_slot];
    if (target.forwarding != group.forwarding) {
      return wrong("target slot " + std::to_string(slot) + ": forwarding", target.forwarding,
                   "is not its group's", group.forwarding);
    }
    const std::uint8_t variant =
        mr_variant_of(target.forwarding, is_v4(target.addr), target.port_be != 0);
    if (target.variant != variant) {
      return wrong("target slot " + std::to_string(slot) + ": variant", target.variant,
                   "is not what follows from its address and port:", variant);
    }
  }
  return ok();
}

Status Checker::check_vlans() const {
  for (std::uint32_t slot = 0; slot < view_.vlans.size(); ++slot) {
    const mr_vlan& vlan = view_.vlans[slot];
    if (vlan.nic >= MR_NIC_COUNT_MAX) {
      return wrong("vlan slot " + std::to_string(slot) + ": nic", vlan.nic, ">=", MR_NIC_COUNT_MAX);
    }
  }
  if (view_.vlan_slots.size() % MR_VLAN_ID_COUNT != 0) {
    return wrong("vlan_slot_count", view_.vlan_slots.size(), "is not a multiple of",
                 MR_VLAN_ID_COUNT);
  }
  for (const std::uint8_t slot : view_.vlan_slots) {
    if (slot != MR_VLAN_NONE && slot >= view_.vlans.size()) {
      return wrong("vlan_slots name slot", slot, ">=", view_.vlans.size());
    }
  }
  return ok();
}

Result<ConfigView> Checker::run() {
  if (Status status = find_image(); !status) return status.error();
  if (Status status = place_arrays(); !status) return status.error();
  if (Status status = check_checksum(); !status) return status.error();
  if (Status status = check_listeners(); !status) return status.error();
  if (Status status = check_targets(); !status) return status.error();
  if (Status status = check_vlans(); !status) return status.error();
  for (std::uint32_t slot = 0; slot < view_.groups.size(); ++slot) {
    if (Status status = check_group(slot); !status) return status.error();
  }
  if (Status status = check_tables(); !status) return status.error();
  return view_;
}

}  // namespace

std::vector<std::uint8_t> vlan_slots_of(std::span<const mr_vlan> vlans) {
  std::vector<std::uint8_t> slots;
  for (std::size_t slot = 0; slot < vlans.size(); ++slot) {
    const mr_vlan& vlan = vlans[slot];
    if ((vlan.flags & MR_VLAN_PRESENT) == 0) continue;
    const std::size_t row = std::size_t{vlan.nic} * MR_VLAN_ID_COUNT;
    slots.resize(std::max(slots.size(), row + MR_VLAN_ID_COUNT), MR_VLAN_NONE);
    slots[row + (from_be32(vlan.tag) & MR_VLAN_ID_MASK)] = static_cast<std::uint8_t>(slot);
  }
  return slots;
}

std::vector<MacAddr> further_macs(const ConfigView& view, std::uint8_t nic, const MacAddr& usual) {
  std::vector<MacAddr> macs;
  const auto add = [&](const std::uint8_t(&bytes)[6]) {
    MacAddr mac;
    std::copy_n(bytes, mac.bytes.size(), mac.bytes.begin());
    if (mac != usual) macs.push_back(mac);
  };
  for (const mr_local_mac& local : view.local_macs) {
    const std::size_t slot = std::size_t{local.nic} - MR_NIC_COUNT_MAX;  // wraps for a nic
    const std::uint8_t below = slot < view.vlans.size() ? view.vlans[slot].nic : local.nic;
    if (below == nic) add(local.mac);
  }
  for (const mr_vlan& vlan : view.vlans) {
    if ((vlan.flags & MR_VLAN_PRESENT) != 0 && vlan.nic == nic) add(vlan.mac);
  }
  std::ranges::sort(macs, {}, &MacAddr::bytes);
  macs.erase(std::unique(macs.begin(), macs.end()), macs.end());
  return macs;
}

std::uint64_t image_checksum(const ConfigView& view) {
  mr_image bare = *view.image;
  bare.checksum = 0;
  std::uint64_t sum = checksum64(std::as_bytes(std::span{&bare, 1}));
  (void)for_each_array([&](const auto& row) {
    sum = checksum64(std::as_bytes(view.*row.view), sum);
    return true;
  });
  return sum;
}

Result<ConfigView> check_image(std::span<const std::byte> segment, std::uint64_t generation,
                               const ConfigView* previous, ImageChecksum checksum) {
  return Checker(segment, generation, previous, checksum).run();
}

}  // namespace millrace::core
