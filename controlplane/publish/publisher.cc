// SPDX-License-Identifier: Apache-2.0
#include "controlplane/publish/publisher.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "dataplane/core/checksum64.h"
#include "dataplane/shm/atomic.h"

namespace millrace::control {

namespace {

constexpr std::uint64_t kArenaStart = sizeof(mr_config_header);
// Whole cache lines only.
std::uint64_t arena_end(std::uint64_t segment_bytes) {
  return segment_bytes / MR_CACHE_LINE_BYTES * MR_CACHE_LINE_BYTES;
}

template <typename T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span<const T>(values));
}

}  // namespace

struct Publisher::Draft {
  std::uint64_t generation;
  std::vector<std::uint64_t> used;  // offsets of all blocks
  std::vector<std::uint64_t> made;  // of those that are new
};

Publisher::Publisher(Options options, shm::Segment segment, std::uint64_t generation)
    : options_(std::move(options)),
      segment_(std::move(segment)),
      arena_(kArenaStart, arena_end(segment_.bytes().size())),
      last_generation_(generation) {}

Result<std::unique_ptr<Publisher>> Publisher::open(Options options) {
  std::string why_not;
  if (shm::identity_of(options.path) != shm::FileIdentity{}) {
    Result<std::unique_ptr<Publisher>> joined = rejoin(options);
    if (joined) return joined;
    why_not = joined.error().message;
  }
  Result<std::unique_ptr<Publisher>> created = create(options);
  if (created) (*created)->rejoin_error_ = std::move(why_not);
  return created;
}

Result<std::unique_ptr<Publisher>> Publisher::create(const Options& options) {
  if (options.segment_bytes < 2 * kArenaStart) {
    return Error{options.path + ": a config segment of " + std::to_string(options.segment_bytes) +
                 " bytes is too small"};
  }
  Result<shm::Segment> segment =
      shm::Segment::create(options.path, shm::kConfigSpec, options.segment_bytes, kArenaStart);
  if (!segment) return segment.error();
  if (Status published = segment->publish(); !published) return published.error();
  return std::unique_ptr<Publisher>(
      new Publisher(options, std::move(*segment), options.generation_floor));
}

Result<std::unique_ptr<Publisher>> Publisher::rejoin(const Options& options) {
  Result<shm::Segment> segment =
      shm::Segment::join(options.path, shm::kConfigSpec, shm::Access::read_write);
  if (!segment) return segment.error();
  const std::uint64_t generation =
      shm::load_acquire(segment->header<mr_config_header>()->generation);
  std::unique_ptr<Publisher> publisher(new Publisher(options, std::move(*segment), generation));
  publisher->rejoined_ = true;
  if (generation == 0) {  // its creator died before the first image
    publisher->last_generation_ = options.generation_floor;
    return publisher;
  }
  Result<core::ConfigView> view =
      core::check_image(publisher->segment_.bytes(), generation, nullptr);
  if (!view) return view.error().within(options.path);
  publisher->published_ = *view;
  if (Status adopted = publisher->adopt_blocks(); !adopted) return adopted.error();
  return publisher;
}

// Takes the current image's blocks over, and everything else as blocks of the generation before it:
// unknown, and readable until all workers have acknowledged the current one.
Status Publisher::adopt_blocks() {
  std::set<std::uint64_t> seen;
  auto adopt = [&](auto array) -> Status {
    const auto bytes = std::as_bytes(array);
    if (!seen.insert(static_cast<std::uint64_t>(bytes.data() - published_.segment)).second) {
      return ok();  // shared within the image
    }
    return adopt_block(bytes);
  };
  std::vector<Status> results = {adopt(std::span(published_.image, 1)),
                                 adopt(published_.listener_table),
                                 adopt(published_.listeners),
                                 adopt(published_.groups),
                                 adopt(published_.targets),
                                 adopt(published_.reverse_table),
                                 adopt(published_.local_addrs)};
  for (const mr_target_group& group : published_.groups) {
    if (group.id == 0) continue;
    results.push_back(adopt(published_.members(group)));
    if (group.table_offset != 0) results.push_back(adopt(published_.lookup_table(group)));
  }
  for (const Status& result : results) {
    if (!result) return result.error();
  }
  for (const shm::ArenaRange& range : arena_.free_ranges()) {
    if (!arena_.occupy(range.offset, range.bytes)) return Error{"arena bookkeeping is wrong"};
    remember(range.offset, Block{.bytes = range.bytes,
                                 .checksum = 0,
                                 .last_generation = published_.generation - 1,
                                 .is_content_known = false,
                                 .table = nullptr});
  }
  return ok();
}

