// SPDX-License-Identifier: Apache-2.0
//
// Gives a received packet to the client or the emulated target that it is for. HOT.
#pragma once

#include <cstdint>

#include "bench/pktgen/target_emulator.h"
#include "bench/pktgen/tcp_clients.h"
#include "dataplane/core/parse.h"

namespace millrace::pktgen {

struct Ends {
  TcpClients& clients;
  TargetEmulator* targets;  // null when none are emulated
  // No stream is sent beside them, so that whatever reaches a target was a client's.
  bool are_alone;
};

// False when it is no connection's; then it is as it was, or out of its encapsulation.
[[nodiscard]] inline bool deliver(core::Packet& packet, const Ends& ends,
                                  std::uint64_t now_ns) noexcept {
  core::Parsed parsed;
  core::parse(packet, parsed);
  const FlowMap& flows = ends.clients.flows();
  // Before anything is unwrapped: a client's own port may be that of GUE.
  if (parsed.shape == core::Shape::transport &&
      flows.flow_of({parsed.destination, parsed.destination_port_be()}) != FlowMap::kNoFlow) {
    ends.clients.receive(packet, parsed, now_ns);
    return true;
  }
  if (ends.targets == nullptr) return false;
  if (ends.targets->unwrap(packet, parsed)) core::parse(packet, parsed);
  if (parsed.shape != core::Shape::transport) return false;
  const bool is_client =
      flows.flow_of({parsed.source, parsed.source_port_be()}) != FlowMap::kNoFlow;
  if (!is_client && !(ends.are_alone && ends.targets->is_for_target(packet, parsed))) return false;
  ends.targets->receive(packet, parsed);
  return true;
}

}  // namespace millrace::pktgen
