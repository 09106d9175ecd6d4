// SPDX-License-Identifier: Apache-2.0
#include "dataplane/shm/process_lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

namespace millrace::shm {

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

}  // namespace

Result<ProcessLock> ProcessLock::acquire(const std::string& path) {
  Result<File> file = File::open(path, O_RDWR | O_CREAT);
  if (!file) return file.error();
  struct flock lock = whole_file_lock();
  if (::fcntl(file->fd(), F_OFD_SETLK, &lock) != 0) {
    if (errno != EAGAIN && errno != EACCES) return os_error("cannot lock " + path);
    return Error{path + ": already held by " + holder_of(*file)};
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(file->fd(), 0) != 0 ||
      ::pwrite(file->fd(), pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    return os_error("cannot write our pid to " + path);
  }
  return ProcessLock(std::move(*file));
}

bool ProcessLock::is_held(const std::string& path) {
  if (::access(path.c_str(), F_OK) != 0) return errno != ENOENT;
  Result<File> file = File::open(path, O_RDONLY);
  if (!file) return true;
  struct flock lock = whole_file_lock();
  if (::fcntl(file->fd(), F_OFD_GETLK, &lock) != 0) return true;
  return lock.l_type != F_UNLCK;
}

}  // namespace millrace::shm
