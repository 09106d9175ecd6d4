// SPDX-License-Identifier: Apache-2.0
#include "dataplane/core/announcements.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <utility>
#include <vector>

namespace millrace::core {

Ipv6Group solicited_node_group(const mr_addr& addr) {
  Ipv6Group group = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};
  std::copy_n(addr.bytes + 13, 3, group.begin() + 13);
  return group;
}

std::set<Ipv6Group> solicited_node_groups(const ConfigView& view) {
  std::set<Ipv6Group> groups;
  for (const mr_table_entry& entry : view.listener_table) {
    const bool is_vip = entry.slot != MR_TABLE_EMPTY && entry.port_be == 0 && entry.protocol == 0;
    if (is_vip && !is_v4(entry.addr)) groups.insert(solicited_node_group(entry.addr));
  }
  return groups;
}

std::vector<mr_vlan> present_vlans(const ConfigView& view) {
  std::vector<mr_vlan> vlans;
  std::ranges::copy_if(view.vlans, std::back_inserter(vlans),
                       [](const mr_vlan& vlan) { return (vlan.flags & MR_VLAN_PRESENT) != 0; });
  return vlans;
}

void Announcements::adopt(const ConfigView& view, std::uint64_t now_ns) {
  std::vector<mr_vlan> vlans = present_vlans(view);
  const bool has_new_vlan =
      std::ranges::any_of(vlans, [&](const mr_vlan& vlan) { return !is_known(vlan); });
  vlans_ = std::move(vlans);
  std::set<Vip> vips;
  std::vector<mr_addr> added;
  for (const mr_table_entry& entry : view.listener_table) {
    // A listener table holds each VIP once more by itself, with port and protocol 0.
    if (entry.slot == MR_TABLE_EMPTY || entry.port_be != 0 || entry.protocol != 0) continue;
    const auto vip = std::bit_cast<Vip>(entry.addr);
    if (vips.insert(vip).second && !vips_.contains(vip)) added.push_back(entry.addr);
  }
  vips_ = std::move(vips);
  std::erase_if(due_, [&](const Due& due) { return !vips_.contains(std::bit_cast<Vip>(due.vip)); });
  for (const mr_addr& vip : added) {
    due_.push_front({.at_ns = now_ns, .vip = vip, .rounds_left = kAnnounceRounds});
  }
  if (has_new_vlan) repeat(now_ns);
}

bool Announcements::is_known(const mr_vlan& vlan) const {
  return std::ranges::any_of(vlans_, [&](const mr_vlan& known) {
    return known.nic == vlan.nic && known.tag == vlan.tag &&
           std::ranges::equal(known.mac, vlan.mac);
  });
}

void Announcements::repeat(std::uint64_t now_ns) {
  due_.clear();
  for (const Vip& vip : vips_) {
    due_.push_back(
        {.at_ns = now_ns, .vip = std::bit_cast<mr_addr>(vip), .rounds_left = kAnnounceRounds});
  }
}

const mr_addr* Announcements::due(std::uint64_t now_ns) const {
  return due_.empty() || due_.front().at_ns > now_ns ? nullptr : &due_.front().vip;
}

void Announcements::set_sent(std::uint64_t now_ns) {
  Due sent = due_.front();
  due_.pop_front();
  if (--sent.rounds_left == 0) return;
  sent.at_ns = now_ns + kAnnounceIntervalNs;
  due_.push_back(sent);
}

}  // namespace millrace::core
