// SPDX-License-Identifier: Apache-2.0
#include "dataplane/os/service_manager.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <string_view>

#include "dataplane/os/file.h"

namespace millrace::os {

namespace {

// "" when it is not set.
std::string_view environment(const char* name) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here changes the environment
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// 0 when it is not set, or no number.
std::uint64_t number_in(std::string_view text) {
  std::uint64_t number = 0;
  const std::from_chars_result parsed =
      std::from_chars(text.data(), text.data() + text.size(), number);
  return parsed.ec == std::errc{} && parsed.ptr == text.data() + text.size() ? number : 0;
}

// Never waits: a service manager that does not listen must not hold up the loop.
void tell(std::string_view message) {
  const std::string_view path = environment("NOTIFY_SOCKET");
  sockaddr_un address{};
  if (path.empty() || path.size() >= sizeof(address.sun_path)) return;
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, path.size());
  if (path.front() == '@') address.sun_path[0] = '\0';  // not in the file system
  const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  const File socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  // If it does not arrive, the service manager says that the program took too long.
  (void)::sendto(socket.fd(), message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                 reinterpret_cast<const sockaddr*>(&address), bytes);
}

}  // namespace

void tell_ready() { tell("READY=1"); }

Watchdog::Watchdog() {
  const std::uint64_t pid = number_in(environment("WATCHDOG_PID"));
  if (pid != 0 && pid != static_cast<std::uint64_t>(::getpid())) return;  // of another process
  interval_ns_ = number_in(environment("WATCHDOG_USEC")) * 1000 / 4;
}

void Watchdog::turn(std::uint64_t now_ns) {
  if (interval_ns_ == 0 || now_ns < due_ns_) return;
  tell("WATCHDOG=1");
  due_ns_ = now_ns + interval_ns_;
}

}  // namespace millrace::os
