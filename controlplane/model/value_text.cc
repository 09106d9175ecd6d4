// SPDX-License-Identifier: Apache-2.0
#include "controlplane/model/value_text.h"

#include <algorithm>
#include <charconv>

namespace millrace::control {

std::string range_text(Range range) {
  std::string text = std::to_string(range.min) + "-" + std::to_string(range.max);
  if (!range.unit.empty()) text += " " + std::string(range.unit);
  return text;
}

Result<std::uint32_t> parse_number(std::string_view text, Range range) {
  std::uint32_t value = 0;
  const bool is_plain = !text.empty() && std::ranges::all_of(text, is_digit);
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool fits = parsed.ec == std::errc{} && value >= range.min && value <= range.max;
  if (is_plain && fits) return value;
  return Error{quote(text) + " must be a whole number, " + range_text(range)};
}

}  // namespace millrace::control
