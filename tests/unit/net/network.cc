// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/net/network.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <system_error>

namespace millrace::test {
namespace {

[[noreturn]] void end_test(const std::string& what) {
  (void)std::fprintf(stderr, "%s\n", what.c_str());
  std::abort();
}

void run_shell(const std::string& commands) {
  const std::string script = "set -e\n" + commands;
  const pid_t child = fork();
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", script.c_str(), nullptr);
    _exit(127);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
    end_test("failed: " + commands);
  }
}

}  // namespace

Host::Host() {
  int ready[2] = {-1, -1};
  if (pipe2(ready, O_CLOEXEC) != 0) end_test("pipe2");
  pid_ = fork();
  if (pid_ < 0) end_test("fork");
  if (pid_ == 0) {
    // Ends with the test program, even when that is killed.
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || unshare(CLONE_NEWNET) != 0) _exit(1);
    if (::write(ready[1], "r", 1) != 1) _exit(1);
    for (;;) pause();
  }
  close(ready[1]);
  char byte = 0;
  const ssize_t got = ::read(ready[0], &byte, 1);
  close(ready[0]);
  if (got != 1) end_test("a child cannot make a network namespace");
}

Host::~Host() {
  (void)kill(pid_, SIGKILL);
  (void)waitpid(pid_, nullptr, 0);
}

void Host::run(const std::string& commands) const {
  const std::string space = "/proc/" + std::to_string(pid_) + "/ns/net";
  run_shell("nsenter --net=" + space + " sh -e <<'END'\n" + commands + "\nEND\n");
}

OwnNamespace::OwnNamespace() : previous_(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)) {
  if (previous_ < 0 || unshare(CLONE_NEWNET) != 0) end_test("cannot enter a new network namespace");
}

OwnNamespace::~OwnNamespace() {
  if (setns(previous_, CLONE_NEWNET) != 0) end_test("cannot return to the network namespace");
  close(previous_);
}

void OwnNamespace::run(const std::string& commands) const { run_shell(commands); }

std::string why_no_namespaces() {
  const pid_t child = fork();
  if (child == 0) _exit(unshare(CLONE_NEWNET) == 0 ? 0 : errno);
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) return "cannot fork";
  if (WEXITSTATUS(status) == 0) return "";
  return "needs network namespaces: " + std::generic_category().message(WEXITSTATUS(status));
}

}  // namespace millrace::test
