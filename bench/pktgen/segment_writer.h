// SPDX-License-Identifier: Apache-2.0
//
// Writes the segments and datagrams of connections: any source, any destination, right checksums.
// write() is HOT.
//
// A segment with 8 bytes of payload or more says at their start whose they are (flow, number of the
// connection); the rest is zero. Every one carries an ordinal that counts the segments of its
// connection and side, in the IPv4 identification or the IPv6 flow label, which translation leaves
// alone: so the receiver can tell reordering by the network from a retransmission.
#pragma once

#include <array>
#include <cstdint>

#include "bench/pktgen/flow_map.h"
#include "bench/pktgen/profile.h"
#include "dataplane/core/wire.h"

namespace millrace::pktgen {

inline constexpr std::uint32_t kStampBytes = 8;

struct Stamp {
  std::uint32_t connection = 0;  // counts the connections of a flow, from 1
  std::uint32_t flow = 0;

  friend bool operator==(const Stamp&, const Stamp&) = default;
};

struct Segment {
  std::uint32_t sequence = 0;
  std::uint32_t acknowledgement = 0;
  std::uint32_t payload_bytes = 0;
  std::uint16_t ordinal = 0;
  std::uint8_t tcp_flags = 0;  // TCP only
  bool has_stamp = false;      // set when read; write() stamps whatever has room
  Stamp stamp;
};

struct Path {
  Endpoint source;
  Endpoint destination;
};

struct SegmentShape {
  Protocol protocol = Protocol::tcp;  // tcp or udp
  bool is_v4 = true;
  Mac source_mac{};
  Mac destination_mac{};
};

class SegmentWriter {
 public:
  explicit SegmentWriter(const SegmentShape& shape);

  // Returns the frame's length. `frame` is zero behind the headers and stays so.
  [[nodiscard]] std::uint32_t write(std::uint8_t* frame, const Path& path,
                                    const Segment& segment) const noexcept;

  // Of an Ethernet frame of 1518 bytes.
  [[nodiscard]] std::uint32_t payload_bytes_max() const noexcept { return 1514u - header_bytes_; }

 private:
  std::array<std::uint8_t, 128> head_{};
  std::uint64_t ip_sum_ = 0;
  std::uint64_t l4_sum_ = 0;
  std::uint32_t header_bytes_ = 0;
  bool is_v4_;
  bool is_tcp_;
};

}  // namespace millrace::pktgen
