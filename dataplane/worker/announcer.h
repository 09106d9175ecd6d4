// SPDX-License-Identifier: Apache-2.0
//
// Tells the neighbours where VIPs are: gratuitous ARP and unsolicited neighbour advertisements, on
// every nic and in every VLAN, for each VIP that a new config brings. Cold; runs on the engine's
// main thread, which makes the frames and puts them on a ring to worker 0, who sends them
// (local_traffic.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dataplane/core/announcements.h"
#include "dataplane/core/answer.h"
#include "dataplane/dpdk/mbuf_pool.h"
#include "dataplane/dpdk/mbuf_ring.h"

namespace millrace::worker {

class Announcer {
 public:
  // `ring` leads to worker 0; both outlive this. `nic_macs` by nic index.
  Announcer(std::vector<core::MacAddr> nic_macs, const dpdk::MbufPool& pool, dpdk::MbufRing& ring)
      : nic_macs_(std::move(nic_macs)), pool_(pool), ring_(ring) {}

  // Schedules the VIPs of `view` that the config before did not have, and forgets those that are
  // gone.
  void adopt(const core::ConfigView& view, std::uint64_t now_ns) {
    announcements_.adopt(view, now_ns);
  }

  // The nic has another MAC address, or another switch behind it: all VIPs are announced once more.
  void set_mac(std::size_t nic, const core::MacAddr& mac) { nic_macs_[nic] = mac; }
  void repeat(std::uint64_t now_ns) { announcements_.repeat(now_ns); }

  // Sends what is due, as far as ring and pool have room; the rest comes with the next call.
  void run(std::uint64_t now_ns);

 private:
  [[nodiscard]] bool send(const mr_addr& vip);
  [[nodiscard]] bool push(std::uint8_t nic, std::span<const std::uint8_t> frame);

  std::vector<core::MacAddr> nic_macs_;
  const dpdk::MbufPool& pool_;
  dpdk::MbufRing& ring_;
  core::Announcements announcements_;
};

}  // namespace millrace::worker
