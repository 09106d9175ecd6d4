// SPDX-License-Identifier: Apache-2.0
#include "dataplane/program/log_stream.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "dataplane/core/counted.h"

namespace millrace::program {

LogStream::LogStream(int fd) : fd_(fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) {
    fd_ = -1;  // closed: every line is lost, and what is opened next does not get it
    return;
  }
  if (S_ISSOCK(info.st_mode)) {
    way_ = Way::socket;
  } else if (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode)) {
    const std::string path = "/proc/self/fd/" + std::to_string(fd);
    const int own = ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    way_ = own < 0 ? Way::if_ready : Way::opened;
    if (own >= 0) fd_ = own;
  }
}

LogStream::~LogStream() {
  if (way_ == Way::opened) (void)::close(fd_);  // nothing was buffered that could be lost
}

void LogStream::write(std::string_view line) {
  if (!tell_lost()) {
    ++lost_;
    return;
  }
  const std::int64_t written = try_write(line);
  if (written <= 0) {
    ++lost_;
  } else {
    begun_ = line.substr(static_cast<std::size_t>(written));
  }
}

void LogStream::catch_up() {
  (void)tell_lost();  // else the next call does
}

// True when nothing is left to be written before the next line.
bool LogStream::tell_lost() {
  if (!finish_begun_line()) return false;
  if (lost_ == 0) return true;
  const std::string line =
      "(" + core::counted(lost_, "line") + " of this log " +
      (lost_ == 1 ? "was lost: nobody took it" : "were lost: nobody took them") + ")\n";
  const std::int64_t written = try_write(line);
  if (written <= 0) return false;
  lost_ = 0;
  begun_ = line.substr(static_cast<std::size_t>(written));
  return begun_.empty();
}

bool LogStream::finish_begun_line() {
  if (begun_.empty()) return true;
  const std::int64_t written = try_write(begun_);
  if (written > 0) begun_.erase(0, static_cast<std::size_t>(written));
  return begun_.empty();
}

// How many bytes were taken; 0 or less when none.
std::int64_t LogStream::try_write(std::string_view text) const {
  if (way_ == Way::socket) {
    return ::send(fd_, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  if (way_ == Way::if_ready) {
    pollfd state{.fd = fd_, .events = POLLOUT, .revents = 0};
    if (::poll(&state, 1, 0) != 1 || (state.revents & POLLOUT) == 0) return 0;
    return ::write(fd_, text.data(), std::min<std::size_t>(text.size(), PIPE_BUF));  // pipe(7)
  }
  return ::write(fd_, text.data(), text.size());
}

}  // namespace millrace::program
