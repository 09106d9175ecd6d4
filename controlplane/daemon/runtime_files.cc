// SPDX-License-Identifier: Apache-2.0
#include "controlplane/daemon/runtime_files.h"

#include <sys/stat.h>

#include <cerrno>

namespace millrace::control {

namespace {

Status make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0770) == 0 || errno == EEXIST) return ok();
  return os::path_error("cannot make the directory " + path, path);
}

}  // namespace

Result<RuntimeFiles> RuntimeFiles::open(const std::string& runtime_dir,
                                        const std::string& state_dir) {
  for (const std::string& directory : {runtime_dir, state_dir}) {
    if (Status made = make_directory(directory); !made) return made.error();
  }
  auto lock = os::ProcessLock::acquire(runtime_dir + "/controlplane.lock");
  if (!lock) return lock.error();
  auto state_lock = os::lock_directory(state_dir);
  if (!state_lock) return state_lock.error();
  return RuntimeFiles(runtime_dir, std::move(*lock), std::move(*state_lock));
}

void RuntimeFiles::renew_lost(const RenewSocket& renew_socket, Host& host) {
  const Result<bool> made = renew(renew_socket);
  if (!made && made.error().message != problem_) {
    host.log(LogLevel::error,
             "somebody has removed files of this program: " + made.error().message);
  }
  if (made && made.value()) {
    host.log(LogLevel::warning, "somebody has removed files of this program: made again");
  }
  problem_ = made ? "" : made.error().message;
}

Result<bool> RuntimeFiles::renew(const RenewSocket& renew_socket) {
  const bool is_lock_lost = lock_.is_lost();
  if (is_lock_lost) {
    if (Status made = make_directory(runtime_dir_); !made) return made.error();
    if (Status renewed = lock_.renew(); !renewed) return renewed.error();
  }
  const Result<bool> socket = renew_socket();
  if (!socket) return socket.error();
  return is_lock_lost || socket.value();
}

}  // namespace millrace::control
