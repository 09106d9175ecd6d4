// SPDX-License-Identifier: Apache-2.0
//
// What the node itself sends: frames from the kernel twins, and announcements of VIPs. Worker 0
// only, from housekeeping.
//
// Counted apart from packets that came by a nic: twin_rx = twin_forwarded + twin_dropped.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "dataplane/contract/stats_abi.h"
#include "dataplane/dpdk/mbuf_pool.h"
#include "dataplane/dpdk/mbuf_ring.h"
#include "dataplane/worker/dispatch.h"

namespace millrace::worker {

// Frames taken from one twin, or announcements sent, per housekeeping: bounds what the kernel can
// make the worker spend, to about 30 us.
inline constexpr std::uint32_t kLocalFramesMax = 32;

class LocalTraffic {
 public:
  // `announcements` is filled by the main thread with frames marked with their nic. `counters` is
  // the worker's own, not shared. All outlive this.
  LocalTraffic(const Exits& exits, const dpdk::MbufPool& pool, dpdk::MbufRing& announcements,
               mr_worker_stats& counters)
      : exits_(exits), pool_(pool), announcements_(announcements), counters_(counters) {}

  // Sends what there is. Returns how many frames that were, so that a busy twin keeps the worker
  // up.
  std::uint32_t send() noexcept;

 private:
  [[nodiscard]] std::uint32_t send_from_twin(std::uint32_t nic) noexcept;
  [[nodiscard]] std::uint32_t send_announcements() noexcept;

  Exits exits_;
  const dpdk::MbufPool& pool_;
  dpdk::MbufRing& announcements_;
  mr_worker_stats& counters_;
};

}  // namespace millrace::worker
