// SPDX-License-Identifier: Apache-2.0
//
// Which of several workers owns a flow. HOT where there are several.
//
// Each worker has a flow table of its own, so the packets of a flow must meet on one of them, in
// both directions. The owner follows from what both show: the client's half. It is the same for all
// workers of a node, also across restarts, which is why no table's secret is in it.
#pragma once

#include <cstdint>

#include "dataplane/core/flow_table.h"

namespace millrace::core {

// Which packets a worker is to handle: its own, as one of so many.
struct Ownership {
  std::uint32_t worker;
  std::uint32_t worker_count;
};

// Of a worker that is alone, or that was given the packets because they are its own: all.
inline constexpr Ownership kOwnsAll{.worker = 0, .worker_count = 1};

// The worker that owns the flows of the client `key`, in [0, worker_count).
//
// A client opens its connections from neighbouring ports, and clients have neighbouring addresses:
// what is next to each other goes round the workers by the same step, a fraction of a turn for each
// byte that differs. With this factor (the best of 60 million random ones) all those steps, their
// double and the like are far from whole turns, and so few neighbours in a row share an owner.
[[nodiscard]] inline std::uint32_t owner_of(const ClientKey& key,
                                            std::uint32_t worker_count) noexcept {
  constexpr std::uint64_t kStep = 0xa23a68a252c54531;
  const std::uint64_t turn = (key.addr.low * kStep + key.addr.high + key.port_protocol) * kStep;
  return static_cast<std::uint32_t>((turn >> 32) * worker_count >> 32);
}

}  // namespace millrace::core
