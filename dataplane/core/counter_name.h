// SPDX-License-Identifier: Apache-2.0
//
// Names of the engine's counters, for people and machines. Cold.
#pragma once

#include <cstddef>

namespace millrace::core {

// "rx_packets" for MR_COUNTER_RX_PACKETS; "unknown" for a number that this build does not know.
[[nodiscard]] const char* counter_name(std::size_t counter) noexcept;

}  // namespace millrace::core
