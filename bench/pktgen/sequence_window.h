// SPDX-License-Identifier: Apache-2.0
//
// Which numbers of a stream have arrived: duplicates and reordering as RFC 4737 counts them. HOT.
// One bit per number for the last 2^18 numbers, 32 KiB: what comes later than that is `stale` and
// counts as lost.
#pragma once

#include <cstdint>
#include <vector>

namespace millrace::pktgen {

class SequenceWindow {
 public:
  static constexpr std::uint64_t kWindow = 1u << 18;

  SequenceWindow() : bits_(kWindow / 64) {}

  void record(std::uint64_t sequence) noexcept {
    if (sequence >= next_) {
      forget_up_to(sequence);
      set(sequence);
      next_ = sequence + 1;
      ++unique_;
    } else if (next_ - sequence > kWindow) {
      ++stale_;
    } else if (is_set(sequence)) {
      ++duplicates_;
    } else {
      set(sequence);
      ++unique_;
      ++reordered_;
    }
  }

  [[nodiscard]] std::uint64_t unique() const { return unique_; }  // numbers that arrived
  [[nodiscard]] std::uint64_t reordered() const { return reordered_; }
  [[nodiscard]] std::uint64_t duplicates() const { return duplicates_; }
  [[nodiscard]] std::uint64_t stale() const { return stale_; }

 private:
  [[nodiscard]] bool is_set(std::uint64_t sequence) const noexcept {
    return (bits_[sequence % kWindow / 64] >> (sequence % 64) & 1) != 0;
  }
  void set(std::uint64_t sequence) noexcept {
    bits_[sequence % kWindow / 64] |= std::uint64_t{1} << (sequence % 64);
  }
  // The places of [next_, sequence] held numbers of a window ago.
  void forget_up_to(std::uint64_t sequence) noexcept {
    std::uint64_t from = next_;
    if (sequence - from >= kWindow) from = sequence - kWindow + 1;
    for (std::uint64_t number = from; number <= sequence; ++number) {
      bits_[number % kWindow / 64] &= ~(std::uint64_t{1} << (number % 64));
    }
  }

  std::vector<std::uint64_t> bits_;
  std::uint64_t next_ = 0;  // one above the highest that arrived
  std::uint64_t unique_ = 0;
  std::uint64_t reordered_ = 0;
  std::uint64_t duplicates_ = 0;
  std::uint64_t stale_ = 0;
};

}  // namespace millrace::pktgen
