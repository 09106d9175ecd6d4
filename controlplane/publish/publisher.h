// SPDX-License-Identifier: Apache-2.0
//
// The config segment's only writer, as the control plane knows it: puts images in force, in a
// segment that always has room for the next one. Cold.
//
// An image in force stays whole until every worker has left it, so the next one needs room beside
// it. The segment is at least three times as large as the image: for both, and for what is lost
// between blocks. When a config needs more, a larger segment takes the place of the one in use;
// when no room comes back because nobody tells what is read, one of the same size. Engines join it
// as they join any new one, and read the old one until then.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "controlplane/publish/image_contents.h"
#include "controlplane/publish/image_writer.h"
#include "dataplane/core/config_view.h"
#include "dataplane/core/result.h"

namespace millrace::control {

class Publisher {
 public:
  struct Options {
    std::string path;  // of the config segment
    // Size of a new segment, unless the config needs more. Memory is taken as it is used.
    std::uint64_t segment_bytes = 256ull << 20;
    // A new segment goes on after this one, so that no acknowledgement of an older segment's
    // generation can be taken for one of its own.
    std::uint64_t generation_floor = 0;
    // For tests: called before each store that a reader could notice, and between blocks.
    std::function<void(const char* step)> step_hook = {};
  };

  // Joins the segment at options.path if it and its newest image pass their checks; otherwise makes
  // a new one in its place. rejoin_error() says why an existing one was not kept.
  [[nodiscard]] static Result<std::unique_ptr<Publisher>> open(const Options& options);

  // Makes `contents` ready as the next generation, which commit() puts in force, and drops what was
  // prepared before. On failure nothing changed for anybody: the machine has no memory left, or
  // there is no room until workers acknowledge newer generations.
  [[nodiscard]] Status prepare(const ImageContents& contents);
  // Returns the generation that is in force now. Only after prepare(). Fails only when a new
  // segment cannot take its path.
  [[nodiscard]] Result<std::uint64_t> commit();
  // Gives the memory of what was prepared back.
  void abandon();
  // Both at once.
  [[nodiscard]] Result<std::uint64_t> publish(const ImageContents& contents);

  // Generations below `oldest_read` are read by no worker any more; nullopt: an engine runs, but
  // what it reads cannot be seen. Pass generation() when none is running
  // (os::ProcessLock::is_held): one that starts later begins with the newest. Not between
  // prepare() and commit().
  void reclaim(std::optional<std::uint64_t> oldest_read) {
    are_readers_seen_ = oldest_read.has_value();
    if (oldest_read) writer_->reclaim(*oldest_read);
  }

  // CLOCK_MONOTONIC now: the control plane's sign of life.
  void beat(std::uint64_t now_ns) { writer_->beat(now_ns); }

  [[nodiscard]] std::uint64_t generation() const { return writer_->generation(); }
  // The newest image; generation 0 and no image before the first commit().
  [[nodiscard]] const core::ConfigView& published() const { return writer_->published(); }
  // As put in force last, by this process or the one before it; 0 in a new segment.
  [[nodiscard]] std::uint32_t id_floor() const { return writer_->id_floor(); }
  [[nodiscard]] const std::string& rejoin_error() const { return rejoin_error_; }
  // True when somebody put another file in place of ours, or cut it short.
  [[nodiscard]] bool is_lost() const { return writer_->is_lost(); }
  [[nodiscard]] std::uint64_t arena_bytes() const { return writer_->arena_bytes(); }
  [[nodiscard]] std::uint64_t arena_used_bytes() const { return writer_->arena_used_bytes(); }
  [[nodiscard]] std::span<const std::byte> segment_bytes() const {
    return writer_->segment_bytes();
  }

 private:
  Publisher(Options options, std::unique_ptr<ImageWriter> writer)
      : options_(std::move(options)), writer_(std::move(writer)) {}
  [[nodiscard]] Status prepare_aside(const ImageContents& contents, std::uint64_t arena_bytes);

  Options options_;
  std::unique_ptr<ImageWriter> writer_;
  std::unique_ptr<ImageWriter> aside_;  // has what was prepared, when writer_ has no room for it
  bool are_readers_seen_ = true;
  std::string rejoin_error_;
};

}  // namespace millrace::control
