// SPDX-License-Identifier: Apache-2.0
//
// Files and memory maps as owned values. Cold: used at start, join and re-open only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "dataplane/core/result.h"

namespace millrace::shm {

// "WHAT: No such file or directory", from errno as it is now.
[[nodiscard]] Error os_error(const std::string& what);

// An open file descriptor; closed when it goes out of scope. Moves, does not copy.
class File {
 public:
  File() = default;
  explicit File(int fd) : fd_(fd) {}
  File(File&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  File& operator=(File&& other) noexcept;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { close(); }

  // `flags` as of open(2), always with O_CLOEXEC. Errors carry the path.
  [[nodiscard]] static Result<File> open(const std::string& path, int flags, unsigned mode = 0640);

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] bool is_open() const { return fd_ >= 0; }
  [[nodiscard]] Result<std::uint64_t> size_bytes() const;
  // Reserves real memory or disk for [offset, offset + bytes), so that a later store through a map
  // cannot end in SIGBUS for want of space.
  [[nodiscard]] Status reserve(std::uint64_t offset, std::uint64_t bytes) const;
  void close();

 private:
  int fd_ = -1;
};

enum class Access { read_only, read_write };

// A shared memory map of a whole file; unmapped when it goes out of scope. Moves, does not copy.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept : bytes_(other.bytes_) { other.bytes_ = {}; }
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { unmap(); }

  // Maps the first `bytes` of `file`. `populate` touches every page now instead of at first use.
  [[nodiscard]] static Result<Mapping> map(const File& file, std::uint64_t bytes, Access access,
                                           bool populate = false);

  [[nodiscard]] std::span<std::byte> bytes() const { return bytes_; }
  void unmap();

 private:
  std::span<std::byte> bytes_;
};

// Which file a path names at the moment: changes when the file is replaced by another.
struct FileIdentity {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

// {0, 0} when there is no such file. One system call.
[[nodiscard]] FileIdentity identity_of(const std::string& path);
[[nodiscard]] FileIdentity identity_of(const File& file);

}  // namespace millrace::shm
