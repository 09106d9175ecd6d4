// SPDX-License-Identifier: Apache-2.0
//
// Where a program's log goes: stderr, without ever waiting for who reads it. Cold.
//
// A reader may stop (a pager, a pipe that nobody empties, a journal that hangs), be gone, or have
// its disk full. Whoever writes then waits, or is ended by SIGPIPE, in the middle of its loop: a
// worker with packets in its hands, the thread that beats the heart. So what cannot be written at
// once is left out and counted, and how many is said before the next line that can be written.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace millrace::program {

class LogStream {
 public:
  // `fd` belongs to the caller and is left as it is: O_NONBLOCK would hold for everybody who shares
  // it, a shell among them. SIGPIPE has to be ignored.
  explicit LogStream(int fd);
  LogStream(const LogStream&) = delete;
  LogStream& operator=(const LogStream&) = delete;
  ~LogStream();

  // A whole line, with its end. One thread at a time.
  void write(std::string_view line);
  // Says how many lines were lost, when somebody takes lines again: else nobody would know before
  // the next line, which may be hours away. Nothing when none was. Call it often.
  void catch_up();

 private:
  enum class Way {
    plain,    // a file: a write comes to its end
    socket,   // the journal
    opened,   // a pipe or terminal, opened a second time, for ourselves, without waiting
    if_ready  // one that cannot be opened again
  };
  [[nodiscard]] bool finish_begun_line();
  [[nodiscard]] bool tell_lost();
  [[nodiscard]] std::int64_t try_write(std::string_view text) const;

  int fd_;
  Way way_ = Way::plain;
  std::string begun_;  // what is left of a line of which a part is written
  std::uint64_t lost_ = 0;
};

}  // namespace millrace::program
