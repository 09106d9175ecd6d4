// SPDX-License-Identifier: Apache-2.0
//
// A worker: the poll loop around core's packet path. HOT.
//
//   every turn, every rx queue   queue --> Forwarder --> Dispatch --> nic, twin, pool, owner's ring
//   every turn                   handover rings ---^
//   every 32 us                  housekeeping
//
// A worker is made of parts that it does not own, so that tests and benchmarks drive one with any
// nic. One thread; nothing here is shared but what the parts share.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "dataplane/core/flow_table.h"
#include "dataplane/core/forwarder.h"
#include "dataplane/dpdk/bond_turn.h"
#include "dataplane/dpdk/clock.h"
#include "dataplane/dpdk/mbuf_burst.h"
#include "dataplane/dpdk/mbuf_pool.h"
#include "dataplane/dpdk/nic.h"
#include "dataplane/worker/dispatch.h"
#include "dataplane/worker/handover.h"
#include "dataplane/worker/housekeeping.h"
#include "dataplane/worker/pace.h"

namespace millrace::worker {

struct WorkerOptions {
  std::uint32_t index = 0;
  std::vector<dpdk::RxQueue> rx_queues;  // this worker's; none: it lives on handover
  Exits exits;
  std::vector<dpdk::BondTurn> bond_turns = {};           // one for each nic that is a bond
  core::FlowTable flow_table = core::FlowTable::none();  // its own; its memory outlives it
  std::vector<core::MacAddr> nic_macs;
  const NicMacs* changing_macs = nullptr;  // null: they never change
  ConfigExchange* configs = nullptr;
  HandoverRings* handover_rings = nullptr;  // null: there is one worker
  dpdk::MbufRing* announcements = nullptr;  // worker 0 only, with `pool`; else null
  const dpdk::MbufPool* pool = nullptr;
  mr_worker_stats* published = nullptr;  // in the stats segment, like the next two
  std::span<mr_listener_stats> listener_stats;
  std::span<mr_target_stats> target_stats;
  bool spins = false;
};

class Worker {
 public:
  explicit Worker(const WorkerOptions& options);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Polls until `stop` is true, then publishes the last counters. Runs on the worker's own thread.
  void run(const std::atomic<bool>& stop) noexcept;

  // One turn: handles what is there now. Returns how many packets that were.
  std::uint32_t turn(std::uint64_t now_ns) noexcept;
  // Housekeeping now. Returns how many frames of the node's own were sent.
  std::uint32_t keep_house(std::uint64_t now_ns) noexcept { return housekeeping_.run(now_ns); }

  [[nodiscard]] const core::FlowTable& flows() const noexcept { return forwarder_.flows(); }
  // What the worker has counted so far; published by housekeeping.
  [[nodiscard]] const mr_worker_stats& counters() const noexcept { return counters_; }

 private:
  [[nodiscard]] std::uint32_t poll(const dpdk::RxQueue& queue, std::uint64_t now_ns) noexcept;
  [[nodiscard]] std::uint32_t poll_handover(std::uint64_t now_ns) noexcept;
  void process(std::uint64_t now_ns, const core::Ownership& ownership) noexcept;

  mr_worker_stats counters_{};
  std::vector<dpdk::RxQueue> rx_queues_;
  core::Ownership ownership_;  // of what the nics deliver
  core::Forwarder forwarder_;
  std::optional<Handover> handover_;
  Dispatch dispatch_;
  std::optional<LocalTraffic> local_traffic_;
  Housekeeping housekeeping_;
  Pace pace_;
  dpdk::MbufBurst burst_;
};

}  // namespace millrace::worker
