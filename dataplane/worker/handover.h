// SPDX-License-Identifier: Apache-2.0
//
// Packets that came to the wrong worker. HOT.
//
// A flow table is its worker's own, so a packet must be handled by the worker that owns its flow
// (core/steering.h). Where a nic has fewer rx queues than there are workers, or spreads packets in
// another way, the worker that received the packet gives it to the owner: one single-producer,
// single-consumer ring for each ordered pair of workers, no locks. A full ring drops, counted.
// What came out of a ring is never given away again, even if workers disagree about its owner for
// the moment in which they adopt a config: it would go to and fro.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/contract/stats_abi.h"
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

  // Puts a packet aside for `owner`, another worker. At most a burst of them before deliver().
  void give(dpdk::Mbuf* mbuf, std::uint32_t owner) noexcept {
    Parcel& parcel = parcels_[owner];
    parcel.mbufs[parcel.count++] = mbuf;
    has_parcels_ = true;
  }
  // Hands over what was put aside, to each owner at once.
  void deliver() noexcept {
    if (has_parcels_) deliver_parcels();
  }

  // Fills `burst` from the next ring that has something for this worker.
  void take(dpdk::MbufBurst& burst) noexcept;

 private:
  struct Parcel {  // for one owner
    std::uint32_t count = 0;
    std::array<dpdk::Mbuf*, core::kBurstMax> mbufs;
  };
  void deliver_parcels() noexcept;

  HandoverRings& rings_;
  std::uint32_t worker_;
  mr_worker_stats& counters_;
  std::vector<Parcel> parcels_;  // by owner
  bool has_parcels_ = false;
  std::uint32_t take_next_ = 0;  // ring to look at first, so that none starves
};

}  // namespace millrace::worker
