// SPDX-License-Identifier: Apache-2.0
#include "bpf/engine/announcer.h"

#include <linux/if_packet.h>
#include <sys/socket.h>

#include <array>
#include <utility>

#include "dataplane/core/answer.h"

namespace millrace::xdp {

Result<Announcer> Announcer::open(std::vector<Nic> nics) {
  // Protocol 0: it receives nothing.
  os::File socket(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
  if (!socket.is_open()) return os::os_error("cannot open a packet socket (CAP_NET_RAW)");
  return Announcer(std::move(nics), std::move(socket));
}

std::uint32_t Announcer::run(std::uint64_t now_ns) {
  std::uint32_t frames = 0;
  while (const mr_addr* vip = announcements_.due(now_ns)) {
    frames += send(*vip);
    announcements_.set_sent(now_ns);
  }
  return frames;
}

// A frame that cannot be sent now, for want of a link or of room, has its next round.
std::uint32_t Announcer::send(const mr_addr& vip) const {
  std::uint32_t frames = 0;
  std::array<std::uint8_t, core::kAnnouncementBytesMax + MR_VLAN_BYTES> frame{};
  for (const Nic& nic : nics_) {
    const std::uint32_t bytes = core::build_announcement(vip, nic.mac, frame);
    frames += send_by(nic, std::span(frame).first(bytes));
  }
  for (const mr_vlan& vlan : announcements_.vlans()) {
    if (vlan.nic >= nics_.size()) continue;
    const std::uint32_t bytes = core::build_announcement(vip, vlan, frame);
    frames += send_by(nics_[vlan.nic], std::span(frame).first(bytes));
  }
  return frames;
}

bool Announcer::send_by(const Nic& nic, std::span<const std::uint8_t> frame) const {
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_ifindex = static_cast<int>(nic.ifindex);
  const ssize_t sent = ::sendto(socket_.fd(), frame.data(), frame.size(), MSG_DONTWAIT,
                                reinterpret_cast<const sockaddr*>(&to), sizeof(to));
  return sent == static_cast<ssize_t>(frame.size());
}

}  // namespace millrace::xdp
