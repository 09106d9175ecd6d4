// SPDX-License-Identifier: Apache-2.0
#include "bpf/engine/config_mirror.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>

#include "dataplane/core/checksum64.h"
#include "dataplane/core/image_arrays.h"
#include "dataplane/os/file.h"

namespace millrace::xdp {

namespace {

constexpr std::uint64_t kLine = MR_CONFIG_LINE_BYTES;

std::uint32_t line_of(std::uint64_t offset) { return static_cast<std::uint32_t>(offset / kLine); }

// Returns when every program that was running has ended: XDP programs run between two RCU grace
// periods, and this waits for one.
Status wait_for_programs() {
  if (::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0U, 0) == 0) return ok();
  return os::os_error("cannot wait for programs to end: membarrier(2), which nohz_full= disables");
}

template <typename T>
std::span<const T> array_at(std::span<const std::byte> memory, std::uint32_t line,
                            std::uint64_t count) {
  const std::uint64_t offset = line * kLine;
  if (offset > memory.size() || count > (memory.size() - offset) / sizeof(T)) return {};
  return {reinterpret_cast<const T*>(memory.data() + offset), static_cast<std::size_t>(count)};
}

// Of all blocks, none shared.
std::uint64_t bytes_of(const core::ConfigView& view) {
  std::uint64_t sum = 0;
  const auto add = [&](auto array) { sum += (array.size_bytes() + kLine - 1) / kLine * kLine; };
  (void)core::for_each_array([&](const auto& row) {
    add(view.*row.view);
    return true;
  });
  for (const mr_target_group& group : view.groups) {
    if (group.id == 0) continue;
    add(view.members(group));
    if (group.table_offset != 0) add(view.lookup_table(group));
  }
  return sum;
}

}  // namespace

// Line 0 stays unused: a group whose table_offset is 0 has no table.
ConfigMirror::ConfigMirror(const Maps& maps)
    : maps_(maps), arena_(kLine, maps.config_lines.size_bytes()) {}

Result<ConfigMirror> ConfigMirror::open(const Maps& maps) {
  if (Status can_wait = wait_for_programs(); !can_wait) return can_wait.error();
  ConfigMirror mirror(maps);
  if (Status occupied = mirror.occupy_active(); !occupied) return occupied.error();
  return mirror;
}

std::uint64_t ConfigMirror::generation() const {
  return maps_.control->roots[maps_.control->active & 1].generation;
}

Status ConfigMirror::occupy_active() {
  const mr_xdp_root& root = maps_.control->roots[maps_.control->active & 1];
  if (root.generation == 0) return ok();
  bool fits = true;
  auto occupy = [&](std::uint64_t offset, std::uint64_t bytes) {
    fits = fits && arena_.occupy(offset, bytes);
    return Block{.offset = offset, .bytes = bytes};
  };
  auto occupy_shared = [&](std::uint64_t offset, std::uint64_t bytes, std::uint64_t checksum) {
    const auto [known, is_new] = in_force_.shared.emplace(BlockKey{checksum, bytes}, offset);
    if (is_new) {
      (void)occupy(offset, bytes);  // remembered as shared
    } else if (known->second != offset) {
      in_force_.own.push_back(occupy(offset, bytes));  // another block of that checksum
    }
  };
  (void)core::for_each_array([&](const auto& row) {
    in_force_.own.push_back(occupy(root.*row.root_line * kLine, row.bytes_in(root)));
    return true;
  });
  const std::span<const std::byte> bytes = memory();
  for (const mr_target_group& group :
       array_at<mr_target_group>(bytes, root.groups_line, root.group_slots)) {
    if (group.id == 0) continue;
    const auto members =
        array_at<std::uint32_t>(bytes, line_of(group.members_offset), group.member_count);
    occupy_shared(group.members_offset, members.size_bytes(),
                  core::checksum64(std::as_bytes(members)));
    if (group.table_offset == 0) continue;
    occupy_shared(group.table_offset, std::uint64_t{group.table_slots} * sizeof(mr_lookup_slot),
                  group.table_checksum);
  }
  if (!fits) return Error{"the config that an earlier daemon left in force is damaged"};
  return ok();
}

Status ConfigMirror::adopt(const core::ConfigView& view) {
  missing_bytes_ = 0;
  // They may be reading the root and the lines that are written below.
  if (Status released = release_replaced(); !released) return released.error();
  const std::uint32_t next = (maps_.control->active & 1) ^ 1;
  Blocks blocks;
  mr_xdp_root root{};
  if (!write(view, blocks, root)) {
    release(blocks, in_force_);
    missing_bytes_ = bytes_of(view);
    return Error{"no room for its " + std::to_string(missing_bytes_) + " bytes (" +
                 std::to_string(arena_.used_bytes()) + " of " +
                 std::to_string(arena_.total_bytes()) + " in use)"};
  }
  maps_.control->roots[next] = root;
  // Programs read it plainly; what it names is complete before.
  std::atomic_ref<std::uint32_t>(maps_.control->active).store(next, std::memory_order_release);
  replaced_ = std::move(in_force_);
  in_force_ = std::move(blocks);
  (void)release_replaced();  // if that fails, the next adoption starts with it
  return ok();
}

