// SPDX-License-Identifier: Apache-2.0
#include "controlplane/model/health_check_text.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "controlplane/model/value_text.h"

namespace millrace::control {
namespace {

constexpr std::string_view kTrafficPort = "traffic-port";
constexpr std::size_t kPathLengthMax = 1024;
constexpr std::size_t kHostLengthMax = 255;
constexpr std::size_t kMatcherRangesMax = 64;

using CodeRange = std::pair<std::uint16_t, std::uint16_t>;

// One code ("200") or a range of codes ("200-299").
std::optional<CodeRange> parse_code_range(std::string_view text) {
  const auto hyphen = text.find('-');
  const std::string_view first_text = text.substr(0, hyphen);
  const std::string_view last_text =
      hyphen == std::string_view::npos ? first_text : text.substr(hyphen + 1);
  // So many digits, because "0200" is no code.
  if (first_text.size() != 3 || last_text.size() != 3) return std::nullopt;
  const auto first = parse_number(first_text, {.min = 200, .max = 599});
  const auto last = parse_number(last_text, {.min = 200, .max = 599});
  if (!first || !last || *first > *last) return std::nullopt;
  return CodeRange{static_cast<std::uint16_t>(*first), static_cast<std::uint16_t>(*last)};
}

bool is_host(std::string_view text) {
  const bool is_bracketed = text.starts_with('[');
  std::size_t end = text.find(is_bracketed ? ']' : ':');
  if (is_bracketed) {
    if (end == std::string_view::npos) return false;
    const auto address = IpAddress::parse(std::string(text.substr(1, end - 1)));
    if (!address || address->is_v4()) return false;
    ++end;
  }
  const std::string_view name = text.substr(0, end);
  const auto is_name_byte = [](char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '.' || c == '_';
  };
  const bool is_name = !name.empty() && std::ranges::all_of(name, is_name_byte);
  if (!is_bracketed && !is_name) return false;
  if (end >= text.size()) return true;
  const std::string_view port = text.substr(end + 1);
  return text[end] == ':' && port.size() <= 5 && parse_number(port, {.min = 1, .max = 65535});
}

}  // namespace

std::string health_port_text(const HealthCheck& check) {
  return check.port ? std::to_string(*check.port) : std::string(kTrafficPort);
}

bool read_health_port(std::string_view text, HealthCheck& check) {
  const bool is_traffic_port = text == kTrafficPort;
  const auto port = parse_number(text, {.min = 1, .max = 65535});
  if (is_traffic_port) check.port = std::nullopt;
  if (port) check.port = static_cast<std::uint16_t>(*port);
  return is_traffic_port || port;
}

bool read_health_path(std::string_view text, HealthCheck& check) {
  const auto is_visible = [](char c) { return c > 0x20 && c < 0x7f; };
  if (!text.starts_with('/') || text.size() > kPathLengthMax ||
      !std::ranges::all_of(text, is_visible)) {
    return false;
  }
  check.path = text;
  return true;
}

bool read_health_host(std::string_view text, HealthCheck& check) {
  if (text.size() > kHostLengthMax || !is_host(text)) return false;
  check.host = text;
  return true;
}

std::string matcher_text(const HealthCheck& check) {
  std::string text;
  for (const auto& [first, last] : check.matcher) {
    if (!text.empty()) text += ",";
    text += std::to_string(first);
    if (last != first) text += "-" + std::to_string(last);
  }
  return text;
}

bool read_matcher(std::string_view text, HealthCheck& check) {
  std::vector<CodeRange> matcher;
  while (true) {
    const auto comma = text.find(',');
    const auto range = parse_code_range(text.substr(0, comma));
    if (!range || matcher.size() >= kMatcherRangesMax) return false;
    matcher.push_back(*range);
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
  }
  check.matcher = std::move(matcher);
  return true;
}

}  // namespace millrace::control
