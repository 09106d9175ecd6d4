// SPDX-License-Identifier: Apache-2.0
#include "dataplane/shm/ready.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <string>

#include "dataplane/shm/file.h"
#include "tests/support/cc/temp_dir.h"

namespace millrace::shm {
namespace {

// What a service manager hears at `path` ('@' first: a name outside of the file system).
std::string heard_at(const std::string& path) {
  const File manager(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  if (path.front() == '@') address.sun_path[0] = '\0';
  const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  EXPECT_EQ(::bind(manager.fd(), reinterpret_cast<const sockaddr*>(&address), bytes), 0);
  // NOLINTBEGIN(concurrency-mt-unsafe): the test has one thread
  ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
  tell_ready();
  ::unsetenv("NOTIFY_SOCKET");
  // NOLINTEND(concurrency-mt-unsafe)
  std::array<char, 64> said{};
  const ssize_t length = ::recv(manager.fd(), said.data(), said.size(), 0);
  return {said.data(), length < 0 ? 0u : static_cast<std::size_t>(length)};
}

TEST(TellReady, service_manager_hears_it_by_either_kind_of_socket) {
  const test::TempDir dir;
  EXPECT_EQ(heard_at(dir.file("notify")), "READY=1");
  EXPECT_EQ(heard_at("@millrace-test-" + std::to_string(::getpid())), "READY=1");
}

TEST(TellReady, without_a_service_manager_it_does_nothing) {
  // NOLINTBEGIN(concurrency-mt-unsafe): the test has one thread
  ::unsetenv("NOTIFY_SOCKET");
  tell_ready();
  ::setenv("NOTIFY_SOCKET", "/nowhere/at/all", 1);
  tell_ready();
  ::unsetenv("NOTIFY_SOCKET");
  // NOLINTEND(concurrency-mt-unsafe)
}

}  // namespace
}  // namespace millrace::shm
