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
  std::uint8_t tcp_flags = core::tcp::kAck;
};

// Makes frame number `flow` (0 to 2^32 - 1): client address 10.x.y.z or 2001:db8::x, port 1024 up.
class FrameWriter {
 public:
  explicit FrameWriter(const FlowShape& shape) : is_v4_(core::is_v4(shape.vip)) {
    const std::uint32_t ip_bytes = is_v4_ ? core::ipv4::kBytes : core::ipv6::kBytes;
    const bool is_tcp = shape.protocol == MR_PROTOCOL_TCP;
    const std::uint32_t l4_bytes = is_tcp ? core::tcp::kBytes : core::udp::kBytes;
    l4_offset_ = core::eth::kBytes + ip_bytes;
    length_ = std::max(l4_offset_ + l4_bytes, 60u);
    std::uint8_t* ip = frame_.data() + core::eth::kBytes;
    frame_[0] = 2;
    frame_[core::eth::kSource] = 2;
    frame_[core::eth::kSource + 5] = 9;
    if (is_v4_) {
      core::store(frame_.data() + core::eth::kType, be(core::EtherType::ipv4));
      ip[0] = 0x45;
      core::store(ip + core::ipv4::kTotalLength,
                  core::to_be16(static_cast<std::uint16_t>(ip_bytes + l4_bytes)));
      ip[core::ipv4::kTtl] = 64;
      ip[core::ipv4::kProtocol] = shape.protocol;
      core::store(ip + core::ipv4::kDestination, core::v4_of(shape.vip));
      base_sum_ = core::fold(core::sum_bytes({ip, core::ipv4::kBytes}));
    } else {
      core::store(frame_.data() + core::eth::kType, be(core::EtherType::ipv6));
      ip[0] = 0x60;
      core::store(ip + core::ipv6::kPayloadLength,
                  core::to_be16(static_cast<std::uint16_t>(l4_bytes)));
      ip[core::ipv6::kNextHeader] = shape.protocol;
      ip[core::ipv6::kHopLimit] = 64;
      core::store(ip + core::ipv6::kSource, core::to_be32(0x20010db8));
      std::memcpy(ip + core::ipv6::kDestination, shape.vip.bytes, 16);
    }
    std::uint8_t* l4 = frame_.data() + l4_offset_;
    core::store(l4 + 2, core::to_be16(shape.port));
    if (is_tcp) {
      l4[core::tcp::kDataOffset] = 5 << 4;
      l4[core::tcp::kFlags] = shape.tcp_flags;
    } else {
      core::store(l4 + core::udp::kLength, core::to_be16(core::udp::kBytes));
    }
    // Any value will do: the forwarder updates the checksum and never verifies it.
    core::store(l4 + (is_tcp ? core::tcp::kChecksum : core::udp::kChecksum), std::uint16_t{0x1234});
  }

  [[nodiscard]] std::uint32_t length() const { return length_; }

  // Writes all headers of the flow's next packet.
  void write(std::uint8_t* frame, std::uint32_t flow) const {
    std::memcpy(frame, frame_.data(), kCopied);
    std::uint8_t* ip = frame + core::eth::kBytes;
    const std::uint32_t host = core::to_be32(0x0a000000u | flow >> 14);
    const std::uint16_t port = core::to_be16(static_cast<std::uint16_t>(1024 + (flow & 0x3fff)));
    if (is_v4_) {
      core::store(ip + core::ipv4::kSource, host);
      core::store(ip + core::ipv4::kChecksum,
                  static_cast<std::uint16_t>(~core::fold(std::uint64_t{base_sum_} + host)));
    } else {
      core::store(ip + core::ipv6::kSource + 12, host);
    }
    core::store(frame + l4_offset_, port);
  }

 private:
  static constexpr std::uint32_t kCopied = 80;  // whole vectors; frames have room for it
  std::array<std::uint8_t, 128> frame_{};
  bool is_v4_;
  std::uint32_t l4_offset_ = 0;
  std::uint32_t length_ = 0;
  std::uint16_t base_sum_ = 0;
};

// Makes what a target got into what it answers: addresses and ports swapped, which changes no
// checksum. MAC addresses are the caller's.
inline void turn_round(std::uint8_t* frame, bool is_v4) {
  std::uint8_t* source =
      frame + core::eth::kBytes + (is_v4 ? core::ipv4::kSource : core::ipv6::kSource);
  const std::uint32_t addr_bytes = is_v4 ? 4 : 16;
  std::swap_ranges(source, source + addr_bytes, source + addr_bytes);
  std::uint8_t* port =
      frame + core::eth::kBytes + (is_v4 ? core::ipv4::kBytes : core::ipv6::kBytes);
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
