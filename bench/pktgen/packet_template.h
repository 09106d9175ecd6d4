// SPDX-License-Identifier: Apache-2.0
//
// Builds the packets of a stream: all headers once, when the stream is made, and then per packet
// only what differs (source, lengths, mark) and the checksums that follow from it. write() is HOT.
//
// Checksums are those of the headers without what differs, summed once, plus what differs: a
// handful of additions per packet, for any length, because the payload behind the mark is zero.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "bench/pktgen/flow_map.h"
#include "bench/pktgen/mark.h"
#include "bench/pktgen/profile.h"
#include "dataplane/core/checksum.h"
#include "dataplane/core/wire.h"

namespace millrace::pktgen {

// No frame is shorter on the wire, FCS left out.
inline constexpr std::uint32_t kFrameBytesMin = 60;

class PacketTemplate {
 public:
  // Writing covers this many bytes from the frame's start, or 64 if no frame of the stream has more
  // headers than that. What lies behind them must be zero: memory that this stream alone writes.
  static constexpr std::uint32_t kHeadBytesMax = 128;

  PacketTemplate(const Headers& headers, bool is_measured);

  // What all frames of the stream must have room for: headers, mark, and Ethernet's minimum.
  [[nodiscard]] std::uint32_t frame_bytes_min() const;
  // False for TCP segments that open or end a connection: they have no payload, and what a frame
  // has more than their headers is padding.
  [[nodiscard]] bool has_payload() const { return has_payload_; }

  struct Variation {
    std::uint32_t flow;
    std::uint32_t frame_bytes;  // frame_bytes_min() to 9600, without FCS
    MarkWords mark;             // zero if the stream is not measured
  };
  void write(std::uint8_t* frame, const Variation& variation) const noexcept;

 private:
  void build_link(const Headers& headers);
  void build_ip(const Headers& headers);
  void build_l4(const Headers& headers);
  void sum_constants();

  std::array<std::uint8_t, kHeadBytesMax> head_{};
  Divider ports_;
  std::uint32_t first_host_;  // the last 32 bits of the first client's address, host order
  std::uint64_t ip_sum_ = 0;  // of the IPv4 header, without source and length
  std::uint64_t l4_sum_ = 0;  // of pseudo-header and L4 header, without source and lengths
  std::uint16_t port_first_;
  std::uint8_t ip_offset_ = 0;
  std::uint8_t host_offset_ = 0;  // of the source address' last 32 bits
  std::uint8_t l4_offset_ = 0;
  std::uint8_t port_offset_ = 0;  // of the source port, or the echo identifier
  std::uint8_t checksum_offset_ = 0;
  std::uint8_t payload_offset_ = 0;
  Protocol protocol_;
  bool is_v4_;
  bool is_measured_;
  bool has_payload_;
  bool is_long_;  // headers and mark reach behind byte 64
};

inline void PacketTemplate::write(std::uint8_t* frame, const Variation& variation) const noexcept {
  std::memcpy(frame, head_.data(), 64);
  if (is_long_) std::memcpy(frame + 64, head_.data() + 64, 64);

  const std::uint32_t host = ports_.quotient(variation.flow);
  const std::uint32_t host_be = core::to_be32(first_host_ + host);
  const std::uint16_t port_be = core::to_be16(
      static_cast<std::uint16_t>(port_first_ + (variation.flow - host * ports_.divisor())));
  core::store(frame + host_offset_, host_be);
  core::store(frame + port_offset_, port_be);

  const std::uint32_t end = has_payload_ ? variation.frame_bytes : payload_offset_;
  const std::uint16_t l4_bytes_be = core::to_be16(static_cast<std::uint16_t>(end - l4_offset_));
  std::uint64_t l4_sum = l4_sum_ + port_be;
  if (is_v4_) {
    const std::uint16_t ip_bytes_be = core::to_be16(static_cast<std::uint16_t>(end - ip_offset_));
    core::store(frame + ip_offset_ + MR_IPV4_TOTAL_LENGTH, ip_bytes_be);
    const std::uint64_t ip_sum = ip_sum_ + host_be + ip_bytes_be;
    core::store(frame + ip_offset_ + MR_IPV4_CHECKSUM,
                static_cast<std::uint16_t>(~mr_fold(ip_sum)));
  } else {
    core::store(frame + ip_offset_ + MR_IPV6_PAYLOAD_LENGTH, l4_bytes_be);
  }
  // ICMP for IPv4 is the one without a pseudo-header.
  if (!is_v4_ || protocol_ != Protocol::icmp) l4_sum += std::uint64_t{host_be} + l4_bytes_be;
  if (protocol_ == Protocol::udp) {
    core::store(frame + l4_offset_ + MR_UDP_LENGTH, l4_bytes_be);
    l4_sum += l4_bytes_be;
  }
  if (is_measured_) {
    const MarkWords& mark = variation.mark;
    core::store(frame + payload_offset_, mark);
    l4_sum += (mark.first & 0xffffffffu) + (mark.first >> 32) + (mark.second & 0xffffffffu) +
              (mark.second >> 32);
  }
  auto checksum = static_cast<std::uint16_t>(~mr_fold(l4_sum));
  if (checksum == 0 && protocol_ == Protocol::udp) checksum = 0xffff;  // 0 means "none" (RFC 768)
  core::store(frame + checksum_offset_, checksum);
}

}  // namespace millrace::pktgen
