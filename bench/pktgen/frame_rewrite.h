// SPDX-License-Identifier: Apache-2.0
//
// Gives a captured frame other addresses. Cold: done once, when the capture is read.
//
// Checksums are updated, not computed (RFC 1624): one that was wrong in the capture stays wrong.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "bench/pktgen/profile.h"

namespace millrace::pktgen {

struct FrameRewrite {
  Mac source_mac{};
  Mac destination_mac{};
  std::optional<mr_addr> destination;
  // Sources become client number (last 32 bits of the source) % address_count, so that equal
  // sources stay equal.
  std::optional<Clients> clients;
};

// Rewrites the MACs of any frame, and addresses of IPv4 and IPv6 packets (untagged or with one VLAN
// tag) of the family of the new ones. All else stays as it is.
void rewrite_frame(std::span<std::uint8_t> frame, const FrameRewrite& rewrite);

}  // namespace millrace::pktgen