Status Publisher::adopt_block(std::span<const std::byte> bytes) {
  const auto offset = static_cast<std::uint64_t>(bytes.data() - published_.segment);
  if (!arena_.occupy(offset, bytes.size())) {
    return Error{options_.path + ": blocks of image " + std::to_string(published_.generation) +
                 " overlap at offset " + std::to_string(offset)};
  }
  remember(offset, Block{.bytes = bytes.size(),
                         .checksum = core::checksum64(bytes),
                         .last_generation = published_.generation,
                         .is_content_known = true,
                         .table = nullptr});
  return ok();
}

Result<std::uint64_t> Publisher::publish(const ImageContents& contents) {
  const std::uint64_t generation = last_generation_ + 1;
  Draft draft{.generation = generation, .used = {}, .made = {}};
  Result<std::uint64_t> image = write_image(contents, draft);
  auto give_back = [&] {
    for (const std::uint64_t offset : draft.made) forget(offset);
  };
  if (!image) {
    give_back();
    return image.error();
  }
  step("root");
  mr_root& root = header().roots[generation % MR_ROOT_COUNT];
  root.image_offset = *image;
  root.generation = generation;
  // What an engine would refuse must not replace what it has.
  Result<core::ConfigView> view = core::check_image(
      segment_.bytes(), generation, published_.image == nullptr ? nullptr : &published_);
  if (!view) {
    give_back();
    return view.error().within("refused to publish");
  }
  step("generation");
  // Pairs with the acquire in shm::ConfigReader::poll.
  shm::store_release(header().generation, generation);
  last_generation_ = generation;
  published_ = *view;
  for (const std::uint64_t offset : draft.used) blocks_[offset].last_generation = generation;
  reclaim(oldest_read_);
  step("published");
  return generation;
}

void Publisher::reclaim(std::uint64_t oldest_read) {
  oldest_read_ = std::max(oldest_read_, oldest_read);
  const std::uint64_t limit = std::min(oldest_read_, published_.generation);
  for (auto block = blocks_.begin(); block != blocks_.end();) {
    const std::uint64_t offset = block->first;
    const bool is_free = block->second.last_generation < limit;
    ++block;
    if (is_free) forget(offset);
  }
}

void Publisher::beat(std::uint64_t now_ns) { shm::store_relaxed(header().heartbeat_ns, now_ns); }

Result<std::uint64_t> Publisher::write_image(const ImageContents& contents, Draft& draft) {
  std::vector<mr_target_group> groups(contents.groups.size());
  for (std::size_t slot = 0; slot < groups.size(); ++slot) {
    Result<std::uint64_t> written = write_group(contents.groups[slot], draft, groups[slot]);
    if (!written) return written.error();
  }
  tables_.update(contents);
  const std::vector<mr_table_entry>& listener_entries = tables_.listeners();
  const std::vector<mr_table_entry>& reverse_entries = tables_.reverse();
  std::vector<mr_addr> local_addrs = contents.local_addrs;
  local_addrs.resize(std::min<std::size_t>(local_addrs.size(), MR_LOCAL_ADDRS_MAX));

  const std::vector<Result<std::uint64_t>> offsets = {
      place_array(listener_entries, draft), place_array(contents.listeners, draft),
      place_array(groups, draft),           place_array(contents.targets, draft),
      place_array(reverse_entries, draft),  place_array(local_addrs, draft)};
  for (const Result<std::uint64_t>& offset : offsets) {
    if (!offset) return offset.error();
  }
  mr_image image{};
  image.magic = MR_IMAGE_MAGIC;
  image.generation = draft.generation;
  image.listener_table_offset = *offsets[0];
  image.listeners_offset = *offsets[1];
  image.groups_offset = *offsets[2];
  image.targets_offset = *offsets[3];
  image.reverse_table_offset = *offsets[4];
  image.local_addrs_offset = *offsets[5];
  image.listener_table_mask = static_cast<std::uint32_t>(listener_entries.size()) - 1;
  image.listener_slots = static_cast<std::uint32_t>(contents.listeners.size());
  image.group_slots = static_cast<std::uint32_t>(groups.size());
  image.target_slots = static_cast<std::uint32_t>(contents.targets.size());
  image.reverse_table_mask = static_cast<std::uint32_t>(reverse_entries.size()) - 1;
  image.local_addr_count = static_cast<std::uint32_t>(local_addrs.size());
  image.default_next_hop_v4 = contents.default_next_hop_v4;
  image.default_next_hop_v6 = contents.default_next_hop_v6;
  image.selection_key = contents.selection_key;
  image.encap_source_v4 = contents.encap_source_v4;
  image.encap_source_v6 = contents.encap_source_v6;

  core::ConfigView view;
  view.image = &image;
  view.listener_table = listener_entries;
  view.listeners = contents.listeners;
  view.groups = groups;
  view.targets = contents.targets;
  view.reverse_table = reverse_entries;
  view.local_addrs = local_addrs;
  image.checksum = core::image_checksum(view);
  const auto bytes = std::as_bytes(std::span(&image, 1));
  return place(bytes, core::checksum64(bytes), draft);
}

