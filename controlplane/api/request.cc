// SPDX-License-Identifier: Apache-2.0
#include "controlplane/api/request.h"

#include <algorithm>
#include <boost/json/value.hpp>

#include "controlplane/model/wording.h"

namespace millrace::control {

RequestReader::RequestReader(const boost::json::object& request,
                             std::vector<std::string_view> allowed)
    : request_(request) {
  for (const auto& field : request) {
    const std::string_view key(field.key().data(), field.key().size());
    if (key == "command" || std::find(allowed.begin(), allowed.end(), key) != allowed.end()) {
      continue;
    }
    fail(key,
         "unknown field" + did_you_mean(key, allowed) + "; allowed: command, " + join(allowed));
  }
}

void RequestReader::fail(std::string_view key, std::string reason) {
  const std::string shown = quote(key);
  errors_.push_back({"request." + shown.substr(1, shown.size() - 2), std::move(reason)});
}

const boost::json::value* RequestReader::find(std::string_view key, bool required) {
  const auto* value = request_.if_contains({key.data(), key.size()});
  if (value == nullptr && required) fail(key, "is missing");
  return value;
}

std::optional<std::string> RequestReader::text(std::string_view key, bool required) {
  const auto* value = find(key, required);
  if (value == nullptr) return std::nullopt;
  if (const auto* string = value->if_string()) return std::string(string->data(), string->size());
  fail(key, "must be a string");
  return std::nullopt;
}

std::optional<std::uint32_t> RequestReader::number(std::string_view key, std::uint32_t min,
                                                   std::uint32_t max, bool required) {
  const auto* value = find(key, required);
  if (value == nullptr) return std::nullopt;
  const auto* number = value->if_int64();
  if (number != nullptr && *number >= min && *number <= max) {
    return static_cast<std::uint32_t>(*number);
  }
  fail(key, "must be a whole number, " + std::to_string(min) + "-" + std::to_string(max));
  return std::nullopt;
}

std::optional<IpAddress> RequestReader::address(std::string_view key, bool required) {
  const auto value = text(key, required);
  if (!value) return std::nullopt;
  const auto address = IpAddress::parse(*value);
  if (!address) fail(key, quote(*value) + " must be one IPv4 or IPv6 address");
  return address;
}

std::optional<std::uint16_t> RequestReader::port(std::string_view key, bool required) {
  const auto value = number(key, 1, 65535, required);
  if (!value) return std::nullopt;
  return static_cast<std::uint16_t>(*value);
}

std::optional<Protocol> RequestReader::protocol(std::string_view key, bool required) {
  const auto value = text(key, required);
  if (!value) return std::nullopt;
  for (const Protocol protocol : {Protocol::tcp, Protocol::udp}) {
    if (*value == to_string(protocol)) return protocol;
  }
  fail(key, quote(*value) + " must be TCP or UDP");
  return std::nullopt;
}

}  // namespace millrace::control
