// SPDX-License-Identifier: Apache-2.0
#include "bpf/engine/pins.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "dataplane/contract/shm_abi.h"
#include "dataplane/os/process_lock.h"

namespace millrace::xdp {

namespace {

namespace fs = std::filesystem;

constexpr const char* kMapsPrefix = "abi-";
constexpr const char* kLinkPrefix = "link-";
constexpr const char* kChainPrefix = "chain-";
constexpr const char* kNewSuffix = "-new";  // until it takes the place of what has the name

bool is_on_bpf_file_system(const std::string& path) {
  struct statfs info {};
  return ::statfs(path.c_str(), &info) == 0 &&
         static_cast<std::uint32_t>(info.f_type) == static_cast<std::uint32_t>(BPF_FS_MAGIC);
}

std::uint32_t ifindex_of(int link) {
  bpf_link_info info{};
  std::uint32_t bytes = sizeof(info);
  return ::bpf_obj_get_info_by_fd(link, &info, &bytes) == 0 ? info.xdp.ifindex : 0;
}

std::vector<std::string> entries_of(const std::string& directory, const std::string& prefix) {
  std::vector<std::string> found;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().filename().string().starts_with(prefix)) found.push_back(entry->path());
  }
  return found;
}

}  // namespace

Pins::Pins(os::File lock, std::string directory)
    : lock_(std::move(lock)),
      directory_(std::move(directory)),
      maps_directory_(directory_ + "/" + kMapsPrefix + std::to_string(MR_ABI_VERSION)) {}

Result<Pins> Pins::open(const std::string& directory) {
  const std::string parent = fs::path(directory).parent_path();
  if (!is_on_bpf_file_system(parent) && !is_on_bpf_file_system(directory)) {
    return Error{"--pin-dir " + directory +
                 ": is on no bpf file system (mount -t bpf bpf /sys/fs/bpf)"};
  }
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    return os::os_error("cannot make --pin-dir " + directory);
  }
  Result<os::File> lock = os::lock_directory(directory);
  if (!lock) {
    return Error{"--pin-dir " + lock.error().message +
                 "; one daemon serves several interfaces (--interface A --interface B), a second "
                 "one needs its own --pin-dir, --runtime-dir and --flow-dir"};
  }
  return Pins(std::move(*lock), directory);
}

std::optional<os::File> Pins::find_map(const std::string& name) const {
  os::File map(::bpf_obj_get((maps_directory_ + "/" + name).c_str()));
  if (!map.is_open()) return std::nullopt;
  return map;
}

// A name in a bpf file system may have no dot.
Status Pins::pin_map(const std::string& name, int fd) const {
  const std::string path = maps_directory_ + "/" + name;
  const std::string beside = path + kNewSuffix;
  (void)::unlink(beside.c_str());  // what cannot be removed is in the way of the next line
  if (::bpf_obj_pin(fd, beside.c_str()) != 0) return os::os_error("cannot pin " + beside);
  if (::rename(beside.c_str(), path.c_str()) != 0) return os::os_error("cannot pin " + path);
  return ok();
}

Status Pins::pin_maps(std::span<const NamedMap> maps) const {
  const std::string beside = maps_directory_ + kNewSuffix;
  std::error_code ignored;  // what cannot be removed is in the way of the next line
  fs::remove_all(beside, ignored);
  if (::mkdir(beside.c_str(), 0700) != 0) return os::os_error("cannot make " + beside);
  for (const NamedMap& map : maps) {
    const std::string path = beside + "/" + map.name;
    if (::bpf_obj_pin(map.fd, path.c_str()) != 0) return os::os_error("cannot pin " + path);
  }
  if (::renameat2(AT_FDCWD, beside.c_str(), AT_FDCWD, maps_directory_.c_str(), RENAME_EXCHANGE) !=
      0) {
    // There is nothing to exchange it with, or this kernel cannot.
    fs::remove_all(maps_directory_, ignored);
    if (::rename(beside.c_str(), maps_directory_.c_str()) != 0) {
      return os::os_error("cannot pin " + maps_directory_);
    }
  }
  remove_maps_but(maps_directory_);
  return ok();
}

void Pins::remove_maps_but(const std::string& kept) const {
  std::error_code ignored;  // what stays is found, and judged, by the next daemon
  for (const std::string& maps : entries_of(directory_, kMapsPrefix)) {
    if (maps != kept) fs::remove_all(maps, ignored);
  }
}

std::vector<PinnedLink> Pins::links() const {
  std::vector<PinnedLink> found;
  for (const std::string& path : entries_of(directory_, kLinkPrefix)) {
    os::File fd(::bpf_obj_get(path.c_str()));
    if (!fd.is_open()) continue;
    const std::uint32_t ifindex = ifindex_of(fd.fd());
    found.push_back({.path = path, .fd = std::move(fd), .ifindex = ifindex});
  }
  return found;
}

Status Pins::pin_link(std::uint32_t ifindex, int fd) const {
  const std::string path = directory_ + "/" + kLinkPrefix + std::to_string(ifindex);
  (void)::unlink(path.c_str());  // absent is fine; what stays is in the way of the next line
  if (::bpf_obj_pin(fd, path.c_str()) != 0) return os::os_error("cannot pin " + path);
  return ok();
}

Status Pins::remove_link(PinnedLink link) {
  if (::unlink(link.path.c_str()) != 0) return os::os_error("cannot remove " + link.path);
  return ok();
}

std::vector<std::uint32_t> Pins::chains() const {
  std::vector<std::uint32_t> found;
  for (const std::string& path : entries_of(directory_, kChainPrefix)) {
    const std::string name = fs::path(path).filename();
    std::uint32_t ifindex = 0;
    const char* first = name.data() + std::string_view(kChainPrefix).size();
    const char* last = name.data() + name.size();
    if (std::from_chars(first, last, ifindex).ptr == last) found.push_back(ifindex);
  }
  return found;
}

std::vector<std::uint32_t> Pins::interfaces() const {
  std::vector<std::uint32_t> found = chains();
  for (const PinnedLink& link : links()) found.push_back(link.ifindex);
  return found;
}

Status Pins::add_chain(std::uint32_t ifindex) const {
  const std::string path = directory_ + "/" + kChainPrefix + std::to_string(ifindex);
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return os::os_error("cannot make " + path);
  }
  return ok();
}

Status Pins::remove_chain(std::uint32_t ifindex) const {
  const std::string path = directory_ + "/" + kChainPrefix + std::to_string(ifindex);
  if (::rmdir(path.c_str()) != 0) return os::os_error("cannot remove " + path);
  return ok();
}

void Pins::remove_directory() const {
  remove_maps_but("");
  std::error_code ignored;  // somebody else's pins in there stay
  fs::remove(directory_, ignored);
}

}  // namespace millrace::xdp