Result<std::uint64_t> Publisher::write_group(const GroupContents& group, Draft& draft,
                                             mr_target_group& out) {
  if (group.id == 0) return std::uint64_t{0};
  Result<std::uint64_t> members = place_array(group.members, draft);
  if (!members) return members;
  out.id = group.id;
  out.member_count = static_cast<std::uint32_t>(group.members.size());
  out.members_offset = *members;
  out.forwarding = group.forwarding;
  out.flags = group.flags;
  if (group.table == nullptr) return members;
  Result<std::uint64_t> table =
      place(bytes_of(group.table->slots), group.table->checksum, draft, group.table);
  if (!table) return table;
  out.table_offset = *table;
  out.table_slots = static_cast<std::uint32_t>(group.table->slots.size());
  out.table_digest = group.table->digest;
  out.table_checksum = group.table->checksum;
  return table;
}

template <typename T>
Result<std::uint64_t> Publisher::place_array(const std::vector<T>& values, Draft& draft) {
  return place(bytes_of(values), core::checksum64(bytes_of(values)), draft);
}

// The offset of a block with these bytes: an earlier generation's, or a new one.
Result<std::uint64_t> Publisher::place(std::span<const std::byte> bytes, std::uint64_t checksum,
                                       Draft& draft, std::shared_ptr<const LookupTable> table) {
  if (const std::uint64_t* found = find_block(bytes, checksum, table.get())) {
    if (table != nullptr) blocks_[*found].table = std::move(table);
    draft.used.push_back(*found);
    return *found;
  }
  step("block");
  const std::optional<std::uint64_t> offset = arena_.allocate(bytes.size());
  if (!offset) return arena_full(bytes.size());
  remember(*offset, Block{.bytes = bytes.size(),
                          .checksum = checksum,
                          .last_generation = draft.generation,
                          .is_content_known = true,
                          .table = std::move(table)});
  draft.used.push_back(*offset);
  draft.made.push_back(*offset);
  // Real memory first: the segment is sparse, and a full tmpfs would answer a store with SIGBUS.
  const std::uint64_t reserved_bytes = std::max<std::uint64_t>(bytes.size(), 1);
  if (Status reserved = segment_.file().reserve(*offset, reserved_bytes); !reserved) {
    return reserved.error().within(options_.path);
  }
  if (!bytes.empty()) {
    std::memcpy(segment_.bytes().data() + *offset, bytes.data(), bytes.size());
  }
  return *offset;
}

const std::uint64_t* Publisher::find_block(std::span<const std::byte> bytes, std::uint64_t checksum,
                                           const LookupTable* table) const {
  const auto [first, last] = by_checksum_.equal_range(checksum);
  for (auto candidate = first; candidate != last; ++candidate) {
    const Block& block = blocks_.at(candidate->second);
    if (block.bytes != bytes.size()) continue;
    if (table != nullptr && block.table.get() == table) return &candidate->second;
    const std::byte* there = segment_.bytes().data() + candidate->second;
    if (bytes.empty() || std::memcmp(there, bytes.data(), bytes.size()) == 0) {
      return &candidate->second;
    }
  }
  return nullptr;
}

void Publisher::remember(std::uint64_t offset, Block block) {
  if (block.is_content_known) by_checksum_.emplace(block.checksum, offset);
  blocks_.emplace(offset, std::move(block));
}

void Publisher::forget(std::uint64_t offset) {
  const auto block = blocks_.find(offset);
  const auto [first, last] = by_checksum_.equal_range(block->second.checksum);
  for (auto entry = first; entry != last; ++entry) {
    if (entry->second != offset) continue;
    by_checksum_.erase(entry);
    break;
  }
  arena_.release(offset, block->second.bytes);
  blocks_.erase(block);
}

Error Publisher::arena_full(std::uint64_t bytes) const {
  const bool is_waiting = oldest_read_ < published_.generation;
  return Error{options_.path + ": no room for a block of " + std::to_string(bytes) + " bytes (" +
               std::to_string(arena_.used_bytes()) + " of " + std::to_string(arena_.total_bytes()) +
               " in use" +
               (is_waiting ? ", kept until every worker has acknowledged generation " +
                                 std::to_string(published_.generation)
                           : std::string(", all for the current generation: raise "
                                         "--config-bytes")) +
               ")"};
}

}  // namespace millrace::control
