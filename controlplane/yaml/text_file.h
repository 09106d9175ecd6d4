// SPDX-License-Identifier: Apache-2.0
//
// The text of a file that an operator wrote, and how errors in it are told. Cold.
#pragma once

#include <string>
#include <variant>

namespace millrace::control {

struct ConfigError {
  std::string place;   // "web.yaml:12:9: load_balancers[0].listeners[1].port"
  std::string reason;  // says what is allowed

  friend bool operator==(const ConfigError&, const ConfigError&) = default;
};

// "PLACE: REASON", as a person reads it.
[[nodiscard]] std::string to_string(const ConfigError& error);

// The text of the file at `path`, at most one byte more than a config may have. Waits for nobody:
// what is no file, such as a named pipe, is an error.
[[nodiscard]] std::variant<std::string, ConfigError> read_config_file(const std::string& path);

// Likewise of what somebody names on a command line, who may wait: also a pipe, as in
// `apply <(sed ... FILE)`, and standard input ("-").
[[nodiscard]] std::variant<std::string, ConfigError> read_given_file(const std::string& word);

}  // namespace millrace::control
