// SPDX-License-Identifier: Apache-2.0
//
// The file behind one worker's flow table (core/flow_table.h), kept over restarts. Cold. Which of
// them belong together, and which of them are believed, says flow_set.h.
//
// On a hugetlbfs mount (what /dev/hugepages is) the file has huge pages: a lookup in a large table
// then costs no TLB miss. Anywhere else it is an ordinary shared map: correct, slower, and the
// caller should say so in its log.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "dataplane/core/result.h"
#include "dataplane/os/file.h"

namespace millrace::shm {

class FlowFile {
 public:
  // Makes a file of zeroes at `path`, in the place of what has that name, rounds `bytes` up to
  // whole pages, maps it for writing and touches every page, so that no page fault or SIGBUS comes
  // later. On failure nothing is left. Errors say how many huge pages are needed and how to reserve
  // them.
  [[nodiscard]] static Result<FlowFile> create(const std::string& path, std::uint64_t bytes);

  // What is at `path`, whatever its size; of an empty file no bytes. To be written to it must be
  // trusted (File::is_trusted).
  [[nodiscard]] static Result<FlowFile> open(const std::string& path, os::Access access);

  // Gives the file another name, in the place of what has it.
  [[nodiscard]] Status rename_to(const std::string& path);

  [[nodiscard]] std::span<std::byte> bytes() const { return mapping_.bytes(); }
  [[nodiscard]] bool has_huge_pages() const { return has_huge_pages_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  // As File's.
  [[nodiscard]] Result<bool> is_trusted() const { return file_.is_trusted(); }
  // True when the path names another file by now, or none.
  [[nodiscard]] bool is_replaced() const {
    return os::identity_of(path_) != os::identity_of(file_);
  }

 private:
  std::string path_;
  os::File file_;
  os::Mapping mapping_;
  bool has_huge_pages_ = false;
};

// Room in the file system of `directory` for files of `bytes` bytes, one for each worker, once
// `given_up_bytes` of its files are gone. Errors say what is lacking; ok() is no promise.
[[nodiscard]] Status check_room(const std::string& directory, std::uint32_t count,
                                std::uint64_t bytes, std::uint64_t given_up_bytes);

}  // namespace millrace::shm
