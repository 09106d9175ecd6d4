// SPDX-License-Identifier: Apache-2.0
//
// A Snapshot as the JSON that the API gives out. Cold; pure functions of their arguments.
//
// Field names are the words of the vocabulary with their unit; numbers are numbers; digests and
// hashes are hexadecimal text, because JSON readers lose the low bits of large numbers.
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "controlplane/reconcile/snapshot.h"

namespace millrace::control {

[[nodiscard]] std::string hex_text(std::uint64_t value);  // "0x00000000000000ff"

// `boottime_ns` is CLOCK_BOOTTIME now.
[[nodiscard]] boost::json::value status_view(const Snapshot& snapshot, std::uint64_t boottime_ns);
// `group`: only the target group of that name, which must exist.
[[nodiscard]] boost::json::value targets_view(const Snapshot& snapshot,
                                              const std::optional<std::string>& group);
[[nodiscard]] boost::json::value listeners_view(const Snapshot& snapshot);
// Sums over the workers, then each worker.
[[nodiscard]] boost::json::value counters_view(const Snapshot& snapshot);

}  // namespace millrace::control
