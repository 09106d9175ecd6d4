// SPDX-License-Identifier: Apache-2.0
//
// Reading a fuzz input as numbers and byte runs; past its end everything is 0 and empty. Cold.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

namespace millrace::fuzz {

class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : left_(data, size) {}

  [[nodiscard]] bool is_empty() const { return left_.empty(); }

  std::uint8_t u8() {
    if (left_.empty()) return 0;
    const std::uint8_t value = left_[0];
    left_ = left_.subspan(1);
    return value;
  }
  std::uint16_t u16() {
    const std::uint32_t low = u8();
    return static_cast<std::uint16_t>(low | std::uint32_t{u8()} << 8);
  }
  std::uint32_t u32() {
    const std::uint32_t low = u16();
    return low | std::uint32_t{u16()} << 16;
  }
  // At most `count` bytes.
  std::span<const std::uint8_t> bytes(std::size_t count) {
    const auto taken = left_.first(std::min(count, left_.size()));
    left_ = left_.subspan(taken.size());
    return taken;
  }

 private:
  std::span<const std::uint8_t> left_;
};

// A claim that must hold whatever the input is.
inline void require(bool claim, const char* what) {
  if (claim) return;
  static_cast<void>(std::fprintf(stderr, "broken: %s\n", what));
  std::abort();
}

}  // namespace millrace::fuzz
