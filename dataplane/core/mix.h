// SPDX-License-Identifier: Apache-2.0
//
// The step that the hashes of a worker's tables are made of. HOT.
#pragma once

#include <cstdint>

namespace millrace::core {

// Both halves of the product, folded: every bit of each factor reaches most bits of the result.
[[nodiscard]] inline std::uint64_t mix(std::uint64_t a, std::uint64_t b) noexcept {
  __extension__ using Product = unsigned __int128;
  const Product product = static_cast<Product>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}

}  // namespace millrace::core
