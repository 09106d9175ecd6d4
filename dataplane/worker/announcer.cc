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

// On all nics and in all VLANs or, when there is no room, on some; the caller then tries again,
// which harms nobody.
bool Announcer::send(const mr_addr& vip) {
  std::array<std::uint8_t, core::kAnnouncementBytesMax + MR_VLAN_BYTES> frame{};
  for (std::size_t nic = 0; nic < nic_macs_.size(); ++nic) {
    const std::uint32_t bytes = core::build_announcement(vip, nic_macs_[nic], frame);
    if (!push(static_cast<std::uint8_t>(nic), std::span(frame).first(bytes))) return false;
  }
  for (const mr_vlan& vlan : announcements_.vlans()) {
    if (vlan.nic >= nic_macs_.size()) continue;
    const std::uint32_t bytes = core::build_announcement(vip, vlan, frame);
    if (!push(vlan.nic, std::span(frame).first(bytes))) return false;
  }
  return true;
}

bool Announcer::push(std::uint8_t nic, std::span<const std::uint8_t> frame) {
  dpdk::Mbuf* mbuf = pool_.take(nic, frame);
  if (mbuf == nullptr) return false;
  if (ring_.push(std::span(&mbuf, 1)) == 1) return true;
  dpdk::free_mbufs(std::span(&mbuf, 1));
  return false;
}

}  // namespace millrace::worker
