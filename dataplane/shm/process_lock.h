// SPDX-License-Identifier: Apache-2.0
//
// One instance of a program per runtime directory. Cold: taken at start, held until exit.
//
// The lock is an open-file-description lock (fcntl(2), F_OFD_SETLK): the kernel drops it with the
// process however that ends, and others can ask who holds it without taking it for a moment, which
// would make an honest start fail.
#pragma once

#include <string>

#include "dataplane/core/result.h"
#include "dataplane/shm/file.h"

namespace millrace::shm {

class ProcessLock {
 public:
  // Creates the file if need be, locks it and writes our pid into it. Fails with the pid of the
  // holder: "/run/millrace/dataplane.lock: already held by process 4711".
  [[nodiscard]] static Result<ProcessLock> acquire(const std::string& path);

  // True when some live process holds the lock, and when that cannot be told (no permission to read
  // the file): who asks wants to know that nobody is there. False when the file does not exist.
  [[nodiscard]] static bool is_held(const std::string& path);

 private:
  explicit ProcessLock(File file) : file_(std::move(file)) {}

  File file_;
};

}  // namespace millrace::shm
