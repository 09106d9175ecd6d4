// SPDX-License-Identifier: Apache-2.0
#include "dataplane/os/service_manager.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <string>

#include "dataplane/os/file.h"
#include "tests/support/cc/temp_dir.h"

namespace millrace::os {
namespace {

// NOLINTBEGIN(concurrency-mt-unsafe): the tests have one thread
void set(const char* name, const std::string& value) { ::setenv(name, value.c_str(), 1); }
void unset_all() {
  for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) ::unsetenv(name);
}
// NOLINTEND(concurrency-mt-unsafe)

// A service manager at `path` ('@' first: a name outside of the file system).
class Manager {
 public:
  explicit Manager(const std::string& path)
      : socket_(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof(address.sun_path) - 1);
    if (path.front() == '@') address.sun_path[0] = '\0';
    const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
    const auto* generic = reinterpret_cast<const sockaddr*>(&address);
    EXPECT_EQ(::bind(socket_.fd(), generic, bytes), 0);
    set("NOTIFY_SOCKET", path);
  }
  ~Manager() { unset_all(); }
  Manager(const Manager&) = delete;
  Manager& operator=(const Manager&) = delete;

  // The next that it was told; "" when there is nothing.
  [[nodiscard]] std::string heard() const {
    std::array<char, 64> said{};
    const ssize_t length = ::recv(socket_.fd(), said.data(), said.size(), 0);
    return {said.data(), length < 0 ? 0u : static_cast<std::size_t>(length)};
  }

 private:
  File socket_;
};

TEST(TellReady, service_manager_hears_it_by_either_kind_of_socket) {
  const test::TempDir dir;
  for (const std::string& path :
       {dir.file("notify"), "@millrace-test-" + std::to_string(::getpid())}) {
    const Manager manager(path);
    tell_ready();
    EXPECT_EQ(manager.heard(), "READY=1");
  }
}

TEST(TellReady, without_a_service_manager_it_does_nothing) {
  unset_all();
  tell_ready();
  set("NOTIFY_SOCKET", "/nowhere/at/all");
  tell_ready();
  unset_all();
}

TEST(Watchdog, loop_that_turns_is_heard_of_well_before_the_service_manager_gives_up) {
  const test::TempDir dir;
  const Manager manager(dir.file("notify"));
  set("WATCHDOG_USEC", "4000");
  set("WATCHDOG_PID", std::to_string(::getpid()));
  Watchdog watchdog;
  int heard = 0;
  for (std::uint64_t now_ns = 7'000'000; now_ns < 15'000'000; now_ns += 100'000) {
    watchdog.turn(now_ns);
    if (manager.heard() == "WATCHDOG=1") ++heard;
  }
  EXPECT_EQ(heard, 8);
}

TEST(Watchdog, nobody_is_told_who_does_not_ask) {
  const test::TempDir dir;
  const Manager manager(dir.file("notify"));
  Watchdog().turn(1);
  set("WATCHDOG_USEC", "soon");
  Watchdog().turn(1);
  set("WATCHDOG_USEC", "4000");
  set("WATCHDOG_PID", std::to_string(::getpid() + 1));
  Watchdog().turn(1);
  EXPECT_EQ(manager.heard(), "");
}

TEST(Watchdog, service_manager_that_does_not_listen_holds_up_nobody) {
  const test::TempDir dir;
  const Manager manager(dir.file("notify"));
  set("WATCHDOG_USEC", "4");
  Watchdog watchdog;
  for (std::uint64_t now_ns = 1; now_ns < 20'000'000; now_ns += 2'000) watchdog.turn(now_ns);
  EXPECT_EQ(manager.heard(), "WATCHDOG=1");
}

}  // namespace
}  // namespace millrace::os
