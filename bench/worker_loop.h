// SPDX-License-Identifier: Apache-2.0
//
// A worker's turn under measurement: that of worker/poll_loop.cc (receive, view, process, act) with
// one step more between view and process. HOT.
//
// Software devices deliver zeros or what was sent before, so the headers of the next flow are
// written into each received frame, whether or not the worker then balances.
#pragma once

#include <cstdint>
#include <vector>

#include "bench/balancer.h"
#include "bench/fatal.h"
#include "dataplane/dpdk/mbuf_burst.h"
#include "dataplane/dpdk/mbuf_pool.h"
#include "dataplane/dpdk/nic.h"
#include "dataplane/worker/dispatch.h"
#include "dataplane/worker/handover.h"

namespace millrace::bench {

// Frames that go round a ring device: no more than fit in the caches beside the rest.
inline constexpr std::uint32_t kFramesInRing = 256;

inline void fill_ring(dpdk::Nic& nic, const dpdk::MbufPool& pool, std::uint32_t length) {
  const std::vector<std::uint8_t> frame(length);
  for (std::uint32_t i = 0; i < kFramesInRing; ++i) {
    dpdk::Mbuf* mbuf = pool.take(0, frame);
    if (mbuf == nullptr || nic.tx_queue(0).send({&mbuf, 1}) != 1) fail("cannot fill the ring");
  }
}

class WorkerLoop {
 public:
  struct Options {
    bool balances = true;                        // else the packets pass untouched
    core::Ownership ownership = core::kOwnsAll;  // of the packets that are received
    worker::Handover* handover = nullptr;        // null: there is one worker
  };

  // The first queue of `nic` is the worker's. All outlive the loop.
  WorkerLoop(const Options& options, Balancer& balancer, dpdk::Nic& nic)
      : options_(options),
        balancer_(balancer),
        nic_(nic),
        dispatch_({.tx_queues = {&nic.tx_queue(0)}, .twins = {nullptr}}, balancer.worker_stats(),
                  options.handover) {}

  // `next_flow()` numbers the flow of the next packet. Returns how many packets came in, from the
  // nic and from other workers.
  template <typename NextFlow>
  std::uint32_t turn(NextFlow&& next_flow) {
    burst_.view.count = nic_.rx_queues()[0].receive(burst_.mbufs);
    std::uint64_t bytes = 0;
    (void)dpdk::view_mbufs(burst_, bytes);  // frames of these devices are in one piece
    for (std::uint32_t i = 0; i < burst_.view.count; ++i) {
      core::Packet& packet = burst_.view.packets[i];
      balancer_.writer().write(packet.data, next_flow());
      packet.length = balancer_.writer().length();
    }
    const std::uint32_t received = process(options_.ownership);
    if (options_.handover == nullptr) return received;
    options_.handover->take(burst_);
    return received + process(core::kOwnsAll);
  }

 private:
  std::uint32_t process(const core::Ownership& ownership) {
    if (burst_.view.count == 0) return 0;
    if (options_.balances && options_.handover != nullptr) {
      balancer_.process(burst_.view, ownership);
    } else if (options_.balances) {
      balancer_.process(burst_.view);
    } else {
      for (std::uint32_t i = 0; i < burst_.view.count; ++i) {
        burst_.view.verdicts[i] = core::Verdict::forward(0);
      }
    }
    dispatch_.act(burst_);
    return burst_.view.count;
  }

  Options options_;
  Balancer& balancer_;
  dpdk::Nic& nic_;
  worker::Dispatch dispatch_;
  dpdk::MbufBurst burst_;
};

}  // namespace millrace::bench
