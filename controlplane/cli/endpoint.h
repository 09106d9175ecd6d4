// SPDX-License-Identifier: Apache-2.0
//
// ADDRESS, ADDRESS:PORT and [IPV6]:PORT as people type them. Cold.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "controlplane/model/model.h"
#include "dataplane/core/result.h"

namespace millrace::control {

struct Endpoint {
  IpAddress address;
  std::optional<std::uint16_t> port;
};

// "10.0.1.11", "10.0.1.11:8080", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:8080".
// Errors show what was expected. An IPv6 address with a port needs its brackets: without them it
// could be read in two ways.
[[nodiscard]] Result<Endpoint> parse_endpoint(const std::string& text);

}  // namespace millrace::control
