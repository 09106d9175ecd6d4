// SPDX-License-Identifier: Apache-2.0
//
// Packets that no client in good faith would send, one of each kind. Cold: built once, then sent in
// turn. The numbers are those of tests/FAULTS.md; what a balancer owes each kind is said there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/pktgen/capture.h"
#include "bench/pktgen/profile.h"

namespace millrace::pktgen {

struct MalformedFrame {
  std::uint8_t fault;  // of tests/FAULTS.md
  std::string name;    // "ipv4-header-beyond-total-length"
  Frame frame;         // 14 bytes or more
};

// The whole set of the destination's family. `headers` give MACs, VLAN tag, the first client and
// the destination; protocol and flags are each frame's own.
[[nodiscard]] std::vector<MalformedFrame> malformed_frames(const Headers& headers);

}  // namespace millrace::pktgen
