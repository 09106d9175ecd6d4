// SPDX-License-Identifier: Apache-2.0
//
// Typed access to the fields of one API request. Cold. Like yaml/reader.h for JSON: every wrong
// or unknown field is an error with place and reason, and all are collected.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "controlplane/config/load.h"
#include "controlplane/model/model.h"

namespace millrace::control {

class RequestReader {
 public:
  // `allowed` are the fields beside `command`.
  RequestReader(const boost::json::object& request, std::vector<std::string_view> allowed);

  // nullopt when the field is absent (an error if `required`) or wrong (an error).
  [[nodiscard]] std::optional<std::string> text(std::string_view key, bool required = false);
  [[nodiscard]] std::optional<std::uint32_t> number(std::string_view key, std::uint32_t min,
                                                    std::uint32_t max, bool required = false);
  [[nodiscard]] std::optional<IpAddress> address(std::string_view key, bool required = false);
  [[nodiscard]] std::optional<std::uint16_t> port(std::string_view key, bool required = false);
  [[nodiscard]] std::optional<Protocol> protocol(std::string_view key, bool required = false);

  void fail(std::string_view key, std::string reason);
  [[nodiscard]] bool failed() const { return !errors_.empty(); }
  [[nodiscard]] std::vector<ConfigError> take_errors() { return std::move(errors_); }

 private:
  [[nodiscard]] const boost::json::value* find(std::string_view key, bool required);

  const boost::json::object& request_;
  std::vector<ConfigError> errors_;
};

}  // namespace millrace::control
