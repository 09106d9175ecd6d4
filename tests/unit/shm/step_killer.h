// SPDX-License-Identifier: Apache-2.0
//
// Runs a piece of work in a child process and kills it, or lets a system call of it fail, at a
// chosen step: at its n-th system call. What other processes find afterwards is what a real crash
// or failure there would leave.
#pragma once

#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

namespace millrace::test {

enum class Trouble {
  kill,  // SIGKILL before the call
  fail,  // the call is not made and returns ENOSYS
};

// ThreadSanitizer makes calls of its own, and does not live when one fails.
#ifdef __SANITIZE_THREAD__
constexpr bool kCanMakeTrouble = false;
#else
constexpr bool kCanMakeTrouble = true;
#endif

// False when the work ended before its call number `step`, which counts from 1.
inline bool run_with_trouble(const std::function<void()>& work, Trouble trouble, int step) {
  const pid_t child = ::fork();
  if (child == 0) {
    (void)::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
    (void)::raise(SIGSTOP);
    work();
    ::_exit(0);
  }
  int status = 0;
  (void)::waitpid(child, &status, 0);
  (void)::ptrace(PTRACE_SETOPTIONS, child, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
  bool is_entry = false;
  int calls = 0;
  long signal = 0;
  while (::ptrace(PTRACE_SYSCALL, child, nullptr, signal) == 0 &&
         ::waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
    const bool is_call = WSTOPSIG(status) == (SIGTRAP | 0x80);
    signal = is_call ? 0 : WSTOPSIG(status);
    if (!is_call) continue;
    is_entry = !is_entry;
    if (!is_entry || ++calls != step) continue;
    if (trouble == Trouble::kill) {
      (void)::kill(child, SIGKILL);
      (void)::waitpid(child, &status, 0);
      return true;
    }
    (void)::ptrace(PTRACE_POKEUSER, child, offsetof(user_regs_struct, orig_rax), -1L);
  }
  return calls >= step;
}

}  // namespace millrace::test
