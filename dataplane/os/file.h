// SPDX-License-Identifier: Apache-2.0
//
// Files and memory maps as owned values. Cold: used at start, join and re-open only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "dataplane/core/result.h"

namespace millrace::os {

// "WHAT: No such file or directory", from errno as it is now.
[[nodiscard]] Error os_error(const std::string& what);

// The same of what was to be done with `path`: of EACCES also who asked and whose it is.
[[nodiscard]] Error path_error(const std::string& what, const std::string& path);

// That a file or a directory is open in `fd`. Whoever opens what others may have put there does so
// with O_NONBLOCK, since a named pipe has its opener wait, and asks this.
[[nodiscard]] Status check_kind(int fd, const std::string& what);

// What becomes of a symbolic link that a path ends with. A trusted one is root's or of the
// effective user: nobody else chooses where it leads.
enum class Links { refused, followed_if_trusted };

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

  // `flags` as of open(2), always with O_CLOEXEC. Fails, without waiting, where something lies that
  // is neither a file nor a directory, unless it is only to be asked about (O_PATH). Errors carry
  // the path, and say what O_NOFOLLOW refuses.
  [[nodiscard]] static Result<File> open(const std::string& path, int flags, unsigned mode = 0640);
  // Likewise, for what programs of several users share: the file is given to the group of its
  // directory (give_to_group_of), and `mode` holds whatever the umask. Others may write to that
  // directory: `path` may be no symbolic link, and its directory only a trusted one.
  [[nodiscard]] static Result<File> open_shared(const std::string& path, int flags,
                                                unsigned mode = 0640);

  // A directory, to be listed and locked.
  [[nodiscard]] static Result<File> open_directory(const std::string& path, Links links);

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] bool is_open() const { return fd_ >= 0; }
  [[nodiscard]] Result<std::uint64_t> size_bytes() const;
  // True when nobody but root, the effective user and the user `other` (a number; root: no other)
  // can have written what it says. Who cannot ask does not know: that is an error, and no "no".
  [[nodiscard]] Result<bool> is_trusted(std::uint32_t other = 0) const;
  // Reserves real memory or disk for [offset, offset + bytes), so that a later store through a map
  // cannot end in SIGBUS for want of space.
  [[nodiscard]] Status reserve(std::uint64_t offset, std::uint64_t bytes) const;
  void close();

 private:
  int fd_ = -1;
};

// Gives what is open in `file` (O_PATH will do) to the group of `directory`, so that what a run by
// hand leaves is usable by the service that has the directory. Its owner stays: who owns a file may
// write to it. Root's group says nothing about who that is, and is passed over. So is a directory
// that everybody may write to, a file of another user, and one with further names, which may be
// anybody's. Without the privilege the file stays as it is.
void give_to_group_of(const File& directory, const File& file);

// Sets the bits of `mode` that a umask has kept from a file or directory that was just made.
void raise_mode(const File& file, unsigned mode);

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

// What is to be said of a file that is not trusted.
[[nodiscard]] Error untrusted(const std::string& path);

// True for a trusted symbolic link, false for anything else. Fails at a link that is not trusted.
[[nodiscard]] Result<bool> is_link(const std::string& path);

// True when `path` may well be there, but we may not read it or look into its directory.
[[nodiscard]] bool is_hidden(const std::string& path);

// {0, 0} when there is no such file. One system call.
[[nodiscard]] FileIdentity identity_of(const std::string& path);
[[nodiscard]] FileIdentity identity_of(const File& file);

}  // namespace millrace::os
