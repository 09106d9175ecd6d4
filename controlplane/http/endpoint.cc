// SPDX-License-Identifier: Apache-2.0
#include "controlplane/http/endpoint.h"

#include <cstddef>
#include <optional>

namespace millrace::control {

namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

std::optional<tcp::endpoint> read_endpoint(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) return std::nullopt;
  const std::string port = text.substr(colon + 1);
  const bool is_number = !port.empty() && port.size() <= 5 &&
                         port.find_first_not_of("0123456789") == std::string::npos;
  if (!is_number || std::stoul(port) > UINT16_MAX) return std::nullopt;
  std::string host = text.substr(0, colon);
  const bool is_bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (is_bracketed) host = host.substr(1, host.size() - 2);
  boost::system::error_code error;
  const auto address = asio::ip::make_address(host, error);
  if (error || address.is_v6() != is_bracketed) return std::nullopt;
  return tcp::endpoint(address, static_cast<std::uint16_t>(std::stoul(port)));
}

}  // namespace

Result<tcp::endpoint> parse_endpoint(const std::string& text, std::uint16_t usual_port) {
  if (const auto endpoint = read_endpoint(text)) return *endpoint;
  const std::string port = std::to_string(usual_port);
  return Error{"'" + text + "' is not ADDRESS:PORT, such as 127.0.0.1:" + port +
               " or [::1]:" + port + " (neither a host's name nor a port alone)"};
}

}  // namespace millrace::control
