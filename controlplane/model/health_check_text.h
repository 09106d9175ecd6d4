// SPDX-License-Identifier: Apache-2.0
//
// Values of a health check that are neither a number nor a word, as text. Cold and pure.
//
// A reader keeps a value that is right. Else it leaves the health check as it was and says false;
// the rows of health_check_attributes.cc say what is allowed.
#pragma once

#include <string>
#include <string_view>

#include "controlplane/model/model.h"

namespace millrace::control {

// "traffic-port", or 1-65535.
[[nodiscard]] std::string health_port_text(const HealthCheck& check);
[[nodiscard]] bool read_health_port(std::string_view text, HealthCheck& check);

// 1-1024 visible ASCII characters that start with a slash: nothing that could end the request line
// or start another header.
[[nodiscard]] bool read_health_path(std::string_view text, HealthCheck& check);

// The host of a URI (RFC 3986, section 3.2.2) without user, and with a port if wanted: a name, an
// IPv4 address, or an IPv6 address in brackets. 1-255 characters.
[[nodiscard]] bool read_health_host(std::string_view text, HealthCheck& check);

// Codes from 200 to 599 and ranges of them: "200-299,404". At most 64.
[[nodiscard]] std::string matcher_text(const HealthCheck& check);
[[nodiscard]] bool read_matcher(std::string_view text, HealthCheck& check);

}  // namespace millrace::control
