// SPDX-License-Identifier: Apache-2.0
//
// Acts on verdicts: forward and reply go to a nic, punt to its kernel twin, drop back to the pool,
// hand_over to the worker that owns the flow. HOT: last step of a packet's way.
//
// The forwarder has counted each packet by its verdict. Where the nic or the twin then has no room,
// the packet moves from that counter to a drop reason; the counters here are the worker's private
// ones, so no reader ever sees one go down. What is handed over is counted when its ring took it.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/contract/stats_abi.h"
#include "dataplane/dpdk/exception_path.h"
#include "dataplane/dpdk/mbuf_burst.h"
#include "dataplane/dpdk/nic.h"
#include "dataplane/worker/handover.h"

namespace millrace::worker {

// What a worker sends on, by nic index.
struct Exits {
  std::vector<dpdk::TxQueue*> tx_queues;
  std::vector<const dpdk::ExceptionPath*>
      twins;  // null: the nic has none, what is punted is dropped
};

class Dispatch {
 public:
  // `counters` is the worker's own, not shared. Without `handover`, no verdict is hand_over.
  Dispatch(const Exits& exits, mr_worker_stats& counters, Handover* handover)
      : exits_(exits),
        counters_(counters),
        handover_(handover),
        outgoing_(exits.tx_queues.size()) {}

  // Uses up all mbufs of `burst`.
  void act(dpdk::MbufBurst& burst) noexcept;

 private:
  struct Outgoing {  // of one nic, in order
    std::uint32_t count = 0;
    std::uint32_t replies = 0;  // bit i: mbufs[i] is a reply of our own
    std::array<dpdk::Mbuf*, core::kBurstMax> mbufs;
    std::array<std::uint32_t, core::kBurstMax> lengths;
  };
  static_assert(core::kBurstMax <= 32, "one bit per packet of a burst");

  void stage(dpdk::Mbuf* mbuf, const core::Packet& packet, core::Verdict verdict) noexcept;
  void punt(const core::Packet& packet, std::uint8_t nic) noexcept;
  void send(std::uint32_t nic) noexcept;

  Exits exits_;
  mr_worker_stats& counters_;
  Handover* handover_;              // null: there is one worker
  std::vector<Outgoing> outgoing_;  // by nic; empty between calls
};

}  // namespace millrace::worker
