// SPDX-License-Identifier: Apache-2.0
#include "dataplane/shm/renewal.h"

#include <sys/stat.h>

#include <cerrno>

namespace millrace::shm {

Result<bool> renew_lost(const std::string& runtime_dir, os::ProcessLock& lock, StatsWriter& stats) {
  if (!lock.is_lost() && !stats.is_lost()) {
    stats.keep();
    return false;
  }
  if (::mkdir(runtime_dir.c_str(), 0750) != 0 && errno != EEXIST) {
    return os::os_error("cannot make the runtime directory " + runtime_dir);
  }
  if (lock.is_lost()) {
    if (Status renewed = lock.renew(); !renewed) return renewed.error();
  }
  if (stats.is_lost()) {
    if (Status renewed = stats.renew(); !renewed) return renewed.error();
  }
  return true;
}

}  // namespace millrace::shm
