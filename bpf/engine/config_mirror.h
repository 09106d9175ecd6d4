// SPDX-License-Identifier: Apache-2.0
//
// Copies each config image into the memory that the program reads, and switches it over. Cold; the
// daemon's thread.
//
//   blocks of the image -> free lines of config_lines -> the root that is not in force
//     -> control.active --every program that used the other root has ended--> its blocks are free
//
// Blocks that the image in force names are never written, whichever segment or daemon they came
// from: what control plane and daemon do in their lives is no moment for a packet. The control
// plane's own memory is not read any more once adopt() returned.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "bpf/engine/maps.h"
#include "dataplane/core/config_view.h"
#include "dataplane/core/result.h"
#include "dataplane/shm/arena.h"

namespace millrace::xdp {

class ConfigMirror {
 public:
  // Takes what the root in force names as in use: an earlier daemon's. Fails when that cannot be.
  [[nodiscard]] static Result<ConfigMirror> open(const Maps& maps);

  // Makes `view` the config in force. On failure nothing changed: there is no room, or programs
  // cannot be waited for.
  [[nodiscard]] Status adopt(const core::ConfigView& view);
  // What the last adopt() had no room for, in bytes: with so many more it has. 0: room was enough.
  [[nodiscard]] std::uint64_t missing_bytes() const { return missing_bytes_; }

  [[nodiscard]] std::uint64_t generation() const;

 private:
  // A block in config_lines. Members and lookup tables that did not change are shared between
  // images: found by checksum and length, believed when their bytes are the same.
  struct Block {
    std::uint64_t offset;
    std::uint64_t bytes;
  };
  using BlockKey = std::pair<std::uint64_t, std::uint64_t>;  // checksum, bytes
  struct Blocks {
    std::vector<Block> own;
    std::map<BlockKey, std::uint64_t> shared;  // -> offset
  };

  explicit ConfigMirror(const Maps& maps);
  [[nodiscard]] Status occupy_active();
  [[nodiscard]] Status release_replaced();
  [[nodiscard]] bool write(const core::ConfigView& view, Blocks& blocks, mr_xdp_root& root);
  [[nodiscard]] bool write_groups(const core::ConfigView& view, Blocks& blocks,
                                  std::vector<mr_target_group>& groups);
  // These three: nothing when there is no room.
  [[nodiscard]] std::optional<std::uint64_t> share(std::span<const std::byte> bytes,
                                                   std::uint64_t checksum, Blocks& blocks);
  template <typename T>
  [[nodiscard]] std::optional<std::uint32_t> place(std::span<const T> array, Blocks& blocks);
  [[nodiscard]] std::optional<std::uint64_t> copy(std::span<const std::byte> bytes);
  [[nodiscard]] bool holds(std::uint64_t offset, std::span<const std::byte> bytes) const;
  void release(const Blocks& blocks, const Blocks& kept);
  [[nodiscard]] std::span<std::byte> memory() const {
    return std::as_writable_bytes(maps_.config_lines);
  }

  Maps maps_;
  shm::Arena arena_;
  Blocks in_force_;
  // Of the image before, while programs may still be reading it.
  std::optional<Blocks> replaced_;
  std::uint64_t missing_bytes_ = 0;
};

}  // namespace millrace::xdp
