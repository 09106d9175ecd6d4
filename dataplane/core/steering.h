// SPDX-License-Identifier: Apache-2.0
//
// Which worker a packet belongs to, where the nic cannot tell. HOT when there are several workers.
#pragma once

#include <cstdint>

#include "dataplane/core/config_view.h"
#include "dataplane/core/packet.h"

namespace millrace::core {

// The worker that owns the packet's flow, in [0, worker_count): a hash of the client's address and
// port, which both directions show, so that request and reply meet in one flow table. Worker 0 owns
// everything that is not TCP or UDP. The same for all workers of a node, also across restarts.
[[nodiscard]] std::uint32_t owner_of(const Packet& packet, const ConfigView& config,
                                     std::uint32_t worker_count) noexcept;

}  // namespace millrace::core
