// SPDX-License-Identifier: Apache-2.0
#include "dataplane/os/file.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <utility>

#include "dataplane/os/denied.h"

namespace millrace::os {

namespace {

constexpr unsigned kRoot = 0;
constexpr uid_t kUnchanged = static_cast<uid_t>(-1);  // chown(2)
constexpr unsigned kModeBits = 07777;
constexpr int kAlways = O_CLOEXEC | O_NONBLOCK;  // the latter means nothing to a file

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
bool has_further_names(const struct stat& info) {
  return !S_ISDIR(info.st_mode) && info.st_nlink != 1;
}

bool is_roots_or_own(const struct stat& info) {
  return info.st_uid == kRoot || info.st_uid == ::geteuid();
}

Error refused_link(const std::string& path, const std::string& whose) {
  return Error{"cannot open " + path + ": it is a symbolic link" + whose + "; move it away"};
}

// True for a symbolic link that is to be followed.
Result<bool> is_link(const std::string& path, const struct stat& info, Links links) {
  if (!S_ISLNK(info.st_mode)) return false;
  if (links == Links::refused) return refused_link(path, "");
  if (is_roots_or_own(info) && !has_further_names(info)) return true;
  return refused_link(path, " of user " + std::to_string(info.st_uid) +
                                ", who is neither root nor the user of this program");
}

// A slash at the end has the kernel follow a link, whatever it was told.
std::string without_end_slash(std::string path) {
  while (path.size() > 1 && (path.ends_with('/') || path.ends_with("/."))) path.pop_back();
  return path;
}

// What open(2) gave for `path`.
Result<File> checked(File opened, const std::string& path, int flags) {
  const std::string what = "cannot open " + path;
  if (!opened.is_open()) return path_error(what, path);
  if ((flags & O_PATH) != 0) return opened;
  if (Status is_file = check_kind(opened.fd(), what); !is_file) return is_file.error();
  return opened;
}

// The directory itself, only to be asked and to be looked into. What is asked of a path may be of
// another file by the time it is opened.
Result<File> find_directory(const std::string& path, Links links) {
  const std::string name = without_end_slash(path);
  Result<File> found = File::open(name, O_PATH | O_NOFOLLOW);
  if (!found) return found;
  const auto info = information_of(*found);
  if (!info) return os_error("cannot ask for " + name);
  const Result<bool> is_followed = is_link(name, *info, links);
  if (!is_followed) return is_followed.error();
  if (!*is_followed) return found;
  std::array<char, PATH_MAX> target{};
  if (::readlinkat(found->fd(), "", target.data(), target.size() - 1) < 0) {
    return os_error("cannot read the symbolic link " + name);
  }
  return File::open(std::filesystem::path(directory_of(name)) / target.data(), O_PATH);
}

}  // namespace

Error os_error(const std::string& what) {
  const char* text = ::strerrordesc_np(errno);
  return Error{what + ": " + (text != nullptr ? text : "unknown error")};
}

Error path_error(const std::string& what, const std::string& path) {
  if (errno == ENXIO) return Error{what + ": it is a socket or a device, no file; move it away"};
  const bool is_denied = errno == EACCES;
  Error error = os_error(what);
  if (is_denied) error.message += ": " + denial_of(path).text;
  return error;
}

Status check_kind(int fd, const std::string& what) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return os_error(what);
  if (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode)) return ok();
  const char* kind = S_ISFIFO(info.st_mode) ? "a named pipe" : "a device";
  return Error{what + ": it is " + kind + ", no file; move it away"};
}

File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Result<File> File::open(const std::string& path, int flags, unsigned mode) {
  File opened(::open(path.c_str(), flags | kAlways, static_cast<mode_t>(mode)));
  const bool is_link = !opened.is_open() && errno == ELOOP && (flags & O_NOFOLLOW) != 0;
  if (is_link) return refused_link(path, "");
  return checked(std::move(opened), path, flags);
}

Result<File> File::open_shared(const std::string& path, int flags, unsigned mode) {
  const Result<File> directory = find_directory(directory_of(path), Links::followed_if_trusted);
  if (!directory) return directory.error().within(path);
  const std::string name = std::filesystem::path(path).filename();
  File opened(::openat(directory->fd(), name.c_str(), flags | O_NOFOLLOW | kAlways,
                       static_cast<mode_t>(mode)));
  if (!opened.is_open() && errno == ELOOP) return refused_link(path, "");
  Result<File> file = checked(std::move(opened), path, flags);
  if (!file) return file;
  const auto shared = information_of(*directory);
  if (shared && shared->st_gid != kRoot) raise_mode(*file, mode);
  give_to_group_of(*directory, *file);
  return file;
}

Result<File> File::open_directory(const std::string& path, Links links) {
  const Result<File> found = find_directory(path, links);
  if (!found) return found.error();
  File directory(::openat(found->fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.is_open()) return path_error("cannot open " + path, path);
  return directory;
}

void raise_mode(const File& file, unsigned mode) {
  const auto found = information_of(file);
  if (!found || has_further_names(*found) || (found->st_mode & mode) == mode) return;
  (void)::fchmod(file.fd(), (found->st_mode | mode) & kModeBits);  // else it stays as it is
}

void give_to_group_of(const File& directory, const File& file) {
  const auto wanted = information_of(directory);
  const auto found = information_of(file);
  if (!wanted || !found || wanted->st_gid == kRoot || wanted->st_gid == found->st_gid) return;
  if ((wanted->st_mode & S_IWOTH) != 0 || found->st_uid != ::geteuid()) return;
  if (has_further_names(*found)) return;
  (void)::fchownat(file.fd(), "", kUnchanged, wanted->st_gid, AT_EMPTY_PATH);
}

Result<std::uint64_t> File::size_bytes() const {
  const auto info = information_of(*this);
  if (!info) return os_error("cannot get the size of a file");
  return static_cast<std::uint64_t>(info->st_size);
}

Result<bool> File::is_trusted(std::uint32_t other) const {
  const auto info = information_of(*this);
  if (!info) return os_error("cannot ask who owns a file");
  const bool is_owned = is_roots_or_own(*info) || info->st_uid == other;
  return is_owned && (info->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

Error untrusted(const std::string& path) {
  return Error{path + ": others than root and the user of this program may write to it"};
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

Result<bool> is_link(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) return false;
  return is_link(path, info, Links::followed_if_trusted);
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

}  // namespace millrace::os
