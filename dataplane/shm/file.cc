// SPDX-License-Identifier: Apache-2.0
#include "dataplane/shm/file.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

namespace millrace::shm {

namespace {

constexpr unsigned kRoot = 0;
constexpr uid_t kUnchanged = static_cast<uid_t>(-1);  // chown(2)
constexpr unsigned kModeBits = 07777;

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::optional<struct stat> information_of(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? std::optional(info) : std::nullopt;
}

std::optional<struct stat> information_of(const File& file) {
  struct stat info {};
  return ::fstat(file.fd(), &info) == 0 ? std::optional(info) : std::nullopt;
}

// It has further names, which may be in anybody's directory.
bool is_anybodys(const struct stat& info) { return !S_ISDIR(info.st_mode) && info.st_nlink != 1; }

}  // namespace

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

Result<File> File::open_shared(const std::string& path, int flags, unsigned mode) {
  Result<File> file = open(path, flags | O_NOFOLLOW, mode);
  if (!file) {
    std::error_code failure;  // then it is no link
    if (!std::filesystem::is_symlink(path, failure)) return file;
    return Error{"cannot open " + path + ": it is a symbolic link; move it away"};
  }
  const std::string directory = directory_of(path);
  const auto shared = information_of(directory);
  // Before the owner changes, since only an owner may.
  if (shared && shared->st_gid != kRoot) raise_mode(*file, mode);
  give_to_owner_of(directory, *file);
  return file;
}

void raise_mode(const File& file, unsigned mode) {
  const auto found = information_of(file);
  if (!found || is_anybodys(*found) || (found->st_mode & mode) == mode) return;
  (void)::fchmod(file.fd(), (found->st_mode | mode) & kModeBits);  // else it stays as it is
}

void give_to_owner_of(const std::string& directory, const File& file) {
  const auto wanted = information_of(directory);
  const auto found = information_of(file);
  if (!wanted || !found || (wanted->st_mode & S_IWOTH) != 0 || is_anybodys(*found)) return;
  const uid_t owner = wanted->st_uid == kRoot ? found->st_uid : wanted->st_uid;
  const gid_t group = wanted->st_gid == kRoot ? found->st_gid : wanted->st_gid;
  if (owner == found->st_uid && group == found->st_gid) return;
  // Root may do both, an owner only give the file to a group of its own.
  if (::fchownat(file.fd(), "", owner, group, AT_EMPTY_PATH) == 0) return;
  (void)::fchownat(file.fd(), "", kUnchanged, group, AT_EMPTY_PATH);
}

Result<std::uint64_t> File::size_bytes() const {
  const auto info = information_of(*this);
  if (!info) return os_error("cannot get the size of a file");
  return static_cast<std::uint64_t>(info->st_size);
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

bool is_hidden(const std::string& path) {
  return ::faccessat(AT_FDCWD, path.c_str(), R_OK, AT_EACCESS) != 0 &&
         (errno == EACCES || errno == EPERM);
}

namespace {

FileIdentity identity(const std::optional<struct stat>& info) {
  if (!info) return {};
  return {static_cast<std::uint64_t>(info->st_dev), static_cast<std::uint64_t>(info->st_ino)};
}

}  // namespace

FileIdentity identity_of(const std::string& path) { return identity(information_of(path)); }
FileIdentity identity_of(const File& file) { return identity(information_of(file)); }

}  // namespace millrace::shm
