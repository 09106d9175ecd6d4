// SPDX-License-Identifier: Apache-2.0
#include "controlplane/cli/endpoint.h"

#include <algorithm>
#include <charconv>

namespace millrace::control {
namespace {

std::optional<std::uint16_t> parse_port(const std::string& text) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  if (text.empty() || !std::all_of(text.begin(), text.end(), is_digit)) return std::nullopt;
  std::uint16_t port = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), port);
  if (parsed.ec != std::errc{} || port == 0) return std::nullopt;
  return port;
}

// Address and port as text; the port is absent when the text names none.
struct Parts {
  std::string address;
  std::optional<std::string> port;
};

std::optional<Parts> split(const std::string& text) {
  if (!text.empty() && text.front() == '[') {
    const auto end = text.find(']');
    if (end == std::string::npos) return std::nullopt;
    const std::string rest = text.substr(end + 1);
    if (!rest.empty() && rest.front() != ':') return std::nullopt;
    const std::string address = text.substr(1, end - 1);
    if (address.find(':') == std::string::npos) return std::nullopt;  // brackets are for IPv6
    return Parts{address, rest.empty() ? std::nullopt : std::optional(rest.substr(1))};
  }
  const auto colon = text.find(':');
  const bool is_v4_with_port = colon != std::string::npos && colon == text.rfind(':');
  if (!is_v4_with_port) return Parts{text, std::nullopt};
  return Parts{text.substr(0, colon), text.substr(colon + 1)};
}

}  // namespace

Result<Endpoint> parse_endpoint(const std::string& text) {
  const Error error{"'" + text +
                    "' is not an address with or without port: write 10.0.1.11, 10.0.1.11:8080, "
                    "2001:db8::1 or [2001:db8::1]:8080"};
  const auto parts = split(text);
  const auto address = parts ? IpAddress::parse(parts->address) : std::nullopt;
  if (!address) return error;
  if (!parts->port) return Endpoint{*address, std::nullopt};
  const auto port = parse_port(*parts->port);
  if (!port) return error;
  return Endpoint{*address, port};
}

}  // namespace millrace::control
