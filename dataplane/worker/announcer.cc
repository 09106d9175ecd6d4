// SPDX-License-Identifier: Apache-2.0
#include "dataplane/worker/announcer.h"

#include <array>
#include <span>

#include "dataplane/core/answer.h"
#include "dataplane/dpdk/mbuf_burst.h"

namespace millrace::worker {

void Announcer::run(std::uint64_t now_ns) {
  while (const mr_addr* vip = announcements_.due(now_ns)) {
    if (!send(*vip)) return;
    announcements_.set_sent(now_ns);
  }
}

// On all nics or, when there is no room, on some; the caller then tries again, which harms nobody.
bool Announcer::send(const mr_addr& vip) {
  std::array<std::uint8_t, core::kAnnouncementBytesMax> frame{};
  for (std::size_t nic = 0; nic < nic_macs_.size(); ++nic) {
    const std::uint32_t bytes = core::build_announcement(vip, nic_macs_[nic], frame);
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