Status ConfigMirror::release_replaced() {
  if (!replaced_) return ok();
  if (Status ended = wait_for_programs(); !ended) return ended;
  release(*replaced_, in_force_);
  replaced_.reset();
  return ok();
}

bool ConfigMirror::write(const core::ConfigView& view, Blocks& blocks, mr_xdp_root& root) {
  std::vector<mr_target_group> groups;
  if (!write_groups(view, blocks, groups)) return false;
  const mr_image& image = *view.image;
  const bool has_room = core::for_each_array([&](const auto& row) {
    auto array = view.*row.view;
    // Not the segment's: theirs name places of the mirror.
    if constexpr (std::is_same_v<decltype(array), std::span<const mr_target_group>>) array = groups;
    const std::optional<std::uint32_t> line = place(array, blocks);
    if (!line) return false;
    root.*row.root_line = *line;
    root.*row.root_size = image.*row.size;
    return true;
  });
  if (!has_room) return false;
  root.generation = view.generation;
  root.default_next_hop_v4 = image.default_next_hop_v4;
  root.default_next_hop_v6 = image.default_next_hop_v6;
  root.selection_key = image.selection_key;
  root.encap_source_v4 = image.encap_source_v4;
  root.encap_source_v6 = image.encap_source_v6;
  std::ranges::copy(image.nic_addrs, root.nic_addrs);
  root.base_line = 0;
  root.any_port_targets = image.any_port_targets;
  return true;
}

// The groups with the offsets that their members and tables have here.
bool ConfigMirror::write_groups(const core::ConfigView& view, Blocks& blocks,
                                std::vector<mr_target_group>& groups) {
  groups.assign(view.groups.begin(), view.groups.end());
  for (mr_target_group& group : groups) {
    if (group.id == 0) continue;
    const auto members = std::as_bytes(view.members(group));
    const std::optional<std::uint64_t> at = share(members, core::checksum64(members), blocks);
    if (!at) return false;
    if (group.table_offset != 0) {
      const std::optional<std::uint64_t> table =
          share(std::as_bytes(view.lookup_table(group)), group.table_checksum, blocks);
      if (!table) return false;
      group.table_offset = *table;
    }
    group.members_offset = *at;
  }
  return true;
}

// Two blocks of one checksum: the first one found is shared, any other is the image's own.
std::optional<std::uint64_t> ConfigMirror::share(std::span<const std::byte> bytes,
                                                 std::uint64_t checksum, Blocks& blocks) {
  const BlockKey key{checksum, bytes.size()};
  const auto found = blocks.shared.find(key);
  if (found != blocks.shared.end() && holds(found->second, bytes)) return found->second;
  if (found == blocks.shared.end()) {
    const auto kept = in_force_.shared.find(key);
    if (kept != in_force_.shared.end() && holds(kept->second, bytes)) {
      blocks.shared.insert(*kept);
      return kept->second;
    }
  }
  const std::optional<std::uint64_t> offset = copy(bytes);
  if (!offset) return std::nullopt;
  const bool is_first = found == blocks.shared.end() && !in_force_.shared.contains(key);
  if (is_first) {
    blocks.shared.emplace(key, *offset);
  } else {
    blocks.own.push_back({.offset = *offset, .bytes = bytes.size()});
  }
  return offset;
}

template <typename T>
std::optional<std::uint32_t> ConfigMirror::place(std::span<const T> array, Blocks& blocks) {
  const std::optional<std::uint64_t> offset = copy(std::as_bytes(array));
  if (!offset) return std::nullopt;
  blocks.own.push_back({.offset = *offset, .bytes = array.size_bytes()});
  return line_of(*offset);
}

std::optional<std::uint64_t> ConfigMirror::copy(std::span<const std::byte> bytes) {
  const std::optional<std::uint64_t> offset = arena_.allocate(bytes.size());
  if (offset && !bytes.empty()) {
    std::memcpy(memory().data() + *offset, bytes.data(), bytes.size());
  }
  return offset;
}

bool ConfigMirror::holds(std::uint64_t offset, std::span<const std::byte> bytes) const {
  return std::memcmp(memory().data() + offset, bytes.data(), bytes.size()) == 0;
}

// Gives back what `blocks` has and `kept` does not share.
void ConfigMirror::release(const Blocks& blocks, const Blocks& kept) {
  for (const Block& block : blocks.own) arena_.release(block.offset, block.bytes);
  for (const auto& [key, offset] : blocks.shared) {
    if (!kept.shared.contains(key)) arena_.release(offset, key.second);
  }
}

}  // namespace millrace::xdp
