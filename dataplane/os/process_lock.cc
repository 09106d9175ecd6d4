// SPDX-License-Identifier: Apache-2.0
#include "dataplane/os/process_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <string>
#include <utility>

namespace millrace::os {

namespace {

struct flock whole_file_lock() {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

std::string holder_of(const File& file) {
  std::array<char, 32> text{};
  const ssize_t length = ::pread(file.fd(), text.data(), text.size() - 1, 0);
  std::string pid;
  for (ssize_t i = 0; i < length && text[static_cast<std::size_t>(i)] >= '0'; ++i) {
    pid += text[static_cast<std::size_t>(i)];
  }
  return pid.empty() ? "another process" : "process " + pid;
}

// Who has locked `directory` with flock(2), from /proc/locks: "1: FLOCK ADVISORY WRITE 4711
// 00:1f:30 0 EOF", with the device in hexadecimal and the inode's number.
std::string holder_of_directory(const File& directory) {
  struct stat info {};
  if (::fstat(directory.fd(), &info) != 0) return "another process";
  std::ifstream locks("/proc/locks");
  for (std::string line; std::getline(locks, line);) {
    std::array<char, 16> kind{};
    unsigned pid = 0;
    unsigned device[2] = {};
    std::uint64_t inode = 0;
    if (std::sscanf(line.c_str(), "%*d: %15s %*s %*s %u %x:%x:%" SCNu64, kind.data(), &pid,
                    &device[0], &device[1], &inode) != 5) {
      continue;
    }
    if (std::string(kind.data()) == "FLOCK" && inode == info.st_ino &&
        ::makedev(device[0], device[1]) == info.st_dev) {
      return "process " + std::to_string(pid);
    }
  }
  return "another process";
}

}  // namespace

Result<ProcessLock> ProcessLock::acquire(const std::string& path) {
  // Whoever shares the directory may be the next to hold it.
  Result<File> file = File::open_shared(path, O_RDWR | O_CREAT, 0660);
  if (!file) return file.error();
  struct flock lock = whole_file_lock();
  if (::fcntl(file->fd(), F_OFD_SETLK, &lock) != 0) {
    if (errno != EAGAIN && errno != EACCES) return os_error("cannot lock " + path);
    return Error{path + ": already held by " + holder_of(*file) +
                 ", which runs with this directory: stop it first"};
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(file->fd(), 0) != 0 ||
      ::pwrite(file->fd(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return os_error("cannot write our pid to " + path);
  }
  return ProcessLock(path, std::move(*file));
}

Status ProcessLock::renew() {
  Result<ProcessLock> anew = acquire(path_);
  if (!anew) return anew.error();
  *this = std::move(*anew);
  return ok();
}

bool ProcessLock::is_held(const std::string& path) {
  if (::access(path.c_str(), F_OK) != 0) return errno != ENOENT;
  Result<File> file = File::open(path, O_RDONLY);
  if (!file) return true;
  struct flock lock = whole_file_lock();
  if (::fcntl(file->fd(), F_OFD_GETLK, &lock) != 0) return true;
  return lock.l_type != F_UNLCK;
}

Result<File> lock_directory(const std::string& path, Links links) {
  Result<File> directory = File::open_directory(path, links);
  if (!directory) return directory.error();
  if (::flock(directory->fd(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return os_error("cannot lock " + path);
    return Error{path + ": in use by " + holder_of_directory(*directory)};
  }
  // Its holder may have removed it between the two.
  if (identity_of(path) != identity_of(*directory)) return Error{path + ": was removed meanwhile"};
  return directory;
}

}  // namespace millrace::os
