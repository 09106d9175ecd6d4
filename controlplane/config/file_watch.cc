// SPDX-License-Identifier: Apache-2.0
#include "controlplane/config/file_watch.h"

#include <variant>

#include "controlplane/config/dump.h"
#include "controlplane/config/load.h"

namespace millrace::control {

// Who writes a file changes one of these.
bool ConfigFileWatch::is_changed() {
  struct stat now {};
  (void)::stat(path_.c_str(), &now);  // without a file all is 0, which is a change, too
  const bool is_same = now.st_ino == seen_.st_ino && now.st_size == seen_.st_size &&
                       now.st_mtim.tv_sec == seen_.st_mtim.tv_sec &&
                       now.st_mtim.tv_nsec == seen_.st_mtim.tv_nsec;
  seen_ = now;
  return !is_same;
}

void ConfigFileWatch::look(const std::string& in_force, std::uint64_t now_ns) {
  if (is_changed() || in_force != in_force_) {
    in_force_ = in_force;
    const LoadResult loaded = load_config_file(path_);
    const auto* config = std::get_if<Config>(&loaded);
    const bool is_same = config != nullptr && dump_config(*config) == in_force;
    if (is_same) {
      differs_since_ns_ = 0;
    } else if (differs_since_ns_ == 0) {
      differs_since_ns_ = now_ns;
    }
  }
  const bool is_told = differs_since_ns_ != 0 && now_ns >= differs_since_ns_ + kEditNs;
  alarm_ = is_told ? "the config in force is not that of " + path_ +
                         ": apply that file, or write into it what is in force"
                   : "";
}

}  // namespace millrace::control
