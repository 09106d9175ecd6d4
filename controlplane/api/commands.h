// SPDX-License-Identifier: Apache-2.0
//
// The API's commands: one request object in, one response object out. Cold.
//
//   {"command": "drain", "target_group": "web", "address": "10.0.1.11", "port": 8080}
//   {"ok": true, "result": {...}}
//   {"ok": false, "errors": [{"place": "request.port", "reason": "..."}]}
//
// server.h carries the lines; this knows nothing of sockets.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "controlplane/config/load.h"
#include "controlplane/reconcile/controller.h"

namespace millrace::control {

// Who asks, by SO_PEERCRED: logged with every change.
struct Peer {
  std::uint32_t uid = 0;
  std::uint32_t pid = 0;
};

// What requests are about.
struct ApiParts {
  Controller& controller;
  // Reads the config file again, as SIGHUP does. What that changed, or why the file is not used.
  std::function<std::variant<ApplyOutcome, std::vector<ConfigError>>()> reload;
};

// Answers one line; the answer ends without a line end. Never fails: what cannot be done is said.
[[nodiscard]] std::string answer_request(std::string_view line, const Peer& peer,
                                         const ApiParts& parts);

// The answer to a request that cannot be read at all.
[[nodiscard]] std::string answer_error(const std::string& place, const std::string& reason);

}  // namespace millrace::control
