// SPDX-License-Identifier: Apache-2.0
//
// What the forwarder keeps of a packet, a burst and a millisecond. HOT.
#pragma once

#include <cstdint>
#include <span>

#include "dataplane/contract/stats_abi.h"
#include "dataplane/core/packet.h"
#include "dataplane/core/parse.h"

namespace millrace::core {

// Where one worker counts. The forwarder adds to the arrays with relaxed stores as it goes, and to
// `worker` once per burst. Sizes are the segment's slot counts; slots beyond them are not counted.
struct WorkerCounters {
  mr_worker_stats* worker = nullptr;
  std::span<mr_listener_stats> listeners;
  std::span<mr_target_stats> targets;
};

// One packet on its way through the passes.
struct alignas(128) Work {
  Parsed parsed;
  std::uint64_t hash;           // of the client's half
  const mr_listener* listener;  // of the packet's destination; null: perhaps a reply
  mr_flow_record* candidate;    // FlowTable::first_candidate(), or no_flow()
  // FlowTable::head_of() the packet's flow, if the packet leaves a settled flow as it is. If the
  // packet opens, closes or resets, a value that no record has.
  std::uint32_t settled_head;
  Packet* packet;
  std::uint64_t selection_hash;  // with no_flow(): of the flow to start, or kNotForeseen
};
// A hash may have this value, too. It is then computed twice.
inline constexpr std::uint64_t kNotForeseen = 0;
struct BurstCounts {
  // Packets from bit kForwardedShift up, bytes below: one word to change per packet.
  std::uint64_t forwarded = 0;
  std::uint32_t replied = 0;
  std::uint32_t punted = 0;
  std::uint32_t hits = 0;
};
inline constexpr std::uint32_t kForwardedShift = 48;
inline constexpr std::uint64_t kNoHop = 0;      // a neighbour has a MAC address
inline constexpr std::uint8_t kNoOwner = 0xff;  // no worker: MR_WORKER_COUNT_MAX
// The listener found last, because most packets of a burst have the same. Port and protocol 0
// match no packet.
struct ListenerHint {
  AddrWords addr{};
  std::uint32_t port_protocol = 0;
  const mr_listener* listener = nullptr;

  [[nodiscard]] bool is_of(const Parsed& parsed) const noexcept {
    return ((parsed.destination.low ^ addr.low) | (parsed.destination.high ^ addr.high) |
            (parsed.destination_port_protocol ^ port_protocol)) == 0;
  }
};
// The VIP's end of a flow, as its client knows it.
struct VipEnd {
  const mr_listener& listener;
  std::uint16_t port_be;  // that the client asked for
};
// How many of a thing may still be done in this millisecond.
struct Budget {
  std::uint32_t per_ms;
  std::uint32_t left;
  [[nodiscard]] bool take() noexcept { return left != 0 && left-- != 0; }
};

}  // namespace millrace::core
