// SPDX-License-Identifier: Apache-2.0
//
// Packets that belong to no flow, and what the node itself says about those that do: RST, "too
// big". Warm. The engine owns VIPs: it answers ARP, neighbour solicitation and echo for them and
// drops, with a reason, what else is sent to them. The kernel owns everything else: punt.
#include <algorithm>

#include "dataplane/core/answer.h"
#include "dataplane/core/counters.h"
#include "dataplane/core/forwarder.h"

namespace millrace::core {

Verdict Forwarder::handle_other(Packet& packet, const Parsed& parsed) noexcept {
  switch (parsed.shape) {
    case Shape::drop:
      return drop(static_cast<mr_drop_reason>(parsed.reason));
    case Shape::suspicious:
      return is_vip(parsed.destination) ? drop(static_cast<mr_drop_reason>(parsed.reason))
                                        : punt(packet);
    case Shape::icmp:
      return handle_icmp(packet, parsed);
    case Shape::transport:
    case Shape::not_ip:
      break;
  }
  if (is_arp_request(packet) && is_vip(arp_target(packet)) && packet.nic < nic_count_) {
    answer_arp(packet, nic_macs_[packet.nic]);
    return reply(packet);
  }
  return punt(packet);
}

// Whether handle_other() drops it, whatever this worker's state is.
bool Forwarder::is_refused(const Parsed& parsed) const noexcept {
  return parsed.shape == Shape::drop ||
         (parsed.shape == Shape::suspicious && is_vip(parsed.destination));
}

Verdict Forwarder::handle_icmp(Packet& packet, const Parsed& parsed) noexcept {
  if (packet.nic >= nic_count_) return drop(MR_DROP_NO_NIC);
  const MacAddr& mac = nic_macs_[packet.nic];
  if (is_neighbour_solicitation(packet, parsed) && is_vip(solicited_target(packet))) {
    return answer_neighbour_solicitation(packet, parsed, mac) ? reply(packet)
                                                              : drop(MR_DROP_BAD_L4);
  }
  if (!is_vip(parsed.destination)) return punt(packet);
  if (!is_echo_request(packet, parsed)) return drop(MR_DROP_ICMP);
  if (parsed.source == AddrWords{0, 0}) return drop(MR_DROP_MARTIAN);
  if (!replies_.take()) return drop(MR_DROP_RATE_LIMITED);
  answer_echo(packet, parsed, mac);
  return reply(packet);
}

// What handle_other() does with one that parse() found: glance() leaves martians to the flow's
// path.
Verdict Forwarder::refuse_martian(const Packet& packet, const Parsed& parsed) noexcept {
  return is_vip(parsed.destination) ? drop(MR_DROP_MARTIAN) : punt(packet);
}

// Answers a TCP segment of a flow that is over; a RST itself gets no answer.
Verdict Forwarder::reset(Packet& packet, const Parsed& parsed,
                         std::uint32_t listener_slot) noexcept {
  if ((parsed.tcp_flags & 0x04) != 0) return drop(MR_DROP_UNWANTED_RST);
  if (packet.nic >= nic_count_) return drop(MR_DROP_NO_NIC);
  if (!replies_.take()) return drop(MR_DROP_RATE_LIMITED);
  answer_with_reset(packet, parsed, nic_macs_[packet.nic]);
  count(MR_COUNTER_RST_SENT);
  if (listener_slot < counters_.listeners.size()) {
    add(counters_.listeners[listener_slot].balancer_resets, 1);
  }
  return reply(packet);
}

// `mtu` is what the way to the target leaves for the client's packet. The client is told whether or
// not it allowed fragments (IPv4's DF): this node cannot make any, and a packet that vanishes in
// silence is worse than a message that its sender may ignore.
Verdict Forwarder::answer_too_big(Packet& packet, const Parsed& parsed,
                                  std::uint32_t mtu) noexcept {
  if (packet.nic >= nic_count_) return drop(MR_DROP_NO_NIC);
  if (packet.headroom < too_big_headroom(parsed)) return drop(MR_DROP_TOO_BIG);
  if (!replies_.take()) return drop(MR_DROP_RATE_LIMITED);
  answer_with_too_big(packet, parsed, nic_macs_[packet.nic], mtu);
  count(MR_COUNTER_TOO_BIG_SENT);
  return reply(packet);
}

bool Forwarder::is_vip(const AddrWords& addr) const noexcept {
  return config_.image != nullptr && find_entry(config_.listener_table, addr, 0, 0) != nullptr;
}

bool Forwarder::is_local(const AddrWords& addr) const noexcept {
  return std::ranges::any_of(config_.local_addrs,
                             [&](const mr_addr& local) { return words_of(local) == addr; });
}

Verdict Forwarder::drop(mr_drop_reason reason) noexcept {
  add(counters_.worker->drops[reason], 1);
  return Verdict::drop(reason);
}

}  // namespace millrace::core
