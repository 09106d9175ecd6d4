// SPDX-License-Identifier: Apache-2.0
//
// The control plane's door: a unix socket that carries one JSON request and one JSON answer per
// line. Cold; runs on the control plane's io_context.
//
// A client can be slow, silent, huge or gone without anybody else noticing: each has its own
// buffer, bounds and deadline, and one request in work at a time. Who may connect is decided by the
// mode of the socket (0660).
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "controlplane/api/commands.h"
#include "dataplane/core/result.h"

namespace millrace::control {

struct ApiLimits {
  // At once. Who has asked nothing for the longest time gives way to who comes.
  std::size_t clients_max = 64;
  // A config of the largest size, escaped as JSON text, and some.
  std::size_t request_bytes_max = std::size_t{24} << 20;
  // Between requests, until one is complete, and until its answer is taken.
  std::chrono::milliseconds idle_timeout = std::chrono::minutes(5);
  std::chrono::milliseconds request_timeout = std::chrono::seconds(10);
  std::chrono::milliseconds answer_timeout = std::chrono::seconds(10);
};

class ApiServer {
 public:
  // Listens on `path`, replacing a socket that a dead process left there. What `parts` refers to
  // must outlive the server. Fails when somebody listens there, or the path cannot be used.
  [[nodiscard]] static Result<std::unique_ptr<ApiServer>> listen(boost::asio::io_context& io,
                                                                 const std::string& path,
                                                                 ApiParts parts,
                                                                 ApiLimits limits = {});

  // Closes every connection and removes the socket.
  ~ApiServer();  // NOLINT(bugprone-exception-escape): it does not, see the .cc
  ApiServer(const ApiServer&) = delete;
  ApiServer& operator=(const ApiServer&) = delete;

  // Listens at the path anew where somebody has removed the socket; clients that are connected
  // stay. False when it is there. Fails as listen() does, and then it may be tried again.
  [[nodiscard]] Result<bool> renew_if_lost();

  [[nodiscard]] std::size_t client_count() const;

 private:
  class Acceptor;
  class Session;
  explicit ApiServer(std::shared_ptr<Acceptor> acceptor);

  std::shared_ptr<Acceptor> acceptor_;
};

}  // namespace millrace::control
