// SPDX-License-Identifier: Apache-2.0
//
// The parts of the Internet checksum that answers of our own need: whole segments. Warm.
#include "dataplane/core/checksum.h"

namespace millrace::core {

std::uint64_t sum_bytes(std::span<const std::uint8_t> bytes) noexcept {
  std::uint64_t sum = 0;
  std::size_t at = 0;
  for (; at + 4 <= bytes.size(); at += 4) sum += load<std::uint32_t>(bytes.data() + at);
  if (at + 2 <= bytes.size()) {
    sum += load<std::uint16_t>(bytes.data() + at);
    at += 2;
  }
  if (at < bytes.size()) sum += bytes[at];
  return sum;
}

std::uint16_t transport_checksum(std::span<const std::uint8_t> source,
                                 std::span<const std::uint8_t> destination, std::uint8_t protocol,
                                 std::span<const std::uint8_t> segment) noexcept {
  const std::uint64_t pseudo =
      mr_sum_of_pseudo_header(sum_bytes(source) + sum_bytes(destination), protocol,
                              static_cast<std::uint32_t>(segment.size()));
  return static_cast<std::uint16_t>(~mr_fold(pseudo + sum_bytes(segment)));
}

}  // namespace millrace::core
