// SPDX-License-Identifier: Apache-2.0
#include "controlplane/net/outer_errors.h"

#include <linux/icmp.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <span>
#include <string>
#include <utility>

#include "dataplane/rules/header_rule.h"

namespace millrace::control {
namespace {

// The kernel passes on what the filter lets through, and nothing else reaches the queue.
Result<int> open_socket(bool is_v4) {
  const int fd = ::socket(is_v4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC,
                          is_v4 ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6});
  if (fd < 0) {
    return Error{std::string("cannot open a raw ICMP socket: ") + std::strerror(errno)};
  }
  int failed = 0;
  if (is_v4) {
    const icmp_filter filter{.data = ~(1u << MR_ICMPV4_UNREACHABLE)};
    failed = ::setsockopt(fd, SOL_RAW, ICMP_FILTER, &filter, sizeof(filter));
  } else {
    icmp6_filter filter{};
    ICMP6_FILTER_SETBLOCKALL(&filter);
    ICMP6_FILTER_SETPASS(MR_ICMPV6_PACKET_TOO_BIG, &filter);
    failed = ::setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof(filter));
  }
  if (failed == 0) return fd;
  const std::string reason = std::strerror(errno);
  ::close(fd);
  return Error{"cannot filter a raw ICMP socket: " + reason};
}

}  // namespace

Result<std::unique_ptr<OuterErrors>> OuterErrors::open(boost::asio::io_context& io,
                                                       OnError on_error) {
  const Result<int> socket_v4 = open_socket(true);
  const Result<int> socket_v6 = open_socket(false);
  if (!socket_v4 && !socket_v6) return socket_v4.error();
  std::unique_ptr<OuterErrors> errors(new OuterErrors(io, std::move(on_error)));
  if (socket_v4) {
    errors->socket_v4_.assign(*socket_v4);
    errors->wait(errors->socket_v4_, true);
  }
  if (socket_v6) {
    errors->socket_v6_.assign(*socket_v6);
    errors->wait(errors->socket_v6_, false);
  }
  return errors;
}

// A wait that ends because this object does calls nothing back.
void OuterErrors::wait(Socket& socket, bool is_v4) {
  socket.async_wait(Socket::wait_read,
                    [this, &socket, is_v4](const boost::system::error_code& error) {
                      if (error) return;
                      read(socket, is_v4);
                      wait(socket, is_v4);
                    });
}

void OuterErrors::read(Socket& socket, bool is_v4) {
  for (int count = 0; count < kMessagesPerTurn; ++count) {
    const ssize_t bytes =
        ::recv(socket.native_handle(), message_.data(), message_.size(), MSG_DONTWAIT);
    if (bytes < 0) return;  // none is left; an error of the socket shows with the next wait
    const auto error =
        read_outer_error(is_v4, std::span(message_.data(), static_cast<std::size_t>(bytes)));
    if (error) on_error_(*error);
  }
}

}  // namespace millrace::control
