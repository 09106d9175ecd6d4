// SPDX-License-Identifier: Apache-2.0
//
// UTF-8 by the table of RFC 3629 section 4. Cold.
#include "controlplane/yaml/utf8.h"

#include <cstdint>

namespace millrace::control {
namespace {

// What may follow a lead byte: how many bytes, and the range of the first of them, which is what
// rules out overlong forms, surrogates and code points beyond U+10FFFF.
struct Tail {
  std::size_t count;
  std::uint8_t second_min;
  std::uint8_t second_max;
};

std::optional<Tail> tail_of(std::uint8_t lead) {
  if (lead < 0x80) return Tail{0, 0, 0};
  if (lead >= 0xc2 && lead <= 0xdf) return Tail{1, 0x80, 0xbf};
  if (lead == 0xe0) return Tail{2, 0xa0, 0xbf};
  if (lead == 0xed) return Tail{2, 0x80, 0x9f};
  if (lead > 0xe0 && lead <= 0xef) return Tail{2, 0x80, 0xbf};
  if (lead == 0xf0) return Tail{3, 0x90, 0xbf};
  if (lead > 0xf0 && lead <= 0xf3) return Tail{3, 0x80, 0xbf};
  if (lead == 0xf4) return Tail{3, 0x80, 0x8f};
  return std::nullopt;
}

bool is_control(std::uint8_t byte) {
  return (byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || byte == 0x7f;
}

}  // namespace

std::optional<std::size_t> find_bad_utf8(std::string_view text) {
  const auto byte_at = [text](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  std::size_t at = 0;
  while (at < text.size()) {
    const auto tail = tail_of(byte_at(at));
    if (!tail || is_control(byte_at(at)) || text.size() - at <= tail->count) return at;
    for (std::size_t i = 1; i <= tail->count; ++i) {
      const std::uint8_t min = i == 1 ? tail->second_min : 0x80;
      const std::uint8_t max = i == 1 ? tail->second_max : 0xbf;
      if (byte_at(at + i) < min || byte_at(at + i) > max) return at;
    }
    at += 1 + tail->count;
  }
  return std::nullopt;
}

}  // namespace millrace::control
