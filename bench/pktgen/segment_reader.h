// SPDX-License-Identifier: Apache-2.0
//
// A received packet as a path and a segment. HOT.
#pragma once

#include "bench/pktgen/segment_writer.h"
#include "dataplane/core/parse.h"
#include "dataplane/core/wire.h"

namespace millrace::pktgen {

[[nodiscard]] inline Path path_of(const core::Parsed& parsed) noexcept {
  return {.source = {parsed.source, parsed.source_port_be()},
          .destination = {parsed.destination, parsed.destination_port_be()}};
}

// `parsed` is of `packet`, with shape transport. The payload is what the IP header says there is.
[[nodiscard]] inline Segment read_segment(const core::Packet& packet,
                                          const core::Parsed& parsed) noexcept {
  const std::uint8_t* ip = packet.data + MR_ETH_BYTES;
  const std::uint8_t* l4 = packet.data + parsed.l4_offset();
  Segment segment;
  segment.ordinal = core::from_be16(core::load<std::uint16_t>(ip + (parsed.is_v4 ? 4 : 2)));
  std::uint32_t header_bytes = MR_UDP_BYTES;
  if (parsed.protocol == MR_PROTOCOL_TCP) {
    header_bytes = (l4[MR_TCP_DATA_OFFSET] >> 4) * 4u;
    segment.sequence = core::from_be32(core::load<std::uint32_t>(l4 + MR_TCP_SEQUENCE));
    segment.acknowledgement =
        core::from_be32(core::load<std::uint32_t>(l4 + MR_TCP_ACKNOWLEDGEMENT));
    segment.tcp_flags = parsed.tcp_flags;
  }
  segment.payload_bytes = MR_ETH_BYTES + parsed.ip_bytes - parsed.l4_offset() - header_bytes;
  segment.has_stamp = segment.payload_bytes >= kStampBytes;
  if (segment.has_stamp) segment.stamp = core::load<Stamp>(l4 + header_bytes);
  return segment;
}

}  // namespace millrace::pktgen
