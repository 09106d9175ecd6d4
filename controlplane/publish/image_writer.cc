// SPDX-License-Identifier: Apache-2.0
#include "controlplane/publish/image_writer.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <set>
#include <tuple>
#include <utility>

#include "dataplane/core/checksum64.h"
#include "dataplane/core/image_arrays.h"
#include "dataplane/core/invariant.h"
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

bool are_same(std::span<const std::byte> a, std::span<const std::byte> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size()) == 0);
}

}  // namespace

ImageWriter::ImageWriter(Options options, shm::Segment segment, std::uint64_t generation)
    : options_(std::move(options)),
      segment_(std::move(segment)),
      arena_(kArenaStart, arena_end(segment_.bytes().size())),
      last_generation_(generation) {
  segment_.survive_cuts();
}

Result<std::unique_ptr<ImageWriter>> ImageWriter::create(const Options& options) {
  Result<std::unique_ptr<ImageWriter>> writer = create_aside(options);
  if (!writer) return writer;
  if (Status placed = (*writer)->segment_.publish(); !placed) return placed.error();
  (*writer)->is_in_place_ = true;
  return writer;
}

Result<std::unique_ptr<ImageWriter>> ImageWriter::create_aside(const Options& options) {
  if (options.segment_bytes < 2 * kArenaStart) {
    return Error{options.path + ": a config segment of " + std::to_string(options.segment_bytes) +
                 " bytes is too small"};
  }
  Result<shm::Segment> segment =
      shm::Segment::create(options.path, shm::kConfigSpec, options.segment_bytes, kArenaStart);
  if (!segment) return segment.error();
  return std::unique_ptr<ImageWriter>(
      new ImageWriter(options, std::move(*segment), options.generation_floor));
}

ImageWriter::~ImageWriter() {
  if (!is_in_place_) shm::Segment::discard(options_.path);
}

Result<std::unique_ptr<ImageWriter>> ImageWriter::join(const Options& options) {
  Result<shm::Segment> segment =
      shm::Segment::join(options.path, shm::kConfigSpec, os::Access::read_write);
  if (!segment) return segment.error();
  if (const Status own = segment->check_trust(); !own) return own.error();
  const std::uint64_t generation =
      shm::load_acquire(segment->header<mr_config_header>()->generation);
  std::unique_ptr<ImageWriter> writer(new ImageWriter(options, std::move(*segment), generation));
  writer->is_in_place_ = true;
  if (generation == 0) {  // its creator died before the first image
    writer->last_generation_ = options.generation_floor;
    return writer;
  }
  Result<core::ConfigView> view = core::check_image(writer->segment_.bytes(), generation, nullptr);
  if (!view) return view.error().within(options.path);
  writer->published_ = *view;
  if (Status adopted = writer->adopt_blocks(); !adopted) return adopted.error();
  return writer;
}

// Takes the current image's blocks over, and everything else as blocks of the generation before it:
// unknown, and readable until all workers have acknowledged the current one.
Status ImageWriter::adopt_blocks() {
  std::set<std::uint64_t> seen;
  auto adopt = [&](auto array) -> Status {
    const auto bytes = std::as_bytes(array);
    const auto offset = static_cast<std::uint64_t>(bytes.data() - published_.segment);
    if (seen.insert(offset).second) return adopt_block(bytes);
    const auto shared = blocks_.find(offset);  // within the image
    if (shared == blocks_.end()) return overlap_at(offset);
    ++shared->second.uses;
    return ok();
  };
  std::vector<Status> results = {adopt(std::span(published_.image, 1))};
  (void)core::for_each_array([&](const auto& row) {
    results.push_back(adopt(published_.*row.view));
    return true;
  });
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
                                 .uses = 0,
                                 .last_generation = 0,
                                 .is_content_known = false,
                                 .table = nullptr});
    retire(range.offset, published_.generation - 1);
  }
  return ok();
}

Error ImageWriter::overlap_at(std::uint64_t offset) const {
  return Error{options_.path + ": blocks of image " + std::to_string(published_.generation) +
               " overlap at offset " + std::to_string(offset)};
}

Status ImageWriter::adopt_block(std::span<const std::byte> bytes) {
  const auto offset = static_cast<std::uint64_t>(bytes.data() - published_.segment);
  if (!arena_.occupy(offset, bytes.size())) {
    return overlap_at(offset);
  }
  remember(offset, Block{.bytes = bytes.size(),
                         .checksum = core::checksum64(bytes),
                         .uses = 1,
                         .last_generation = 0,
                         .is_content_known = true,
                         .table = nullptr});
  return ok();
}

