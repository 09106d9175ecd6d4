// SPDX-License-Identifier: Apache-2.0
#include "dataplane/shm/arena.h"

#include <cassert>
#include <iterator>

#include "dataplane/contract/shm_abi.h"
#include "dataplane/core/invariant.h"

namespace millrace::shm {

namespace {

std::uint64_t whole_lines(std::uint64_t bytes) {
  constexpr std::uint64_t kLine = MR_CACHE_LINE_BYTES;
  return bytes == 0 ? kLine : (bytes + kLine - 1) / kLine * kLine;
}

}  // namespace

Arena::Arena(std::uint64_t start, std::uint64_t end) : start_(start), end_(end) {
  assert(start % MR_CACHE_LINE_BYTES == 0 && end % MR_CACHE_LINE_BYTES == 0 && start <= end);
  if (start < end) free_.emplace(start, end - start);
}

std::optional<std::uint64_t> Arena::allocate(std::uint64_t bytes) {
  const std::uint64_t wanted = whole_lines(bytes);
  auto best = free_.end();
  for (auto range = free_.begin(); range != free_.end(); ++range) {
    const bool is_better =
        range->second >= wanted && (best == free_.end() || range->second < best->second);
    if (!is_better) continue;
    best = range;
    if (range->second == wanted) break;
  }
  if (best == free_.end()) return std::nullopt;
  const std::uint64_t offset = best->first;
  take(best, offset, wanted);
  return offset;
}

bool Arena::occupy(std::uint64_t offset, std::uint64_t bytes) {
  if (offset % MR_CACHE_LINE_BYTES != 0 || offset > end_ || bytes > end_ - offset) return false;
  auto range = free_.upper_bound(offset);
  if (range == free_.begin()) return false;
  --range;
  const std::uint64_t wanted = whole_lines(bytes);
  if (offset + wanted > range->first + range->second) return false;
  take(range, offset, wanted);
  return true;
}

void Arena::release(std::uint64_t offset, std::uint64_t bytes) {
  std::uint64_t freed = whole_lines(bytes);
  assert(offset >= start_ && offset + freed <= end_ && freed <= used_bytes_);
  used_bytes_ -= freed;
  auto next = free_.lower_bound(offset);
  assert(next == free_.end() || offset + freed <= next->first);
  if (next != free_.end() && next->first == offset + freed) {
    freed += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    assert(before->first + before->second <= offset);
    if (before->first + before->second == offset) {
      before->second += freed;
      check_books();
      return;
    }
  }
  free_.emplace(offset, freed);
  check_books();
}

void Arena::check_books() const {
  if (!kChecksInvariants) return;
  std::uint64_t free_bytes = 0;
  std::uint64_t last_end = start_;
  for (const auto& [offset, bytes] : free_) {
    assert(bytes > 0 && (offset > last_end || free_bytes == 0) && offset + bytes <= end_);
    free_bytes += bytes;
    last_end = offset + bytes;
  }
  assert(free_bytes + used_bytes_ == total_bytes());
}

std::vector<ArenaRange> Arena::free_ranges() const {
  std::vector<ArenaRange> ranges;
  for (const auto& [offset, bytes] : free_) ranges.push_back({.offset = offset, .bytes = bytes});
  return ranges;
}

// Cuts [offset, offset + bytes) out of `range`, which contains it.
void Arena::take(FreeMap::iterator range, std::uint64_t offset, std::uint64_t bytes) {
  const std::uint64_t range_start = range->first;
  const std::uint64_t range_end = range->first + range->second;
  free_.erase(range);
  if (range_start < offset) free_.emplace(range_start, offset - range_start);
  if (offset + bytes < range_end) free_.emplace(offset + bytes, range_end - offset - bytes);
  used_bytes_ += bytes;
  check_books();
}

}  // namespace millrace::shm
