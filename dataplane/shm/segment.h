// SPDX-License-Identifier: Apache-2.0
//
// Shared segments: created by one process under a temporary name, completed, and renamed into
// place; joined by others after their header was checked. Cold.
//
//   creator   create() -> fill -> publish(): magic stored last, then rename(2): a reader finds
//             either no segment, or the one before, or a complete one
//   reader    join(): magic, ABI version, kind, size, struct sizes, in this order (shm_abi.h);
//             is_replaced() says when the path names another file and it is time to join again
//
// A segment is input, not memory to trust: join() looks at nothing beyond the size of the file. But
// whoever may write to it can change it after it was checked, so that it has to be of somebody who
// is trusted: others may put files into the runtime directory.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "dataplane/contract/shm_abi.h"
#include "dataplane/core/result.h"
#include "dataplane/os/cut_guard.h"
#include "dataplane/os/file.h"

namespace millrace::shm {

// What a segment of one kind must say of itself.
struct SegmentSpec {
  mr_segment_kind kind;
  std::array<std::uint32_t, MR_SEGMENT_STRUCT_SIZES> struct_bytes;
  std::uint64_t bytes_min;  // smallest possible file: the kind's own header
};
extern const SegmentSpec kConfigSpec;
extern const SegmentSpec kStatsSpec;

class Segment {
 public:
  // Makes PATH.new of `total_bytes` zeroes, mapped for writing, of which the first `reserved_bytes`
  // have their memory already; the rest is reserved by the owner as it goes (File::reserve).
  // Not visible to anybody before publish().
  [[nodiscard]] static Result<Segment> create(const std::string& path, const SegmentSpec& spec,
                                              std::uint64_t total_bytes,
                                              std::uint64_t reserved_bytes);

  // Maps what is at `path`. Errors name the path and both values of what differs.
  [[nodiscard]] static Result<Segment> join(const std::string& path, const SegmentSpec& spec,
                                            os::Access access);

  // Fails when others than root, the effective user and the user `other` may write to it.
  [[nodiscard]] Status check_trust(std::uint32_t other = 0) const;

  // Stores the magic and renames the file into place, replacing what was there.
  [[nodiscard]] Status publish();

  // Removes the file of a segment for `path` that was not published, also of a process that died.
  static void discard(const std::string& path);

  // Makes the file again where somebody has removed it, with the contents that it has, and puts it
  // in place. Addresses in bytes() stay good, also for other threads that store there meanwhile: of
  // an 8-byte word the higher value counts, so that no counter and no generation goes back, and at
  // most what was counted within microseconds is lost. For a segment that only this process writes;
  // `spec` is the one that it was created with.
  [[nodiscard]] Status renew(const SegmentSpec& spec);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const os::File& file() const { return file_; }
  [[nodiscard]] std::span<std::byte> bytes() const { return mapping_.bytes(); }
  template <typename Header>
  [[nodiscard]] Header* header() const {
    return reinterpret_cast<Header*>(mapping_.bytes().data());
  }

  // From now on touching what somebody has cut off is no SIGBUS: it reads as zeroes (cut_guard.h).
  void survive_cuts() { guard_ = os::CutGuard(mapping_.bytes()); }

  // True when the path no longer names this file. Costs one stat(2).
  [[nodiscard]] bool is_replaced() const { return os::identity_of(path_) != identity_; }
  // True when the file became shorter than its map, so that touching the rest would be a SIGBUS, or
  // was so for a while: what it said is gone. Of a segment that is published. Costs one stat(2).
  [[nodiscard]] bool is_truncated() const;

 private:
  std::string path_;
  os::File file_;
  os::Mapping mapping_;
  os::CutGuard guard_;  // of mapping_: ends before it
  os::FileIdentity identity_;
};

// Raises each of `words` to what `least` has in its place, also while other threads store there.
void raise_words(std::span<std::uint64_t> words, std::span<const std::uint64_t> least);

// The checks of join() without a file: `bytes` are the first bytes of a file of `file_bytes`.
[[nodiscard]] Status check_segment_header(std::span<const std::byte> bytes,
                                          std::uint64_t file_bytes, const SegmentSpec& spec);

}  // namespace millrace::shm