Status ImageWriter::prepare(const ImageContents& contents) {
  abandon();
  is_out_of_room_ = false;
  const std::uint64_t generation = last_generation_ + 1;
  Draft& draft = draft_.emplace(Draft{});
  draft.id_floor = contents.id_floor;
  draft.group_count = contents.groups.size();
  const Result<std::uint64_t> image = write_image(contents, draft);
  if (!image) {
    abandon();
    return image.error();
  }
  step("root");
  mr_root& root = header().roots[generation % MR_ROOT_COUNT];
  root.image_offset = *image;
  root.generation = generation;
  // What an engine would refuse must not replace what it has.
  Result<core::ConfigView> view = core::check_image(
      segment_.bytes(), generation, published_.image == nullptr ? nullptr : &published_,
      core::ImageChecksum::just_made);
  if (!view) {
    abandon();
    return view.error().within("refused to publish");
  }
  draft.view = *view;
  return ok();
}

void ImageWriter::abandon() {
  if (!draft_) return;
  for (const std::uint64_t offset : draft_->made) forget(offset);
  draft_.reset();
}

Result<std::uint64_t> ImageWriter::commit() {
  const std::uint64_t generation = last_generation_ + 1;
  // First: an id that shows must be below it, wherever this process ends.
  header().id_floor = std::max(header().id_floor, draft_->id_floor);
  step("generation");
  // Pairs with the acquire in shm::ConfigReader::poll.
  shm::store_release(header().generation, generation);
  if (!is_in_place_) {
    if (Status placed = segment_.publish(); !placed) {
      abandon();
      return placed.error();
    }
    is_in_place_ = true;
  }
  take_over(*std::exchange(draft_, std::nullopt));
  last_generation_ = generation;
  reclaim(oldest_read_);
  check_books();
  step("published");
  return generation;
}

std::uint64_t ImageWriter::bytes_of_image(const ImageContents& contents) {
  // Twice as many entries as there are keys, and up to twice that as a power of two.
  constexpr std::uint64_t kTableBytesPerKey = 4 * sizeof(mr_table_entry);
  std::uint64_t bytes =
      sizeof(mr_image) + contents.vips.size() * kTableBytesPerKey +
      contents.listeners.size() *
          (sizeof(mr_listener) + 2 * kTableBytesPerKey + 2 * sizeof(mr_port_range)) +
      contents.targets.size() * (sizeof(mr_target) + kTableBytesPerKey) +
      contents.groups.size() * sizeof(mr_target_group) +
      contents.local_addrs.size() * sizeof(mr_addr) +
      contents.local_macs.size() * sizeof(mr_local_mac) + contents.vlans.size() * sizeof(mr_vlan) +
      core::vlan_slots_of(contents.vlans).size() +
      // Each array begins at a cache line.
      std::tuple_size_v<decltype(core::kImageArrays)> * MR_CACHE_LINE_BYTES;
  for (const GroupContents& group : contents.groups) {
    if (group.id == 0) continue;
    bytes += bytes_of(group.members).size() + MR_CACHE_LINE_BYTES;
    if (group.table != nullptr) bytes += bytes_of(group.table->slots).size() + MR_CACHE_LINE_BYTES;
  }
  for (const mr_target& target : contents.targets) {  // of both protocols: a second key
    if (target.protocol == MR_PROTOCOL_TCP_UDP) bytes += kTableBytesPerKey;
  }
  return bytes;
}

// Enters in the books what the draft, now the newest image, uses and no longer uses.
void ImageWriter::take_over(Draft draft) {
  for (const std::uint64_t offset : draft.begun) ++blocks_.at(offset).uses;
  for (const std::uint64_t offset : draft.ended) {
    Block& block = blocks_.at(offset);
    assert(block.uses > 0);
    if (--block.uses == 0) retire(offset, published_.generation);
  }
  published_tables_ = draft.tables;
  published_groups_.resize(draft.group_count);
  for (auto& [slot, group] : draft.groups) published_groups_[slot] = std::move(group);
  published_ = draft.view;
}

void ImageWriter::retire(std::uint64_t offset, std::uint64_t last_generation) {
  blocks_.at(offset).last_generation = last_generation;
  retired_.push_back({.last_generation = last_generation, .offset = offset});
}

void ImageWriter::reclaim(std::uint64_t oldest_read) {
  oldest_read_ = std::max(oldest_read_, oldest_read);
  const std::uint64_t limit = std::min(oldest_read_, published_.generation);
  for (; !retired_.empty() && retired_.front().last_generation < limit; retired_.pop_front()) {
    const Retired& retired = retired_.front();
    const auto found = blocks_.find(retired.offset);
    // Else it came into use again, and may have been retired again since.
    const bool is_current = found != blocks_.end() && found->second.uses == 0 &&
                            found->second.last_generation == retired.last_generation;
    if (is_current) forget(retired.offset);
  }
}

void ImageWriter::beat(std::uint64_t now_ns) { shm::store_relaxed(header().heartbeat_ns, now_ns); }

