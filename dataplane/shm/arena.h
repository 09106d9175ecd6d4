// SPDX-License-Identifier: Apache-2.0
//
// Which bytes of a memory are taken: private bookkeeping of the one who writes it. Cold. The
// control plane's publisher keeps the config segment by it, the XDP daemon its mirror of that.
//
// Offsets only; it never touches the memory. Best fit, the first of those that fit equally well:
// what a lookup table left is for the next one, and the arrays of an image find their own place
// again, so that memory which nobody has touched yet, and whose pages the kernel must find first,
// is taken last. Looks through an ordered map of free ranges, which stays small because most blocks
// are lookup tables of one size.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

namespace millrace::shm {

struct ArenaRange {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

class Arena {
 public:
  // Manages [start, end); both multiples of the cache line.
  Arena(std::uint64_t start, std::uint64_t end);

  // Offset of a free range of at least `bytes` bytes (rounded up to whole cache lines, so that no
  // two blocks share one), or nullopt.
  [[nodiscard]] std::optional<std::uint64_t> allocate(std::uint64_t bytes);

  // Takes exactly this range, as found in an earlier image. False when it is not free.
  [[nodiscard]] bool occupy(std::uint64_t offset, std::uint64_t bytes);

  // Gives back what allocate() or occupy() took at `offset` with the same `bytes`.
  void release(std::uint64_t offset, std::uint64_t bytes);

  [[nodiscard]] std::vector<ArenaRange> free_ranges() const;
  [[nodiscard]] std::uint64_t total_bytes() const { return end_ - start_; }
  [[nodiscard]] std::uint64_t used_bytes() const { return used_bytes_; }

 private:
  void check_books() const;
  using FreeMap = std::map<std::uint64_t, std::uint64_t>;  // offset -> bytes, never adjacent
  void take(FreeMap::iterator range, std::uint64_t offset, std::uint64_t bytes);

  std::uint64_t start_;
  std::uint64_t end_;
  std::uint64_t used_bytes_ = 0;
  FreeMap free_;
};

}  // namespace millrace::shm
