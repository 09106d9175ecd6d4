// SPDX-License-Identifier: Apache-2.0
#include "controlplane/net/neighbour_asker.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

namespace millrace::control {
namespace {

constexpr std::uint16_t kDiscardPort = 9;

int open_socket(int family) {
  const int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return fd;
  const int hops = 1;  // a neighbour is one hop away; anything farther is none of our business
  const int level = family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
  const int option = family == AF_INET ? int{IP_TTL} : int{IPV6_UNICAST_HOPS};
  (void)setsockopt(fd, level, option, &hops, sizeof(hops));  // cannot fail; harmless if it did
  return fd;
}

}  // namespace

NeighbourAsker::~NeighbourAsker() {
  if (socket_v4_ >= 0) close(socket_v4_);
  if (socket_v6_ >= 0) close(socket_v6_);
}

void NeighbourAsker::ask(const std::vector<NeighbourKey>& neighbours, NetTime now) {
  std::map<NeighbourKey, NetTime> asked;
  for (const NeighbourKey& neighbour : neighbours) {
    const auto before = asked_.find(neighbour);
    const bool is_too_soon = before != asked_.end() && now - before->second < kIntervalMin;
    asked.emplace(neighbour, is_too_soon ? before->second : now);
    if (!is_too_soon) send(neighbour);
  }
  asked_ = std::move(asked);
}

void NeighbourAsker::send(const NeighbourKey& neighbour) {
  const bool is_v4 = neighbour.address.is_v4();
  int& fd = is_v4 ? socket_v4_ : socket_v6_;
  if (fd < 0) fd = open_socket(is_v4 ? AF_INET : AF_INET6);
  if (fd < 0) return;

  sockaddr_storage to{};
  socklen_t to_bytes = 0;
  if (is_v4) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&to);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(kDiscardPort);
    std::memcpy(&v4->sin_addr, neighbour.address.addr.bytes + 12, sizeof(v4->sin_addr));
    to_bytes = sizeof(*v4);
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&to);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(kDiscardPort);
    std::memcpy(&v6->sin6_addr, neighbour.address.addr.bytes, sizeof(v6->sin6_addr));
    v6->sin6_scope_id = neighbour.link_index;  // used by the kernel for link-local addresses only
    to_bytes = sizeof(*v6);
  }
  // An error (no source address yet, full queue) means that the next turn asks again.
  (void)sendto(fd, nullptr, 0, 0, reinterpret_cast<const sockaddr*>(&to), to_bytes);
}

}  // namespace millrace::control
