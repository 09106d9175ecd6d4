// SPDX-License-Identifier: Apache-2.0
//
// What a load balancer must never do to a connection, counted. HOT.
#pragma once

#include <array>
#include <cstdint>
#include <numeric>

namespace millrace::pktgen {

enum class Violation : std::uint8_t {
  moved,              // packets of one connection reached two targets
  wrong_source,       // a target saw no client, or a client an answer that is not the VIP's
  wrong_destination,  // a client's packet arrived with a destination that no target has
  bad_checksum,       // of TCP or UDP
  out_of_order,       // overtaken, or delivered twice
  wrong_content,      // bytes of another connection, or more than were due
  unexpected,         // no state of the connection allows it
};
inline constexpr std::size_t kViolationKinds = 7;

inline constexpr std::array<const char*, kViolationKinds> kViolationNames = {
    "moved",        "wrong_source",  "wrong_destination", "bad_checksum",
    "out_of_order", "wrong_content", "unexpected"};

class Violations {
 public:
  void count(Violation kind) noexcept { ++counts_[static_cast<std::size_t>(kind)]; }
  [[nodiscard]] std::uint64_t of(Violation kind) const noexcept {
    return counts_[static_cast<std::size_t>(kind)];
  }
  [[nodiscard]] std::uint64_t total() const noexcept {
    return std::accumulate(counts_.begin(), counts_.end(), std::uint64_t{0});
  }

 private:
  std::array<std::uint64_t, kViolationKinds> counts_{};
};

}  // namespace millrace::pktgen
