// SPDX-License-Identifier: Apache-2.0
//
// Writes the images of one config segment: lays them out, puts them in force, reuses memory when
// nobody can read it any more. Cold.
//
//   prepare(): place blocks -> image -> root      may fail, and then leaves no trace
//   commit():  generation (store release) -> a new file is renamed into place
//
// Until commit() a reader sees the generation before, whole; after it the new one, whole: the
// process may die between any two steps (tests/unit/publish, fault_32). Blocks are immutable once
// placed; what did not change is shared with earlier generations. A restarted control plane joins
// the segment, keeps the current image, and treats all else as possibly still read until every
// worker has acknowledged the current generation.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "controlplane/publish/image_contents.h"
#include "controlplane/publish/tables.h"
#include "dataplane/core/config_view.h"
#include "dataplane/core/result.h"
#include "dataplane/shm/arena.h"
#include "dataplane/shm/segment.h"

namespace millrace::control {

class ImageWriter {
 public:
  struct Options {
    std::string path;                 // of the config segment
    std::uint64_t segment_bytes = 0;  // of a new segment
    // A new segment goes on after this one, so that no acknowledgement of an older segment's
    // generation can be taken for one of its own.
    std::uint64_t generation_floor = 0;
    // For tests: called before each store that a reader could notice, and between blocks.
    std::function<void(const char* step)> step_hook = {};
  };

  // Joins the segment at options.path, if it and its newest image pass their checks.
  [[nodiscard]] static Result<std::unique_ptr<ImageWriter>> join(const Options& options);
  // Makes a new segment and puts it in place, empty.
  [[nodiscard]] static Result<std::unique_ptr<ImageWriter>> create(const Options& options);
  // Makes a new segment, which takes the path of the one in use with its first commit().
  [[nodiscard]] static Result<std::unique_ptr<ImageWriter>> create_aside(const Options& options);
  ~ImageWriter();
  ImageWriter(const ImageWriter&) = delete;
  ImageWriter& operator=(const ImageWriter&) = delete;

  // Writes `contents` as the next generation, which commit() puts in force; drops what was prepared
  // before. On failure nothing changed for anybody: the segment is full, either for good or until
  // workers acknowledge newer generations, or the machine has no memory left.
  [[nodiscard]] Status prepare(const ImageContents& contents);
  // Returns the generation that is in force now. Only after prepare(). Fails only when a segment
  // that was made aside cannot take its path.
  [[nodiscard]] Result<std::uint64_t> commit();
  // Gives the memory of what was prepared back.
  void abandon();

  // Memory that an image takes at most, in bytes of the arena.
  [[nodiscard]] static std::uint64_t bytes_of_image(const ImageContents& contents);
  // The last prepare() failed because no free range of the arena was large enough.
  [[nodiscard]] bool is_out_of_room() const { return is_out_of_room_; }
  // True while blocks are kept only because a worker may still read them.
  [[nodiscard]] bool is_waiting() const { return oldest_read_ < published_.generation; }

  // Generations below `oldest_read` are read by no worker any more. Pass generation() when no
  // engine is running (os::ProcessLock::is_held): one that starts later begins with the newest.
  void reclaim(std::uint64_t oldest_read);

  // CLOCK_MONOTONIC now: the control plane's sign of life.
  void beat(std::uint64_t now_ns);

  [[nodiscard]] std::uint64_t generation() const { return published_.generation; }
  // The newest image; generation 0 and no image before the first commit().
  [[nodiscard]] const core::ConfigView& published() const { return published_; }
  // As put in force last, by this process or the one before it; 0 in a new segment.
  [[nodiscard]] std::uint32_t id_floor() const { return header().id_floor; }
  // The newest generation that this segment has or had; the next one is one more.
  [[nodiscard]] std::uint64_t last_generation() const { return last_generation_; }
  // True when somebody put another file in place of ours, or cut it short.
  [[nodiscard]] bool is_lost() const {
    return is_in_place_ && (segment_.is_replaced() || segment_.is_truncated());
  }
  [[nodiscard]] std::uint64_t arena_bytes() const { return arena_.total_bytes(); }
  [[nodiscard]] std::uint64_t arena_used_bytes() const { return arena_.used_bytes(); }
  [[nodiscard]] std::span<const std::byte> segment_bytes() const { return segment_.bytes(); }

