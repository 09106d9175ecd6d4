// SPDX-License-Identifier: Apache-2.0
//
// One instance of a program per runtime directory. Cold: taken at start, held until exit.
//
// The lock is an open-file-description lock (fcntl(2), F_OFD_SETLK): the kernel drops it with the
// process however that ends, and others can ask who holds it without taking it for a moment, which
// would make an honest start fail.
#pragma once

#include <string>
#include <utility>

#include "dataplane/core/result.h"
#include "dataplane/os/file.h"

namespace millrace::os {

class ProcessLock {
 public:
  // Creates the file if need be, locks it and writes our pid into it. Fails with the pid of the
  // holder: "/run/millrace/dataplane.lock: already held by process 4711, which runs with this
  // directory: stop it first".
  [[nodiscard]] static Result<ProcessLock> acquire(const std::string& path);

  // True when the path no longer names the file that is locked: somebody removed it, and a second
  // instance could start.
  [[nodiscard]] bool is_lost() const { return identity_of(path_) != identity_of(file_); }
  // Takes the lock anew at the same path. Fails as acquire() does, and then this one is as before.
  [[nodiscard]] Status renew();

  // True when some live process holds the lock, and when that cannot be told (no permission to read
  // the file): who asks wants to know that nobody is there. False when the file does not exist.
  [[nodiscard]] static bool is_held(const std::string& path);

 private:
  ProcessLock(std::string path, File file) : path_(std::move(path)), file_(std::move(file)) {}

  std::string path_;
  File file_;
};

// Locks a directory (flock(2)), also in file systems that hold no files of ours, for as long as the
// returned file is open. Fails with the pid of the holder: "/sys/fs/bpf/millrace: in use by process
// 4711".
[[nodiscard]] Result<File> lock_directory(const std::string& path,
                                          Links links = Links::followed_if_trusted);

}  // namespace millrace::os
