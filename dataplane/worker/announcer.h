// SPDX-License-Identifier: Apache-2.0
//
// Tells the neighbours where VIPs are: gratuitous ARP and unsolicited neighbour advertisements, on
// every nic, for each VIP that a new config brings. Cold; runs on the engine's main thread, which
// makes the frames and puts them on a ring to worker 0, who sends them (local_traffic.h).
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <set>
#include <vector>

#include "dataplane/core/config_view.h"
#include "dataplane/core/forwarder.h"
#include "dataplane/dpdk/mbuf_pool.h"
#include "dataplane/dpdk/mbuf_ring.h"

namespace millrace::worker {

// RFC 4861 section 10: MAX_NEIGHBOR_ADVERTISEMENT times, RetransTimer apart; the same for ARP.
inline constexpr std::uint32_t kAnnounceRounds = 3;
inline constexpr std::uint64_t kAnnounceIntervalNs = 1'000'000'000;

class Announcer {
 public:
  // `ring` leads to worker 0; both outlive this. `nic_macs` by nic index.
  Announcer(std::vector<core::MacAddr> nic_macs, const dpdk::MbufPool& pool, dpdk::MbufRing& ring)
      : nic_macs_(std::move(nic_macs)), pool_(pool), ring_(ring) {}

  // Schedules the VIPs of `view` that the config before did not have, and forgets those that are
  // gone.
  void adopt(const core::ConfigView& view, std::uint64_t now_ns);

  // Sends what is due, as far as ring and pool have room; the rest comes with the next call.
  void run(std::uint64_t now_ns);

 private:
  using Vip = std::array<std::uint8_t, 16>;
  struct Due {
    std::uint64_t at_ns;
    Vip vip;
    std::uint32_t rounds_left;
  };
  [[nodiscard]] bool send(const Vip& vip);

  std::vector<core::MacAddr> nic_macs_;
  const dpdk::MbufPool& pool_;
  dpdk::MbufRing& ring_;
  std::set<Vip> vips_;   // of the config adopted last
  std::deque<Due> due_;  // by time: all wait equally long, so new ones go to the end
};

}  // namespace millrace::worker
