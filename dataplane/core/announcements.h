// SPDX-License-Identifier: Apache-2.0
//
// Decides which VIPs to announce, and when: each VIP that a new config brings, kAnnounceRounds
// times. Also says by which multicast groups neighbours ask for IPv6 VIPs. Cold; the engine's main
// thread. Each engine puts the announcements onto the wire in its own way.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <set>
#include <vector>

#include "dataplane/core/config_view.h"
#include "dataplane/core/nanoseconds.h"

namespace millrace::core {

// RFC 4861 section 10: MAX_NEIGHBOR_ADVERTISEMENT times, RetransTimer apart; the same for ARP.
inline constexpr std::uint32_t kAnnounceRounds = 3;
inline constexpr std::uint64_t kAnnounceIntervalNs = kSecondNs;

// The multicast group by which neighbours ask for an address, in network byte order.
using Ipv6Group = std::array<std::uint8_t, 16>;
// ff02::1:ffXX:XXXX with the last 24 bits of the address (RFC 4291 section 2.7.1).
[[nodiscard]] Ipv6Group solicited_node_group(const mr_addr& addr);
// The groups of all IPv6 VIPs of `view`; several VIPs may share one.
[[nodiscard]] std::set<Ipv6Group> solicited_node_groups(const ConfigView& view);

// The VLANs that are there.
[[nodiscard]] std::vector<mr_vlan> present_vlans(const ConfigView& view);

class Announcements {
 public:
  // Schedules the VIPs of `view` that the config before did not have, and forgets those that are
  // gone. All of them are scheduled where a VLAN is new, or has another MAC address.
  void adopt(const ConfigView& view, std::uint64_t now_ns);

  // Schedules all VIPs once more: the nics' MAC address, or what is behind them, has changed.
  void repeat(std::uint64_t now_ns);

  // Those of the config that are there: each VIP is announced in each of them, too.
  [[nodiscard]] const std::vector<mr_vlan>& vlans() const { return vlans_; }

  // The VIP that is due by `now_ns`, or null. Valid until the next call of any other function.
  [[nodiscard]] const mr_addr* due(std::uint64_t now_ns) const;

  // The VIP that is due was sent on all nics: its next round comes after an interval.
  void set_sent(std::uint64_t now_ns);

 private:
  using Vip = std::array<std::uint8_t, 16>;
  struct Due {
    std::uint64_t at_ns;
    mr_addr vip;
    std::uint32_t rounds_left;
  };

  [[nodiscard]] bool is_known(const mr_vlan& vlan) const;

  std::vector<mr_vlan> vlans_;
  std::set<Vip> vips_;   // of the config adopted last
  std::deque<Due> due_;  // by time: all wait equally long, so new ones go to the end
};

}  // namespace millrace::core
