// SPDX-License-Identifier: Apache-2.0
#include "bpf/engine/config_mirror.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <string>
#include <utility>

#include "dataplane/core/checksum64.h"
#include "dataplane/shm/file.h"

namespace millrace::xdp {

namespace {

constexpr std::uint64_t kLine = MR_CONFIG_LINE_BYTES;

std::uint32_t line_of(std::uint64_t offset) { return static_cast<std::uint32_t>(offset / kLine); }

// Returns when every program that was running has ended: XDP programs run between two RCU grace
// periods, and this waits for one.
Status wait_for_programs() {
  if (::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0U, 0) == 0) return ok();
  return shm::os_error("cannot wait for programs to end: membarrier(2), which nohz_full= disables");
}

template <typename T>
std::span<const T> array_at(std::span<const std::byte> memory, std::uint32_t line,
                            std::uint64_t count) {
  const std::uint64_t offset = line * kLine;
  if (offset > memory.size() || count > (memory.size() - offset) / sizeof(T)) return {};
  return {reinterpret_cast<const T*>(memory.data() + offset), static_cast<std::size_t>(count)};
}

std::uint64_t entries_of(std::uint32_t mask) { return std::uint64_t{mask} + 1; }

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
  auto occupy_array = [&](std::uint32_t line, std::uint64_t count, std::uint64_t element_bytes) {
    in_force_.arrays.push_back(occupy(line * kLine, count * element_bytes));
  };
  auto occupy_shared = [&](std::uint64_t offset, std::uint64_t bytes, std::uint64_t checksum) {
    if (!in_force_.shared.emplace(BlockKey{checksum, bytes}, offset).second) return;
    (void)occupy(offset, bytes);  // remembered as shared
  };
  occupy_array(root.listener_table_line, entries_of(root.listener_table_mask),
               sizeof(mr_table_entry));
  occupy_array(root.listeners_line, root.listener_slots, sizeof(mr_listener));
  occupy_array(root.groups_line, root.group_slots, sizeof(mr_target_group));
  occupy_array(root.targets_line, root.target_slots, sizeof(mr_target));
  occupy_array(root.reverse_table_line, entries_of(root.reverse_table_mask),
               sizeof(mr_table_entry));
  occupy_array(root.local_addrs_line, root.local_addr_count, sizeof(mr_addr));
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
  const std::uint32_t next = (maps_.control->active & 1) ^ 1;
  Blocks blocks;
  mr_xdp_root root{};
  if (Status written = write(view, blocks, root); !written) {
    release(blocks, in_force_);
    return written.error();
  }
  // Nobody has read this root since the programs of the switch before have ended.
  maps_.control->roots[next] = root;
  // Programs read it plainly; what it names is complete before.
  std::atomic_ref<std::uint32_t>(maps_.control->active).store(next, std::memory_order_release);
  if (Status ended = wait_for_programs(); !ended) return ended.error();
  release(in_force_, blocks);
  in_force_ = std::move(blocks);
  return ok();
}

Status ConfigMirror::write(const core::ConfigView& view, Blocks& blocks, mr_xdp_root& root) {
  std::vector<mr_target_group> groups;
  if (Status written = write_groups(view, blocks, groups); !written) return written.error();
  const std::vector<Result<std::uint32_t>> lines = {
      place(view.listener_table, blocks),
      place(view.listeners, blocks),
      place(std::span<const mr_target_group>(groups), blocks),
      place(view.targets, blocks),
      place(view.reverse_table, blocks),
      place(view.local_addrs, blocks)};
  for (const Result<std::uint32_t>& line : lines) {
    if (!line) return line.error();
  }
  const mr_image& image = *view.image;
  root.generation = view.generation;
  root.listener_table_line = *lines[0];
  root.listener_table_mask = image.listener_table_mask;
  root.listeners_line = *lines[1];
  root.listener_slots = image.listener_slots;
  root.groups_line = *lines[2];
  root.group_slots = image.group_slots;
  root.targets_line = *lines[3];
  root.target_slots = image.target_slots;
  root.reverse_table_line = *lines[4];
  root.reverse_table_mask = image.reverse_table_mask;
  root.local_addrs_line = *lines[5];
  root.local_addr_count = image.local_addr_count;
  root.default_next_hop_v4 = image.default_next_hop_v4;
  root.default_next_hop_v6 = image.default_next_hop_v6;
  root.selection_key = image.selection_key;
  root.encap_source_v4 = image.encap_source_v4;
  root.encap_source_v6 = image.encap_source_v6;
  root.base_line = 0;
  return ok();
}

// The groups with the offsets that their members and tables have here.
Status ConfigMirror::write_groups(const core::ConfigView& view, Blocks& blocks,
                                  std::vector<mr_target_group>& groups) {
  groups.assign(view.groups.begin(), view.groups.end());
  for (mr_target_group& group : groups) {
    if (group.id == 0) continue;
    const auto members = std::as_bytes(view.members(group));
    const Result<std::uint64_t> at = share(members, core::checksum64(members), blocks);
    if (!at) return at.error();
    if (group.table_offset != 0) {
      const Result<std::uint64_t> table =
          share(std::as_bytes(view.lookup_table(group)), group.table_checksum, blocks);
      if (!table) return table.error();
      group.table_offset = *table;
    }
    group.members_offset = *at;
  }
  return ok();
}

Result<std::uint64_t> ConfigMirror::share(std::span<const std::byte> bytes, std::uint64_t checksum,
                                          Blocks& blocks) {
  const BlockKey key{checksum, bytes.size()};
  if (const auto own = blocks.shared.find(key); own != blocks.shared.end()) return own->second;
  if (const auto kept = in_force_.shared.find(key); kept != in_force_.shared.end()) {
    blocks.shared.insert(*kept);
    return kept->second;
  }
  Result<std::uint64_t> offset = copy(bytes);
  if (offset) blocks.shared.emplace(key, *offset);
  return offset;
}

template <typename T>
Result<std::uint32_t> ConfigMirror::place(std::span<const T> array, Blocks& blocks) {
  const Result<std::uint64_t> offset = copy(std::as_bytes(array));
  if (!offset) return offset.error();
  blocks.arrays.push_back({.offset = *offset, .bytes = array.size_bytes()});
  return line_of(*offset);
}

Result<std::uint64_t> ConfigMirror::copy(std::span<const std::byte> bytes) {
  const std::optional<std::uint64_t> offset = arena_.allocate(bytes.size());
  if (!offset) {
    return Error{"no room for a block of " + std::to_string(bytes.size()) + " bytes (" +
                 std::to_string(arena_.used_bytes()) + " of " +
                 std::to_string(arena_.total_bytes()) +
                 " in use): restart millrace-xdp with a larger --config-mib"};
  }
  if (!bytes.empty()) std::memcpy(memory().data() + *offset, bytes.data(), bytes.size());
  return *offset;
}

// Gives back what `blocks` has and `kept` does not share.
void ConfigMirror::release(const Blocks& blocks, const Blocks& kept) {
  for (const Block& block : blocks.arrays) arena_.release(block.offset, block.bytes);
  for (const auto& [key, offset] : blocks.shared) {
    if (!kept.shared.contains(key)) arena_.release(offset, key.second);
  }
}

}  // namespace millrace::xdp
