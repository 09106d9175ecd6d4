// SPDX-License-Identifier: Apache-2.0
#include "dataplane/shm/file.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace millrace::shm {

Error os_error(const std::string& what) {
  const char* text = ::strerrordesc_np(errno);
  return Error{what + ": " + (text != nullptr ? text : "unknown error")};
}

File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Result<File> File::open(const std::string& path, int flags, unsigned mode) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, static_cast<mode_t>(mode));
  if (fd < 0) return os_error("cannot open " + path);
  return File(fd);
}

Result<std::uint64_t> File::size_bytes() const {
  struct stat info {};
  if (::fstat(fd_, &info) != 0) return os_error("cannot get the size of a file");
  return static_cast<std::uint64_t>(info.st_size);
}

Status File::reserve(std::uint64_t offset, std::uint64_t bytes) const {
  const int error = ::posix_fallocate(fd_, static_cast<off_t>(offset), static_cast<off_t>(bytes));
  if (error == 0) return ok();
  errno = error;
  return os_error("cannot reserve " + std::to_string(bytes) + " bytes");
}

void File::close() {
  if (fd_ >= 0) (void)::close(fd_);  // nothing was buffered that could be lost
  fd_ = -1;
}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

Result<Mapping> Mapping::map(const File& file, std::uint64_t bytes, Access access, bool populate) {
  const int protection = access == Access::read_only ? PROT_READ : PROT_READ | PROT_WRITE;
  const int flags = MAP_SHARED | (populate ? MAP_POPULATE : 0);
  void* address = ::mmap(nullptr, bytes, protection, flags, file.fd(), 0);
  if (address == MAP_FAILED) return os_error("cannot map " + std::to_string(bytes) + " bytes");
  Mapping mapping;
  mapping.bytes_ = {static_cast<std::byte*>(address), bytes};
  return mapping;
}

void Mapping::unmap() {
  if (!bytes_.empty()) (void)::munmap(bytes_.data(), bytes_.size());  // fails only on bad arguments
  bytes_ = {};
}

namespace {

FileIdentity identity(const struct stat& info) {
  return {static_cast<std::uint64_t>(info.st_dev), static_cast<std::uint64_t>(info.st_ino)};
}

}  // namespace

FileIdentity identity_of(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? identity(info) : FileIdentity{};
}

FileIdentity identity_of(const File& file) {
  struct stat info {};
  return ::fstat(file.fd(), &info) == 0 ? identity(info) : FileIdentity{};
}

}  // namespace millrace::shm
