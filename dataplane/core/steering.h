// SPDX-License-Identifier: Apache-2.0
//
// Which of several workers owns a flow. HOT where there are several.
//
// Each worker has a flow table of its own, so the packets of a flow must meet at one worker, in
// both directions. What both directions show is the client's half, so the owner follows from that.
// The owner is the same for all workers of a node, also across restarts. So the hash has no secret
// of a table in it.
#pragma once

#include <cstdint>

#include "dataplane/core/flow_table.h"
#include "dataplane/core/fragment_store.h"

namespace millrace::core {

// Which packets a worker handles: those of its own flows, as one of `worker_count`.
struct Ownership {
  std::uint32_t worker;
  std::uint32_t worker_count;
};

// For a worker that is alone, or that was given packets because they are its own: all packets.
inline constexpr Ownership kOwnsAll{.worker = 0, .worker_count = 1};

// The worker that owns the flows of the client `key`, in [0, worker_count).
//
// A client opens its connections from neighbouring ports, and clients have neighbouring addresses.
// Each byte that differs moves the result by a fixed step, a fraction of a turn round the workers.
// With this factor (the best of 60 million random ones) these steps, and small multiples and sums
// of them, are far from whole turns. So few neighbours in a row share an owner.
[[nodiscard]] inline std::uint32_t owner_of(const ClientKey& key,
                                            std::uint32_t worker_count) noexcept {
  constexpr std::uint64_t kStep = 0xa23a68a252c54531;
  const std::uint64_t turn = (key.addr.low * kStep + key.addr.high + key.port_protocol) * kStep;
  return static_cast<std::uint32_t>((turn >> 32) * worker_count >> 32);
}

// The worker that knows the ports of a datagram whose fragments are under way, the same for all
// workers. Numbers of datagrams are neighbours, too.
[[nodiscard]] inline std::uint32_t owner_of(const DatagramKey& key,
                                            std::uint32_t worker_count) noexcept {
  const AddrWords addrs{.low = key.source.low ^ key.destination.high,
                        .high = key.source.high ^ key.destination.low};
  return owner_of(ClientKey{addrs, key.id}, worker_count);
}

}  // namespace millrace::core
