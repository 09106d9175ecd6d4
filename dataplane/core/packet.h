// SPDX-License-Identifier: Apache-2.0
//
// What the packet path works on: a burst of packet views and the verdict for each. HOT.
//
// dpdk/mbuf_burst fills a Burst from mbufs, core/forwarder rewrites the frames in place and sets
// one verdict each, worker/ acts on the verdicts. Nothing here knows where the memory comes from.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "dataplane/contract/flow_abi.h"

namespace millrace::core {

// Packets handled together. 32 keeps a burst's headers, bucket lines and records in L1 (3 x 2 KiB).
inline constexpr std::uint32_t kBurstMax = 32;

// A frame in writable, contiguous memory. The forwarder may change `length` (a RST is shorter than
// the packet it answers) and move `data` into `headroom` for headers that it puts in front.
struct Packet {
  std::uint8_t* data;      // first byte of the Ethernet header
  std::uint32_t length;    // bytes of the frame, without FCS
  std::uint16_t headroom;  // writable bytes before `data`
  std::uint8_t nic;        // index of the nic it came from
  std::uint8_t reserved;
};
static_assert(sizeof(Packet) == 16, "four packet views to a cache line");

enum class VerdictKind : std::uint8_t {
  forward,    // rewritten: send on `nic`
  reply,      // turned into our own answer (ARP, NA, echo, RST, "too big"): send on `nic`
  punt,       // untouched: hand to the kernel twin of `nic`
  drop,       // free it; `reason` has been counted by the forwarder
  hand_over,  // untouched and not counted: give to the worker `owner`
};

// One word, so that it is passed and stored as one.
class Verdict {
 public:
  Verdict() = default;
  [[nodiscard]] static Verdict forward(std::uint32_t nic) noexcept {
    return Verdict(VerdictKind::forward, nic);
  }
  [[nodiscard]] static Verdict reply(std::uint32_t nic) noexcept {
    return Verdict(VerdictKind::reply, nic);
  }
  [[nodiscard]] static Verdict punt(std::uint32_t nic) noexcept {
    return Verdict(VerdictKind::punt, nic);
  }
  [[nodiscard]] static Verdict drop(mr_drop_reason reason) noexcept {
    return Verdict(VerdictKind::drop, std::uint32_t{reason} << 8);
  }
  [[nodiscard]] static Verdict hand_over(std::uint32_t owner) noexcept {
    return Verdict(VerdictKind::hand_over, owner);
  }

  [[nodiscard]] VerdictKind kind() const noexcept {
    return static_cast<VerdictKind>(static_cast<std::uint8_t>(word_));
  }
  [[nodiscard]] std::uint8_t nic() const noexcept { return static_cast<std::uint8_t>(word_ >> 8); }
  // enum mr_drop_reason, for kind() == drop.
  [[nodiscard]] std::uint8_t reason() const noexcept {
    return static_cast<std::uint8_t>(word_ >> 16);
  }
  // Index of a worker, for kind() == hand_over.
  [[nodiscard]] std::uint8_t owner() const noexcept { return nic(); }

 private:
  Verdict(VerdictKind kind, std::uint32_t rest) noexcept
      : word_(static_cast<std::uint32_t>(kind) | rest << 8) {}

  std::uint32_t word_ = 0;  // kind, nic or owner, reason, from the lowest byte up
};

// The forwarder prefetches frames this many packets before it parses them. At about 10 ns per
// packet that is the time of one miss to memory.
inline constexpr std::uint32_t kParseAhead = 4;

struct Burst {
  std::uint32_t count = 0;  // <= kBurstMax
  // Longer than a burst, so that looking ahead needs no check for the end. Entries behind the burst
  // are only prefetched.
  std::array<Packet, kBurstMax + kParseAhead> packets;
  std::array<Verdict, kBurstMax> verdicts;
};

}  // namespace millrace::core
