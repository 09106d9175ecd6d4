// SPDX-License-Identifier: Apache-2.0
//
// When the next packet is due, at a fixed rate. HOT.
//
// Open loop: the schedule goes on whatever happens to the packets. A packet that could not be sent
// in time is sent late and the ones after it are not moved, so that a slow receiver meets the load
// that was asked for. Only what falls behind by more than kBehindMaxNs is given up, and said.
#pragma once

#include <cstdint>

namespace millrace::pktgen {

struct Rate {
  enum class Unit : std::uint8_t { unlimited, packets, bits };

  Unit unit = Unit::unlimited;
  double per_second = 0;
};

// What an Ethernet link carries with each frame (without FCS) besides it: FCS, preamble, start
// delimiter, gap. "10gbit" is then the line rate of a 10G link at every size.
inline constexpr std::uint32_t kWireOverheadBytes = 24;

class RateClock {
 public:
  // 20 ms: longer than a neighbour on the CPU may take, shorter than any figure would hide.
  static constexpr std::uint64_t kBehindMaxNs = 20'000'000;

  explicit RateClock(const Rate& rate) noexcept
      : packet_q32_(rate.unit == Rate::Unit::packets ? q32(1e9 / rate.per_second) : 0),
        byte_q32_(rate.unit == Rate::Unit::bits ? q32(8e9 / rate.per_second) : 0),
        is_unlimited_(rate.unit == Rate::Unit::unlimited) {}

  // The first packet is due at `now_ns`.
  void start(std::uint64_t now_ns) noexcept { due_ns_ = now_ns; }

  [[nodiscard]] bool is_due(std::uint64_t now_ns) const noexcept {
    return is_unlimited_ || due_ns_ <= now_ns;
  }

  // One packet of `frame_bytes` (without FCS) was given out.
  void charge(std::uint32_t frame_bytes) noexcept {
    // Below 2^32 ns times 2^32 at any rate of 1 per second or more.
    const std::uint64_t cost_q32 = packet_q32_ + byte_q32_ * (frame_bytes + kWireOverheadBytes);
    const std::uint64_t fraction = std::uint64_t{fraction_} + (cost_q32 & 0xffffffffu);
    fraction_ = static_cast<std::uint32_t>(fraction);
    due_ns_ += (cost_q32 >> 32) + (fraction >> 32);
  }

  // Call once per turn: gives up what can no longer be caught up.
  void give_up_lost_time(std::uint64_t now_ns) noexcept {
    if (is_unlimited_ || due_ns_ + kBehindMaxNs >= now_ns) [[likely]]
      return;
    given_up_ns_ += now_ns - due_ns_;
    due_ns_ = now_ns;
  }

  // Time of the schedule in which nothing was sent because the generator was not fast enough.
  [[nodiscard]] std::uint64_t given_up_ns() const noexcept { return given_up_ns_; }

 private:
  static std::uint64_t q32(double ns) noexcept { return static_cast<std::uint64_t>(ns * 0x1p32); }

  std::uint64_t due_ns_ = 0;
  std::uint32_t fraction_ = 0;  // of due_ns_, in 2^-32 ns
  std::uint64_t packet_q32_;
  std::uint64_t byte_q32_;
  bool is_unlimited_;
  std::uint64_t given_up_ns_ = 0;
};

}  // namespace millrace::pktgen
