// SPDX-License-Identifier: Apache-2.0
#include "dataplane/worker/announcer.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "dataplane/core/answer.h"
#include "dataplane/dpdk/mbuf_burst.h"

namespace millrace::worker {

void Announcer::adopt(const core::ConfigView& view, std::uint64_t now_ns) {
  std::set<Vip> vips;
  std::vector<Vip> added;
  for (const mr_table_entry& entry : view.listener_table) {
    // A listener table holds each VIP once more by itself, with port and protocol 0.
    if (entry.slot == MR_TABLE_EMPTY || entry.port_be != 0 || entry.protocol != 0) continue;
    const auto vip = std::bit_cast<Vip>(entry.addr);
    if (vips.insert(vip).second && !vips_.contains(vip)) added.push_back(vip);
  }
  vips_ = std::move(vips);
  std::erase_if(due_, [&](const Due& due) { return !vips_.contains(due.vip); });
  for (const Vip& vip : added) {
    due_.push_front({.at_ns = now_ns, .vip = vip, .rounds_left = kAnnounceRounds});
  }
}

void Announcer::run(std::uint64_t now_ns) {
  while (!due_.empty() && due_.front().at_ns <= now_ns) {
    Due due = due_.front();
    if (!send(due.vip)) return;
    due_.pop_front();
    if (--due.rounds_left == 0) continue;
    due.at_ns = now_ns + kAnnounceIntervalNs;
    due_.push_back(due);
  }
}

// On all nics or, when there is no room, on some; the caller then tries again, which harms nobody.
bool Announcer::send(const Vip& vip) {
  std::array<std::uint8_t, core::kAnnouncementBytesMax> frame{};
  const auto addr = std::bit_cast<mr_addr>(vip);
  for (std::size_t nic = 0; nic < nic_macs_.size(); ++nic) {
    const std::uint32_t bytes = core::build_announcement(addr, nic_macs_[nic], frame);
    dpdk::Mbuf* mbuf = pool_.take(static_cast<std::uint8_t>(nic),
                                  std::span<const std::uint8_t>(frame).first(bytes));
    if (mbuf == nullptr) return false;
    if (ring_.push(std::span(&mbuf, 1)) == 1) continue;
    dpdk::free_mbufs(std::span(&mbuf, 1));
    return false;
  }
  return true;
}

}  // namespace millrace::worker
