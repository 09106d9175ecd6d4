// SPDX-License-Identifier: Apache-2.0
//
// The other end of server.h: asks the control plane and waits for the answer. Cold, blocking.
#pragma once

#include <boost/json/value.hpp>
#include <chrono>
#include <string>

#include "dataplane/core/result.h"
#include "dataplane/os/file.h"

namespace millrace::control {

inline constexpr const char* kDefaultSocketPath = "/run/millrace/controlplane.sock";

class ApiClient {
 public:
  // Longer than the control plane needs for its largest config; shorter than a person's patience.
  static constexpr std::chrono::seconds kPatience{30};

  // Waits `patience` for each step. Errors say which socket, what is wrong and what to do about it.
  [[nodiscard]] static Result<ApiClient> connect(const std::string& path,
                                                 std::chrono::seconds patience = kPatience);

  // True when no control plane runs for sure: there is no socket, or nobody listens there. Not when
  // one hangs, or does not let us in. Does not wait.
  [[nodiscard]] static bool is_nobody_there(const std::string& path);

  // Sends `request` and returns the whole answer, {"ok": ...}. After an error the client is of no
  // further use.
  [[nodiscard]] Result<boost::json::value> call(const boost::json::object& request);

 private:
  ApiClient(os::File socket, std::chrono::seconds patience)
      : socket_(std::move(socket)), patience_(patience) {}
  [[nodiscard]] Error broken(const char* what) const;

  os::File socket_;
  std::chrono::seconds patience_;
};

}  // namespace millrace::control
