// SPDX-License-Identifier: Apache-2.0
//
// Turns a fuzz input into damage: small writes at any place of a valid block of memory. Deeper than
// arbitrary bytes, which fail at the first magic number. Cold.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "tests/fuzz/input.h"

namespace millrace::fuzz {

// Patches are [u32 offset][u8 count][bytes ...], until the input ends.
inline void damage(std::span<std::byte> memory, Input& input) {
  while (!input.is_empty() && !memory.empty()) {
    const std::size_t offset = input.u32() % memory.size();
    const auto bytes = input.bytes(input.u8());
    std::memcpy(memory.data() + offset, bytes.data(),
                std::min(bytes.size(), memory.size() - offset));
  }
}

}  // namespace millrace::fuzz
