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
  forward,  // rewritten: send on `nic`
  reply,    // turned into our own answer (ARP, NA, echo, RST, "too big"): send on `nic`
  punt,     // untouched: hand to the kernel twin of `nic`
  drop,     // free it; `reason` has been counted by the forwarder
};

struct Verdict {
  VerdictKind kind;
  std::uint8_t nic;
  std::uint8_t reason;  // enum mr_drop_reason, for kind == drop
  std::uint8_t reserved;
};

struct Burst {
  std::uint32_t count = 0;  // <= kBurstMax
  std::array<Packet, kBurstMax> packets;
  std::array<Verdict, kBurstMax> verdicts;
};

}  // namespace millrace::core
