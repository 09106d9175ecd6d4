// SPDX-License-Identifier: Apache-2.0
//
// The other end of server.h: asks the control plane and waits for the answer. Cold, blocking.
#pragma once

#include <boost/json/value.hpp>
#include <chrono>
#include <string>

#include "dataplane/core/result.h"
#include "dataplane/shm/file.h"

namespace millrace::control {

inline constexpr const char* kDefaultSocketPath = "/run/millrace/controlplane.sock";

class ApiClient {
 public:
  // Errors say which socket, what is wrong and what to do about it.
  [[nodiscard]] static Result<ApiClient> connect(const std::string& path);

  // Sends `request` and returns the whole answer, {"ok": ...}. After an error the client is of no
  // further use.
  [[nodiscard]] Result<boost::json::value> call(const boost::json::object& request);

 private:
  explicit ApiClient(shm::File socket) : socket_(std::move(socket)) {}

  shm::File socket_;
};

}  // namespace millrace::control
