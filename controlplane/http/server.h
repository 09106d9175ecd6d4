// SPDX-License-Identifier: Apache-2.0
//
// The control plane's one HTTP server: takes a request, lets its route's handler answer, closes the
// connection. Cold; on the control plane's io_context, like everything else, so that a handler sees
// one consistent state without locks.
//
// Anybody who reaches the address may connect. Bounded against them: connections, bytes per
// request, time per connection. Who has not asked yet gives way to who comes: silent connections,
// however many, keep nobody out who asks at once.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "controlplane/http/routes.h"
#include "dataplane/core/result.h"

namespace millrace::control {

struct HttpLimits {
  std::size_t sessions_max = 16;  // connections at once
  // From accept to the last byte sent.
  std::chrono::milliseconds session_time = std::chrono::seconds(5);
  // Of the first line and all headers. Whoever sends more is disconnected without an answer.
  std::uint32_t header_bytes_max = 8 * 1024;
  // The same for a body that is announced, whatever the path. A route may take less, and says so.
  std::uint64_t body_bytes_max = 1024 * 1024;
};

class HttpServer {
 public:
  struct Options {
    std::string address;           // "127.0.0.1:9465", "[::1]:9465"; port 0 picks a free one
    std::uint16_t usual_port = 0;  // for messages
    HttpLimits limits{};
  };

  // The node may get the address later: absent_address() names it until then. Fails when the
  // address is none or cannot be bound; the message names it and the cause.
  [[nodiscard]] static Result<std::unique_ptr<HttpServer>> listen(boost::asio::io_context& io,
                                                                  const Options& options,
                                                                  HttpRoutes routes);
  // Closes every connection.
  ~HttpServer();  // NOLINT(bugprone-exception-escape): it does not, see the .cc
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  [[nodiscard]] std::uint16_t port() const;
  // The address, while the node does not have it and so nobody can ask; "" when it has. Asks the
  // kernel each time.
  [[nodiscard]] std::string absent_address() const;

 private:
  class Acceptor;
  explicit HttpServer(std::shared_ptr<Acceptor> acceptor);
  std::shared_ptr<Acceptor> acceptor_;
};

}  // namespace millrace::control
