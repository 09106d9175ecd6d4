// SPDX-License-Identifier: Apache-2.0
//
// A set of records by index. The next member behind a given index is found at once, however far
// away it is. HOT: changed a few times in a flow's life, asked when the table is full.
//
//   level 0   a bit per record
//   level 1   a bit per word of level 0 that is not empty, and so on up to a single word
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <vector>

#include "dataplane/contract/flow_table_abi.h"

namespace millrace::core {

class RecordSet {
 public:
  // Of records [0, size); size is 1 to MR_FLOW_CAPACITY_MAX. An eighth of a byte each.
  explicit RecordSet(std::uint32_t size) {
    do {
      size = (size + 63) / 64;
      levels_[level_count_++].resize(size);
    } while (size > 1);
  }

  void insert(std::uint32_t index) noexcept {
    for (std::uint32_t level = 0; level < level_count_; ++level, index /= 64) {
      std::uint64_t& word = levels_[level][index / 64];
      const bool was_empty = word == 0;
      word |= bit_of(index);
      if (!was_empty) return;
    }
  }

  void erase(std::uint32_t index) noexcept {
    for (std::uint32_t level = 0; level < level_count_; ++level, index /= 64) {
      std::uint64_t& word = levels_[level][index / 64];
      word &= ~bit_of(index);
      if (word != 0) return;
    }
  }

  // The first member at `index` or behind it; MR_RECORD_NONE when there is none.
  [[nodiscard]] std::uint32_t first_from(std::uint32_t index) const noexcept {
    for (std::uint32_t level = 0; level < level_count_; ++level) {
      const std::uint32_t word = index / 64;
      if (word >= levels_[level].size()) return MR_RECORD_NONE;
      const std::uint64_t behind = levels_[level][word] >> index % 64 << index % 64;
      if (behind != 0) return descend(level, word * 64 + first_bit(behind));
      index = word + 1;
    }
    return MR_RECORD_NONE;
  }

 private:
  static constexpr std::uint32_t kLevelsMax = 5;  // 64^5 records
  static_assert(MR_FLOW_CAPACITY_MAX <= 1u << 30);

  [[nodiscard]] static std::uint64_t bit_of(std::uint32_t index) noexcept {
    return std::uint64_t{1} << index % 64;
  }
  [[nodiscard]] static std::uint32_t first_bit(std::uint64_t word) noexcept {
    return static_cast<std::uint32_t>(std::countr_zero(word));
  }
  [[nodiscard]] std::uint32_t descend(std::uint32_t level, std::uint32_t index) const noexcept {
    while (level-- != 0) index = index * 64 + first_bit(levels_[level][index]);
    return index;
  }

  std::array<std::vector<std::uint64_t>, kLevelsMax> levels_;
  std::uint32_t level_count_ = 0;
};

}  // namespace millrace::core