Result<std::uint64_t> ImageWriter::write_image(const ImageContents& contents, Draft& draft) {
  std::vector<mr_target_group> groups(contents.groups.size());
  if (Status written = write_groups(contents, draft, groups); !written) return written.error();
  tables_.update(contents);
  draft.tables = tables_.version();
  const bool are_tables_same = published_tables_ == tables_.version();
  std::vector<mr_addr> local_addrs = contents.local_addrs;
  local_addrs.resize(std::min<std::size_t>(local_addrs.size(), MR_LOCAL_ADDRS_MAX));
  std::vector<mr_local_mac> local_macs = contents.local_macs;
  local_macs.resize(std::min<std::size_t>(local_macs.size(), MR_LOCAL_MACS_MAX));
  const std::vector<std::uint8_t> vlan_slots = core::vlan_slots_of(contents.vlans);

  core::ConfigView view;  // of what is to be, wherever it lies
  view.listener_table = are_tables_same ? published_.listener_table : tables_.listeners().table;
  view.port_ranges = are_tables_same ? published_.port_ranges : tables_.listeners().ranges;
  view.listeners = contents.listeners;
  view.groups = groups;
  view.targets = contents.targets;
  view.reverse_table = are_tables_same ? published_.reverse_table : tables_.reverse();
  view.local_addrs = local_addrs;
  view.local_macs = local_macs;
  view.vlans = contents.vlans;
  view.vlan_slots = vlan_slots;
  const core::ConfigView& before = published_;
  mr_image image{};
  image.magic = MR_IMAGE_MAGIC;
  image.generation = last_generation_ + 1;
  Status placed = ok();
  (void)core::for_each_array([&](const auto& row) {
    const auto array = view.*row.view;
    const Result<std::uint64_t> offset = place_array(array, before.*row.view, draft);
    if (offset) {
      row.set(image, *offset, array.size());
    } else {
      placed = offset.error();
    }
    return bool{placed};
  });
  if (!placed) return placed.error();
  image.default_next_hop_v4 = contents.default_next_hop_v4;
  image.default_next_hop_v6 = contents.default_next_hop_v6;
  image.selection_key = contents.selection_key;
  image.encap_source_v4 = contents.encap_source_v4;
  image.encap_source_v6 = contents.encap_source_v6;
  std::ranges::copy(contents.nic_addrs, image.nic_addrs);
  image.any_port_targets = static_cast<std::uint32_t>(
      std::ranges::count(contents.targets, std::uint8_t{MR_VARIANT_ANY_PORT}, &mr_target::variant));
  view.image = &image;
  image.checksum = core::image_checksum(view);
  return place_array(std::span<const mr_image>(&image, 1),
                     std::span<const mr_image>(before.image, before.image == nullptr ? 0 : 1),
                     draft);
}

// Rows of groups that are as they were published are taken as they are.
Status ImageWriter::write_groups(const ImageContents& contents, Draft& draft,
                                 std::vector<mr_target_group>& out) {
  for (std::size_t slot = 0; slot < std::max(out.size(), published_.groups.size()); ++slot) {
    const bool is_kept = slot < out.size() && slot < published_groups_.size() &&
                         published_groups_[slot] == contents.groups[slot];
    if (is_kept) {
      out[slot] = published_.groups[slot];
      continue;
    }
    if (slot < published_.groups.size() && published_.groups[slot].id != 0) {
      const mr_target_group& ended = published_.groups[slot];
      draft.ended.push_back(ended.members_offset);
      if (ended.table_offset != 0) draft.ended.push_back(ended.table_offset);
    }
    if (slot >= out.size()) continue;
    draft.groups.emplace_back(slot, contents.groups[slot]);
    if (contents.groups[slot].id == 0) continue;
    if (Status written = write_group(contents.groups[slot], draft, out[slot]); !written) {
      return written;
    }
  }
  return ok();
}

Status ImageWriter::write_group(const GroupContents& group, Draft& draft, mr_target_group& out) {
  const auto members_bytes = bytes_of(group.members);
  const Result<std::uint64_t> members =
      share(members_bytes, core::checksum64(members_bytes), draft);
  if (!members) return members.error();
  out.id = group.id;
  out.member_count = static_cast<std::uint32_t>(group.members.size());
  out.members_offset = *members;
  out.forwarding = group.forwarding;
  out.flags = group.flags;
  out.identity = group.identity;
  if (group.table == nullptr) return ok();
  const Result<std::uint64_t> table =
      share(bytes_of(group.table->slots), group.table->checksum, draft, group.table);
  if (!table) return table.error();
  out.table_offset = *table;
  out.table_slots = static_cast<std::uint32_t>(group.table->slots.size());
  out.table_digest = group.table->digest;
  out.table_checksum = group.table->checksum;
  return ok();
}

