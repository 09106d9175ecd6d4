// SPDX-License-Identifier: Apache-2.0
//
// Hears what routers say of packets that the engines put around clients' packets. Such errors are
// addressed to the node itself, so the engines leave them to the kernel. Cold; on the control
// plane's io_context.
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <functional>
#include <memory>
#include <utility>

#include "controlplane/net/outer_error.h"
#include "dataplane/core/result.h"

namespace millrace::control {

class OuterErrors {
 public:
  // Messages that are read before others on the io_context have their turn.
  static constexpr int kMessagesPerTurn = 64;

  using OnError = std::function<void(const OuterError&)>;
  // Needs CAP_NET_RAW, for raw sockets. Fails when there is one for neither family: a kernel may
  // lack IPv6. `on_error` is called on the io_context.
  [[nodiscard]] static Result<std::unique_ptr<OuterErrors>> open(boost::asio::io_context& io,
                                                                 OnError on_error);

 private:
  using Socket = boost::asio::posix::stream_descriptor;
  OuterErrors(boost::asio::io_context& io, OnError on_error)
      : on_error_(std::move(on_error)), socket_v4_(io), socket_v6_(io) {}
  void wait(Socket& socket, bool is_v4);
  void read(Socket& socket, bool is_v4);

  OnError on_error_;
  // Longer messages are cut: what they quote first is enough.
  std::array<std::uint8_t, 2048> message_{};
  Socket socket_v4_;
  Socket socket_v6_;
};

}  // namespace millrace::control
