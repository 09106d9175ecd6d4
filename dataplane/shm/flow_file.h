// SPDX-License-Identifier: Apache-2.0
//
// The file behind one worker's flow table (core/flow_table.h), kept over restarts. Cold.
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
#include "dataplane/shm/file.h"

namespace millrace::shm {

class FlowFile {
 public:
  // Opens or creates DIRECTORY/flows.WORKER (and the directory), rounds `bytes` up to whole pages,
  // locks the file against other engines, maps it for writing and touches every page, so that no
  // page fault or SIGBUS comes later. A file of another size is emptied first.
  // Errors say how many huge pages are needed and how to reserve them.
  [[nodiscard]] static Result<FlowFile> open(const std::string& directory, std::uint32_t worker,
                                             std::uint64_t bytes);

  // The file as the control plane sees it: read-only, whatever its size.
  [[nodiscard]] static Result<FlowFile> open_read_only(const std::string& directory,
                                                       std::uint32_t worker);

  [[nodiscard]] std::span<std::byte> bytes() const { return mapping_.bytes(); }
  // False: the memory is all zeroes. True: it is what an earlier process left.
  [[nodiscard]] bool existed() const { return existed_; }
  [[nodiscard]] bool has_huge_pages() const { return has_huge_pages_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  // True when the path names another file by now, or none.
  [[nodiscard]] bool is_replaced() const { return identity_of(path_) != identity_of(file_); }

 private:
  std::string path_;
  File file_;
  Mapping mapping_;
  bool existed_ = false;
  bool has_huge_pages_ = false;
};

}  // namespace millrace::shm
