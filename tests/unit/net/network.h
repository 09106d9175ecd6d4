// SPDX-License-Identifier: Apache-2.0
//
// A node and its peers as network namespaces without names: they live as long as the processes that
// hold them, so that nothing is left behind, whatever becomes of the test.
#pragma once

#include <sys/types.h>

#include <string>

namespace millrace::test {

// A network namespace held by a child process that waits to be ended.
class Host {
 public:
  Host();
  ~Host();
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  // Runs shell commands in the namespace; a failing one aborts the test program with its text.
  void run(const std::string& commands) const;
  [[nodiscard]] pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
};

// Moves the calling process into a new namespace; the destructor moves it back. All threads must be
// started after it and ended before.
class OwnNamespace {
 public:
  OwnNamespace();
  ~OwnNamespace();
  OwnNamespace(const OwnNamespace&) = delete;
  OwnNamespace& operator=(const OwnNamespace&) = delete;

  void run(const std::string& commands) const;

 private:
  int previous_ = -1;
};

// Empty when namespaces can be made, else why a test that needs them has to be skipped.
[[nodiscard]] std::string why_no_namespaces();

}  // namespace millrace::test
