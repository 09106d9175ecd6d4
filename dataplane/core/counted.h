// SPDX-License-Identifier: Apache-2.0
//
// Counts in messages for people. Cold.
#pragma once

#include <cstdint>
#include <string>

namespace millrace::core {

// "1 target", "0 targets": `what` is the singular of a word that takes an s.
[[nodiscard]] inline std::string counted(std::uint64_t count, const char* what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

}  // namespace millrace::core
