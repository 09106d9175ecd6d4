// SPDX-License-Identifier: Apache-2.0
#include "dataplane/os/denied.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <vector>

namespace millrace::os {

namespace {

namespace fs = std::filesystem;

constexpr gid_t kRootsGroup = 0;
// More than any entry of /etc/passwd takes, and enough of /etc/group for a name.
constexpr std::size_t kEntryBytes = 16384;

std::string user_name(uid_t id) {
  passwd entry{};
  passwd* found = nullptr;
  std::array<char, kEntryBytes> text{};
  (void)::getpwuid_r(id, &entry, text.data(), text.size(), &found);  // else the number will do
  return found == nullptr ? std::to_string(id) : found->pw_name;
}

std::string group_name(gid_t id) {
  group entry{};
  group* found = nullptr;
  std::array<char, kEntryBytes> text{};
  (void)::getgrgid_r(id, &entry, text.data(), text.size(), &found);  // likewise
  return found == nullptr ? std::to_string(id) : found->gr_name;
}

bool is_member(gid_t group) {
  std::vector<gid_t> own(static_cast<std::size_t>(std::max(::getgroups(0, nullptr), 0)));
  (void)::getgroups(static_cast<int>(own.size()), own.data());  // nobody changes them meanwhile
  return group == ::getegid() || std::ranges::find(own, group) != own.end();
}

// What is not there yet is its directory's to refuse.
fs::path refuser_of(const std::string& path) {
  std::error_code failure;
  const fs::path whole = fs::absolute(path, failure);
  fs::path way;
  for (const fs::path& part : whole.parent_path()) {
    way /= part;
    if (::faccessat(AT_FDCWD, way.c_str(), X_OK, AT_EACCESS) != 0) return way;
  }
  return fs::exists(whole, failure) ? whole : whole.parent_path();
}

}  // namespace

Denial denial_of(const std::string& path) {
  Denial denial{.text = {}, .user = user_name(::geteuid()), .group = {}};
  denial.text = "user " + denial.user + " may not";
  const std::string refuser = refuser_of(path);
  struct stat info {};
  if (::stat(refuser.c_str(), &info) != 0) return denial;
  std::array<char, 8> mode{};
  (void)std::snprintf(mode.data(), mode.size(), "%04o", info.st_mode & 07777u);
  const std::string group = group_name(info.st_gid);
  denial.text += ": " + refuser + " belongs to " + user_name(info.st_uid) + ":" + group +
                 ", mode " + mode.data();
  const bool lets_members = (info.st_mode & S_IRWXG) != 0 && info.st_gid != kRootsGroup;
  if (lets_members && !is_member(info.st_gid)) denial.group = group;
  return denial;
}

}  // namespace millrace::os
