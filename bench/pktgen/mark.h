// SPDX-License-Identifier: Apache-2.0
//
// What a measured packet carries as the first 16 bytes of its payload: which stream, which number,
// when. HOT. Address translation leaves payloads alone, so the receiver finds it whatever the
// balancer did to the headers.
#pragma once

#include <cstdint>

#include "dataplane/core/wire.h"

namespace millrace::pktgen {

inline constexpr std::uint32_t kMarkBytes = 16;

struct Mark {
  std::uint8_t stream = 0;
  std::uint64_t sequence = 0;  // of the stream, below 2^40: 20 hours at 14.88 Mpps
  std::uint64_t sent_ns = 0;

  friend bool operator==(const Mark&, const Mark&) = default;
};

// A mark as the two words that it is on the wire.
struct MarkWords {
  std::uint64_t first;
  std::uint64_t second;
};

namespace detail {
inline constexpr std::uint64_t kMarkMagic = 0x4d52;  // "RM", in the low 16 bits
}

[[nodiscard]] inline MarkWords words_of(const Mark& mark) noexcept {
  return {detail::kMarkMagic | std::uint64_t{mark.stream} << 16 | mark.sequence << 24,
          mark.sent_ns};
}

// Reads the mark at `at`; false when there is none.
[[nodiscard]] inline bool read_mark(const std::uint8_t* at, Mark& mark) noexcept {
  const auto first = core::load<std::uint64_t>(at);
  if ((first & 0xffff) != detail::kMarkMagic) return false;
  mark = {.stream = static_cast<std::uint8_t>(first >> 16),
          .sequence = first >> 24,
          .sent_ns = core::load<std::uint64_t>(at + 8)};
  return true;
}

}  // namespace millrace::pktgen
