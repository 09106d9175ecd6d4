// SPDX-License-Identifier: Apache-2.0
#include "bench/pktgen/profile_scalars.h"

#include <charconv>
#include <string>

#include "bench/pktgen/profile_load.h"
#include "dataplane/core/wire.h"

namespace millrace::pktgen {

using control::Cursor;
using control::ErrorList;

std::optional<double> read_decimal(const Cursor& at, double min, double max, ErrorList& errors) {
  const auto text = control::read_text(at, errors);
  if (!text) return std::nullopt;
  double value = 0;
  const char* end = text->data() + text->size();
  const auto parsed = std::from_chars(text->data(), end, value, std::chars_format::fixed);
  if (parsed.ec == std::errc{} && parsed.ptr == end && value >= min && value <= max) return value;
  const auto shown = [](double number) {
    std::string digits = std::to_string(number);
    digits.erase(digits.find_last_not_of('0') + 1);
    return digits.back() == '.' ? digits.substr(0, digits.size() - 1) : digits;
  };
  errors.add(at,
             control::quote(*text) + " is not a number from " + shown(min) + " to " + shown(max));
  return std::nullopt;
}

std::optional<Mac> read_mac(const Cursor& at, ErrorList& errors) {
  const auto text = control::read_text(at, errors);
  if (!text) return std::nullopt;
  Mac mac{};
  bool is_mac = text->size() == 17;
  for (std::size_t i = 0; is_mac && i < mac.size(); ++i) {
    const char* digits = text->data() + i * 3;
    const auto parsed = std::from_chars(digits, digits + 2, mac[i], 16);
    is_mac = parsed.ptr == digits + 2 && (i == 5 || digits[2] == ':');
  }
  if (is_mac) return mac;
  errors.add(at, control::quote(*text) + " is not a MAC address like 02:00:00:00:00:01");
  return std::nullopt;
}

std::optional<Span> read_span(const Cursor& at, Span allowed, ErrorList& errors) {
  const auto text = control::read_text(at, errors);
  if (!text) return std::nullopt;
  const char* end = text->data() + text->size();
  Span span{};
  auto parsed = std::from_chars(text->data(), end, span.first);
  span.last = span.first;
  if (parsed.ec == std::errc{} && parsed.ptr < end && *parsed.ptr == '-') {
    parsed = std::from_chars(parsed.ptr + 1, end, span.last);
  }
  const bool is_span = parsed.ec == std::errc{} && parsed.ptr == end && span.first <= span.last &&
                       span.first >= allowed.first && span.last <= allowed.last;
  if (is_span) return span;
  const std::string range = std::to_string(allowed.first) + "-" + std::to_string(allowed.last);
  errors.add(at, control::quote(*text) + " is not a number or range FIRST-LAST within " + range);
  return std::nullopt;
}

std::optional<AddressRange> read_prefix(const Cursor& at, ErrorList& errors) {
  const auto text = control::read_text(at, errors);
  if (!text) return std::nullopt;
  const std::size_t slash = text->find('/');
  const auto first = control::IpAddress::parse(text->substr(0, slash));
  std::uint32_t length = 0;
  const std::uint32_t bits = first && !first->is_v4() ? 128 : 32;
  bool is_prefix = first.has_value() && slash != std::string::npos;
  if (is_prefix) {
    const char* end = text->data() + text->size();
    const auto parsed = std::from_chars(text->data() + slash + 1, end, length);
    is_prefix =
        parsed.ec == std::errc{} && parsed.ptr == end && length <= bits && bits - length <= 24;
  }
  if (!is_prefix) {
    errors.add(at, control::quote(*text) + " is not a prefix like 10.0.0.0/8 or 2001:db8::/104, " +
                       "of at most 2^24 addresses");
    return std::nullopt;
  }
  AddressRange range{.first = first->addr, .count = 1u << (bits - length)};
  std::uint32_t low = core::from_be32(core::v4_of(range.first));
  low &= ~(range.count - 1);
  if (range.count > 2) {  // without the network's own and broadcast
    ++low;
    range.count -= 2;
  }
  core::store(range.first.bytes + core::kV4InMapped, core::to_be32(low));
  return range;
}

std::optional<Rate> read_rate(const Cursor& at, ErrorList& errors) {
  const auto text = control::read_text(at, errors);
  if (!text) return std::nullopt;
  const auto rate = parse_rate(*text);
  if (rate) return *rate;
  errors.add(at, rate.error().message);
  return std::nullopt;
}

}  // namespace millrace::pktgen
