// SPDX-License-Identifier: Apache-2.0
//
// Mbufs on one side, core's packet views on the other. HOT: first and last step of a packet's way.
//
//   nic or ring --mbufs--> view_mbufs() --packets--> Forwarder
//   Forwarder --verdicts--> take_view() --mbuf--> nic
//
// mbufs[i], packets[i] and verdicts[i] are the same packet. An mbuf's port field carries the nic's
// index (not DPDK's device number), so that it survives a ring to another worker.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "dataplane/core/packet.h"
#include "dataplane/dpdk/mbuf.h"

namespace millrace::dpdk {

struct MbufBurst {
  std::array<Mbuf*, core::kBurstMax> mbufs;
  core::Burst view;
};

// Makes burst.view describe mbufs[0, view.count). The parser needs a frame in one piece: frames of
// several segments are copied together if they fit into their first mbuf, else freed, and the burst
// closes ranks. Returns how many were freed (MR_DROP_MULTI_SEGMENT). `bytes` grows by the L2 bytes
// of all frames, freed ones included.
[[nodiscard]] std::uint32_t view_mbufs(MbufBurst& burst, std::uint64_t& bytes) noexcept;

// Writes what the forwarder made of the packet back: where its data begins and how long it is.
void take_view(Mbuf* mbuf, const core::Packet& packet) noexcept;

// The nic that the mbuf is marked with.
[[nodiscard]] std::uint8_t nic_of(const Mbuf* mbuf) noexcept;

void free_mbufs(std::span<Mbuf* const> mbufs) noexcept;

}  // namespace millrace::dpdk