 private:
  struct Block {
    std::uint64_t bytes = 0;
    std::uint64_t checksum = 0;
    std::uint32_t uses = 0;                    // in the newest image
    std::uint64_t last_generation = 0;         // newest one that used it, when none does now
    bool is_content_known = false;             // may be shared by equal content
    std::shared_ptr<const LookupTable> table;  // whose bytes these are, if a table's
  };
  // What no image uses any more, but workers may still read.
  struct Retired {
    std::uint64_t last_generation;
    std::uint64_t offset;
  };
  // What prepare() made, and how it differs from the image in force.
  struct Draft {
    // Offsets, once for each use. What stands in both is in use as before.
    std::vector<std::uint64_t> begun;
    std::vector<std::uint64_t> ended;
    std::vector<std::uint64_t> made;  // of the blocks that are new: given back on failure
    std::vector<std::pair<std::size_t, GroupContents>> groups;  // not as before, by slot
    std::size_t group_count = 0;
    std::uint32_t id_floor = 0;
    std::uint64_t tables = 0;  // TableMaker::version()
    core::ConfigView view;
  };

  ImageWriter(Options options, shm::Segment segment, std::uint64_t generation);
  [[nodiscard]] Status adopt_blocks();
  [[nodiscard]] Status adopt_block(std::span<const std::byte> bytes);

  [[nodiscard]] mr_config_header& header() const { return *segment_.header<mr_config_header>(); }
  void step(const char* name) const {
    if (options_.step_hook) options_.step_hook(name);
  }
  [[nodiscard]] Result<std::uint64_t> write_image(const ImageContents& contents, Draft& draft);
  [[nodiscard]] Status write_groups(const ImageContents& contents, Draft& draft,
                                    std::vector<mr_target_group>& out);
  [[nodiscard]] Status write_group(const GroupContents& group, Draft& draft, mr_target_group& out);
  [[nodiscard]] Result<std::uint64_t> share(std::span<const std::byte> bytes,
                                            std::uint64_t checksum, Draft& draft,
                                            std::shared_ptr<const LookupTable> table = nullptr);
  template <typename T>
  [[nodiscard]] Result<std::uint64_t> place_array(std::span<const T> values,
                                                  std::span<const T> before, Draft& draft);
  [[nodiscard]] Result<std::uint64_t> place(std::span<const std::byte> bytes, Block block,
                                            Draft& draft);
  [[nodiscard]] const std::uint64_t* find_block(std::span<const std::byte> bytes,
                                                std::uint64_t checksum,
                                                const LookupTable* table) const;
  void take_over(Draft draft);
  void retire(std::uint64_t offset, std::uint64_t last_generation);
  void remember(std::uint64_t offset, Block block);
  void forget(std::uint64_t offset);
  void check_books() const;
  [[nodiscard]] Error overlap_at(std::uint64_t offset) const;
  [[nodiscard]] Error arena_full(std::uint64_t bytes) const;

  Options options_;
  shm::Segment segment_;
  shm::Arena arena_;
  std::unordered_map<std::uint64_t, Block> blocks_;                    // by offset
  std::unordered_multimap<std::uint64_t, std::uint64_t> by_checksum_;  // -> offset
  std::deque<Retired> retired_;                                        // oldest first
  TableMaker tables_;
  core::ConfigView published_;
  // What `published_` was made of: nothing when it was adopted.
  std::uint64_t published_tables_ = 0;  // TableMaker::version()
  std::vector<GroupContents> published_groups_;
  std::uint64_t last_generation_ = 0;
  std::uint64_t oldest_read_ = 0;
  bool is_in_place_ = false;  // else nobody has seen this segment yet
  bool is_out_of_room_ = false;
  std::optional<Draft> draft_;
};

}  // namespace millrace::control
