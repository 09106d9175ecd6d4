// SPDX-License-Identifier: Apache-2.0
//
// Packets that came to the wrong worker. HOT.
//
// A flow table is its worker's own, so a packet must be handled by the worker that owns its flow
// (core::owner_of). Where a nic has fewer rx queues than there are workers, or spreads packets in
// another way, the worker that received the packet gives it to the owner: one single-producer,
// single-consumer ring for each ordered pair of workers, no locks. A full ring drops, counted.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/contract/stats_abi.h"
#include "dataplane/core/config_view.h"
#include "dataplane/core/result.h"
#include "dataplane/dpdk/mbuf_burst.h"
#include "dataplane/dpdk/mbuf_ring.h"

namespace millrace::worker {

// Packets that may wait for an owner, per pair: at 1 Mpps, 1 ms. Larger only adds delay.
inline constexpr std::uint32_t kHandoverRingSize = 1024;

// The rings of all pairs; made once, outlives the workers.
class HandoverRings {
 public:
  [[nodiscard]] static Result<HandoverRings> create(std::uint32_t worker_count);

  [[nodiscard]] std::uint32_t worker_count() const noexcept { return worker_count_; }
  // `from` != `to`. The ring belongs to `from` for push and to `to` for pop.
  [[nodiscard]] dpdk::MbufRing& ring(std::uint32_t from, std::uint32_t to) noexcept {
    return rings_[from * worker_count_ + to];
  }

 private:
  explicit HandoverRings(std::uint32_t worker_count) : worker_count_(worker_count) {}
  std::uint32_t worker_count_;
  std::vector<dpdk::MbufRing> rings_;
};

// One worker's end of it.
class Handover {
 public:
  // `counters` is the worker's own, not shared.
  Handover(HandoverRings& rings, std::uint32_t worker, mr_worker_stats& counters);

  // Takes the packets that other workers own out of `burst`, which closes ranks.
  void give_away(dpdk::MbufBurst& burst, const core::ConfigView& config) noexcept;

  // Fills mbufs[0, ...) of `burst` from the next ring that has something for this worker and sets
  // burst.view.count.
  void take(dpdk::MbufBurst& burst) noexcept;

 private:
  struct Parcel {  // for one owner
    std::uint32_t count = 0;
    std::array<dpdk::Mbuf*, core::kBurstMax> mbufs;
  };
  void deliver(std::uint32_t owner) noexcept;

  HandoverRings& rings_;
  std::uint32_t worker_;
  mr_worker_stats& counters_;
  std::vector<Parcel> parcels_;  // by owner; empty between calls
  std::uint32_t take_next_ = 0;  // ring to look at first, so that none starves
};

}  // namespace millrace::worker
