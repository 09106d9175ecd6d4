// SPDX-License-Identifier: Apache-2.0
//
// The program's directories, and the locks in them that keep a second control plane out. Cold.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "controlplane/reconcile/host.h"
#include "dataplane/core/result.h"
#include "dataplane/os/file.h"
#include "dataplane/os/process_lock.h"

namespace millrace::control {

class RuntimeFiles {
 public:
  // Makes the directories where they are not there. Fails when somebody holds one of the locks.
  [[nodiscard]] static Result<RuntimeFiles> open(const std::string& runtime_dir,
                                                 const std::string& state_dir);

  // Call it often: makes again what somebody removed. Whoever empties the runtime directory takes
  // the lock, and the operator's way in. That is a socket, which `renew_socket` makes: true when it
  // did. (The config segment is the reconciler's to make again.) The log is told of each change.
  using RenewSocket = std::function<Result<bool>()>;
  void renew_lost(const RenewSocket& renew_socket, Host& host);

 private:
  RuntimeFiles(std::string runtime_dir, os::ProcessLock lock, os::File state_lock)
      : runtime_dir_(std::move(runtime_dir)),
        lock_(std::move(lock)),
        state_lock_(std::move(state_lock)) {}
  [[nodiscard]] Result<bool> renew(const RenewSocket& renew_socket);

  std::string runtime_dir_;
  os::ProcessLock lock_;
  os::File state_lock_;  // two would give out the same ids
  std::string problem_;  // what was said last
};

}  // namespace millrace::control
