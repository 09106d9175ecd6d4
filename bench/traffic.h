// SPDX-License-Identifier: Apache-2.0
//
// Packets for benchmarks: 64-byte frames of as many flows as asked for, written into the frames of
// a burst as a nic would have. HOT: its cost is part of both arms of a comparison.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "dataplane/core/answer.h"
#include "dataplane/core/checksum.h"
#include "dataplane/core/packet.h"
#include "dataplane/core/wire.h"

namespace millrace::bench {

struct FlowShape {
  mr_addr vip{};
  std::uint16_t port = 80;
  std::uint8_t protocol = MR_PROTOCOL_TCP;
  std::uint8_t tcp_flags = MR_TCP_ACK;
  bool takes_any_port = false;  // the listener and its targets, which get the one that was asked
  // A power of two: on so many VIPs as kVipsMax allows, from `vip` up, and there from `port` up.
  std::uint32_t listeners = 1;
};
inline constexpr std::uint32_t kVipsMax = 64;

// Makes frame number `flow` (0 to 2^32 - 1): client address 10.x.y.z or 2001:db8::x, port 1024 up.
class FrameWriter {
 public:
  explicit FrameWriter(const FlowShape& shape)
      : is_v4_(core::is_v4(shape.vip)), port_(shape.port), listener_mask_(shape.listeners - 1) {
    const std::uint32_t ip_bytes = is_v4_ ? MR_IPV4_BYTES : MR_IPV6_BYTES;
    const bool is_tcp = shape.protocol == MR_PROTOCOL_TCP;
    const std::uint32_t l4_bytes = is_tcp ? MR_TCP_BYTES : MR_UDP_BYTES;
    l4_offset_ = MR_ETH_BYTES + ip_bytes;
    length_ = std::max(l4_offset_ + l4_bytes, 60u);
    std::uint8_t* ip = frame_.data() + MR_ETH_BYTES;
    frame_[0] = 2;
    frame_[MR_ETH_SOURCE] = 2;
    frame_[MR_ETH_SOURCE + 5] = 9;
    if (is_v4_) {
      core::store(frame_.data() + MR_ETH_TYPE, be(core::EtherType::ipv4));
      ip[0] = 0x45;
      core::store(ip + MR_IPV4_TOTAL_LENGTH,
                  core::to_be16(static_cast<std::uint16_t>(ip_bytes + l4_bytes)));
      ip[MR_IPV4_TTL] = 64;
      ip[MR_IPV4_PROTOCOL] = shape.protocol;
      core::store(ip + MR_IPV4_DESTINATION, core::v4_of(shape.vip));
      base_sum_ = mr_fold(core::sum_bytes({ip, MR_IPV4_BYTES}));
    } else {
      core::store(frame_.data() + MR_ETH_TYPE, be(core::EtherType::ipv6));
      ip[0] = 0x60;
      core::store(ip + MR_IPV6_PAYLOAD_LENGTH, core::to_be16(static_cast<std::uint16_t>(l4_bytes)));
      ip[MR_IPV6_NEXT_HEADER] = shape.protocol;
      ip[MR_IPV6_HOP_LIMIT] = 64;
      core::store(ip + MR_IPV6_SOURCE, core::to_be32(0x20010db8));
      std::memcpy(ip + MR_IPV6_DESTINATION, shape.vip.bytes, 16);
    }
    std::uint8_t* l4 = frame_.data() + l4_offset_;
    core::store(l4 + 2, core::to_be16(shape.port));
    if (is_tcp) {
      l4[MR_TCP_DATA_OFFSET] = 5 << 4;
      l4[MR_TCP_FLAGS] = shape.tcp_flags;
    } else {
      core::store(l4 + MR_UDP_LENGTH, core::to_be16(MR_UDP_BYTES));
    }
    // Any value will do: the forwarder updates the checksum and never verifies it.
    core::store(l4 + (is_tcp ? MR_TCP_CHECKSUM : MR_UDP_CHECKSUM), std::uint16_t{0x1234});
  }

  [[nodiscard]] std::uint32_t length() const { return length_; }

  // Writes all headers of the flow's next packet.
  void write(std::uint8_t* frame, std::uint32_t flow) const {
    std::memcpy(frame, frame_.data(), kCopied);
    std::uint8_t* ip = frame + MR_ETH_BYTES;
    const std::uint32_t host = core::to_be32(0x0a000000u | flow >> 14);
    const std::uint16_t port = core::to_be16(static_cast<std::uint16_t>(1024 + (flow & 0x3fff)));
    const std::uint32_t listener = flow * 2654435761u >> 16 & listener_mask_;
    const std::uint32_t vip = listener % kVipsMax;
    const auto vip_port = static_cast<std::uint16_t>(port_ + listener / kVipsMax);
    if (is_v4_) {
      core::store(ip + MR_IPV4_SOURCE, host);
      ip[MR_IPV4_DESTINATION + 3] = static_cast<std::uint8_t>(ip[MR_IPV4_DESTINATION + 3] + vip);
      const std::uint64_t sum = std::uint64_t{base_sum_} + host + (vip << 8);
      core::store(ip + MR_IPV4_CHECKSUM, static_cast<std::uint16_t>(~mr_fold(sum)));
    } else {
      core::store(ip + MR_IPV6_SOURCE + 12, host);
      ip[MR_IPV6_DESTINATION + 15] = static_cast<std::uint8_t>(ip[MR_IPV6_DESTINATION + 15] + vip);
    }
    core::store(frame + l4_offset_, port);
    core::store(frame + l4_offset_ + 2, core::to_be16(vip_port));
  }

 private:
  static constexpr std::uint32_t kCopied = 80;  // whole vectors; frames have room for it
  std::array<std::uint8_t, 128> frame_{};
  bool is_v4_;
  std::uint16_t port_;
  std::uint32_t listener_mask_;
  std::uint32_t l4_offset_ = 0;
  std::uint32_t length_ = 0;
  std::uint16_t base_sum_ = 0;
};

// Makes what a target got into what it answers: addresses and ports swapped, which changes no
// checksum. MAC addresses are the caller's.
inline void turn_round(std::uint8_t* frame, bool is_v4) {
  std::uint8_t* source = frame + MR_ETH_BYTES + (is_v4 ? MR_IPV4_SOURCE : MR_IPV6_SOURCE);
  const std::uint32_t addr_bytes = is_v4 ? 4 : 16;
  std::swap_ranges(source, source + addr_bytes, source + addr_bytes);
  std::uint8_t* port = frame + MR_ETH_BYTES + (is_v4 ? MR_IPV4_BYTES : MR_IPV6_BYTES);
  std::swap_ranges(port, port + 2, port + 2);
}

// Visits 0..count-1 in an order that neither caches nor prefetchers can guess: a multiplicative
// generator with full period over the next power of two, values beyond `count` skipped.
class FlowOrder {
 public:
  explicit FlowOrder(std::uint32_t count) : count_(count), mask_(std::bit_ceil(count) - 1) {}
  [[nodiscard]] std::uint32_t next() {
    do {
      state_ = state_ * 1664525u + 1013904223u;
    } while ((scrambled() & mask_) >= count_);
    return scrambled() & mask_;
  }

 private:
  // The low bits of the generator have short periods on their own only within the mask: with an odd
  // increment and a multiplier of 1 mod 4, the low k bits still have full period 2^k.
  [[nodiscard]] std::uint32_t scrambled() const { return state_; }
  std::uint32_t count_;
  std::uint32_t mask_;
  std::uint32_t state_ = 1;
};

}  // namespace millrace::bench