// The offset of a block with these bytes: an earlier generation's, or a new one.
Result<std::uint64_t> ImageWriter::share(std::span<const std::byte> bytes, std::uint64_t checksum,
                                         Draft& draft, std::shared_ptr<const LookupTable> table) {
  if (const std::uint64_t* found = find_block(bytes, checksum, table.get())) {
    if (table != nullptr) blocks_.at(*found).table = std::move(table);
    draft.begun.push_back(*found);
    return *found;
  }
  return place(bytes,
               Block{.bytes = bytes.size(),
                     .checksum = checksum,
                     .uses = 0,
                     .last_generation = 0,
                     .is_content_known = true,
                     .table = std::move(table)},
               draft);
}

// An array of the image itself: the offset of the one before, when it says the same, or of a new
// block. Nobody looks for these in earlier generations, which saves their checksums.
template <typename T>
Result<std::uint64_t> ImageWriter::place_array(std::span<const T> values, std::span<const T> before,
                                               Draft& draft) {
  if (published_.image != nullptr) {
    const auto offset =
        static_cast<std::uint64_t>(std::as_bytes(before).data() - published_.segment);
    const bool is_same =
        values.data() == before.data() || are_same(std::as_bytes(values), std::as_bytes(before));
    draft.ended.push_back(offset);
    if (is_same) {
      draft.begun.push_back(offset);
      return offset;
    }
  }
  return place(std::as_bytes(values),
               Block{.bytes = values.size_bytes(),
                     .checksum = 0,
                     .uses = 0,
                     .last_generation = 0,
                     .is_content_known = false,
                     .table = nullptr},
               draft);
}

Result<std::uint64_t> ImageWriter::place(std::span<const std::byte> bytes, Block block,
                                         Draft& draft) {
  step("block");
  const std::optional<std::uint64_t> offset = arena_.allocate(bytes.size());
  if (!offset) {
    is_out_of_room_ = true;
    return arena_full(bytes.size());
  }
  remember(*offset, std::move(block));
  draft.begun.push_back(*offset);
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

const std::uint64_t* ImageWriter::find_block(std::span<const std::byte> bytes,
                                             std::uint64_t checksum,
                                             const LookupTable* table) const {
  const auto [first, last] = by_checksum_.equal_range(checksum);
  for (auto candidate = first; candidate != last; ++candidate) {
    const Block& block = blocks_.at(candidate->second);
    if (block.bytes != bytes.size()) continue;
    if (table != nullptr && block.table.get() == table) return &candidate->second;
    if (are_same(segment_.bytes().subspan(candidate->second, block.bytes), bytes)) {
      return &candidate->second;
    }
  }
  return nullptr;
}

void ImageWriter::remember(std::uint64_t offset, Block block) {
  if (block.is_content_known) by_checksum_.emplace(block.checksum, offset);
  blocks_.emplace(offset, std::move(block));
}

void ImageWriter::forget(std::uint64_t offset) {
  const auto block = blocks_.find(offset);
  assert(block != blocks_.end() && block->second.uses == 0);
  const auto [first, last] = by_checksum_.equal_range(block->second.checksum);
  for (auto entry = first; entry != last; ++entry) {
    if (entry->second != offset) continue;
    by_checksum_.erase(entry);
    break;
  }
  arena_.release(offset, block->second.bytes);
  blocks_.erase(block);
}

// Of no draft: the arena has the blocks and nothing else, the image in force uses what it names,
// and what nobody uses waits to be given back.
void ImageWriter::check_books() const {
  if (!kChecksInvariants) return;
  assert(!draft_);
  std::uint64_t uses = 0;
  std::uint64_t block_bytes = 0;
  for (const auto& [offset, block] : blocks_) {
    uses += block.uses;
    block_bytes += block.bytes;
    const auto is_of_block = [&, at = offset](const Retired& retired) {
      return retired.offset == at && retired.last_generation == blocks_.at(at).last_generation;
    };
    assert(block.uses > 0 || std::ranges::any_of(retired_, is_of_block));
  }
  assert(block_bytes <= arena_.used_bytes());
  if (published_.image == nullptr) return;
  std::uint64_t named = 1;  // the image itself
  (void)core::for_each_array([&](const auto&) { return ++named > 0; });
  for (const mr_target_group& group : published_.groups) {
    if (group.id != 0) named += group.table_offset != 0 ? 2 : 1;
  }
  assert(uses == named);
}

Error ImageWriter::arena_full(std::uint64_t bytes) const {
  return Error{options_.path + ": no room for a block of " + std::to_string(bytes) + " bytes (" +
               std::to_string(arena_.used_bytes()) + " of " + std::to_string(arena_.total_bytes()) +
               " in use" +
               (is_waiting() ? ", kept until every worker has acknowledged generation " +
                                   std::to_string(published_.generation)
                             : std::string(", all for the current generation")) +
               ")"};
}

}  // namespace millrace::control
