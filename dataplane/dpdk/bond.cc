// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/bond.h"

#include <rte_eth_bond.h>
#include <rte_eth_bond_8023ad.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <tuple>
#include <utility>

#include "dataplane/dpdk/library_log.h"
#include "dataplane/dpdk/nic.h"
#include "dataplane/dpdk/numa.h"
#include "dataplane/dpdk/pci_address.h"

namespace millrace::dpdk {

namespace {

constexpr std::array<std::pair<std::string_view, bool>, 2> kForms = {
    {{"bond:", true}, {"bond-active-backup:", false}}};

// How often the driver looks at the members' links: as often as the engine looks at other nics'.
constexpr std::uint32_t kLinkLookMs = 20;

std::string name_of(std::uint16_t device) {
  std::array<char, RTE_ETH_NAME_MAX_LEN> name{};
  return ::rte_eth_dev_get_name_by_port(device, name.data()) == 0 ? name.data() : "";
}

std::string driver_of(std::uint16_t device) {
  rte_eth_dev_info info{};
  return ::rte_eth_dev_info_get(device, &info) == 0 ? info.driver_name : "";
}

// What DPDK's drivers say of a device; returns what it was before.
std::uint32_t change_flags(std::uint16_t device, std::uint32_t kept, std::uint32_t set = 0) {
  rte_eth_dev_info info{};
  if (::rte_eth_dev_info_get(device, &info) != 0) return 0;
  auto& flags = const_cast<std::uint32_t&>(*info.dev_flags);
  const std::uint32_t before = flags;
  flags = (flags & kept) | set;
  return before;
}

using LacpInfo = struct rte_eth_bond_8023ad_slave_info;  // a function has the same name

std::optional<LacpInfo> lacp_of(std::uint16_t bond, std::uint16_t member) {
  LacpInfo info{};
  if (::rte_eth_bond_8023ad_slave_info(bond, member, &info) != 0) return std::nullopt;
  return info;
}

// What tells a switch's channel from all others: its system and the key.
auto channel_of(std::uint16_t bond, std::uint16_t member) {
  const port_params partner = lacp_of(bond, member).value_or(LacpInfo{}).partner;
  return std::tuple(partner.system_priority, std::to_array(partner.system.addr_bytes), partner.key);
}

Error driver_error(const std::string& what) {
  const std::string& said = LibraryLog::instance().last_line();
  return Error{what + (said.empty() ? "" : " (" + said + ")")};
}

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> words;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    words.emplace_back(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

}  // namespace

bool is_bond(const std::string& device) {
  return std::ranges::any_of(kForms,
                             [&](const auto& form) { return device.rfind(form.first, 0) == 0; });
}

Result<BondForm> parse_bond(const std::string& device) {
  const auto* form = std::ranges::find_if(
      kForms, [&](const auto& known) { return device.rfind(known.first, 0) == 0; });
  BondForm bond{.has_lacp = form->second,
                .members = split(std::string_view(device).substr(form->first.size()))};
  for (const std::string& member : bond.members) {
    if (Nic::is_interface(member)) {
      return Error{"its member '" + member + "' is no PCI address like 0000:3b:00.0"};
    }
    if (is_pci_address(member)) {
      if (Status right = check_pci_address(member); !right) {
        return right.error().within("its member '" + member + "'");
      }
    }
    if (std::ranges::count(bond.members, member) > 1) {
      return Error{"has its member " + member + " twice"};
    }
  }
  if (bond.members.size() < 2) {
    return Error{
        "has one member only: a bond has two or more, with commas between them; a single "
        "NIC needs none"};
  }
  return bond;
}

std::vector<std::string> parts_of(const std::string& device) {
  if (!is_bond(device)) return {device};
  Result<BondForm> form = parse_bond(device);
  return form ? std::move(form->members) : std::vector<std::string>();
}

// With LACP a packet pool with a buffer for each tx descriptor, which holds one frame
// (bond_mode_8023ad_activate_slave() in DPDK's drivers/net/bonding/rte_eth_bond_8023ad.c).
std::uint64_t member_memory_bytes(std::uint32_t tx_queue_count) {
  constexpr std::uint64_t kBufferBytes = 1024;  // with what pool and memory add, generously
  return (1 + std::uint64_t{tx_queue_count} * kQueueDescriptors) * kBufferBytes;
}

Result<Bond> Bond::make(const BondForm& form, const std::string& name,
                        const std::optional<core::MacAddr>& known_mac) {
  std::vector<std::string> there = form.members;
  std::erase_if(there, is_gone);
  if (there.empty()) return why_not_taken(form.members.front()).within("member " + form.members[0]);
  const std::uint32_t node = NumaNodes().of_device(there.front()).value_or(::rte_socket_id());
  const int mode = form.has_lacp ? BONDING_MODE_8023AD : BONDING_MODE_ACTIVE_BACKUP;
  const int device = ::rte_eth_bond_create(name.c_str(), static_cast<std::uint8_t>(mode),
                                           static_cast<std::uint8_t>(node));
  if (device < 0) return driver_error("DPDK makes no bond");
  Bond bond(static_cast<std::uint16_t>(device), form.has_lacp);
  (void)::rte_eth_bond_link_monitoring_set(bond.device_, kLinkLookMs);
  // As much of a flow as there is, so that two machines' flows use all members.
  (void)::rte_eth_bond_xmit_policy_set(bond.device_, BALANCE_XMIT_POLICY_LAYER34);
  for (const std::string& member : form.members) {
    if (std::ranges::count(there, member) == 0) bond.gone_.push_back(member);
  }
  for (const std::string& member : there) {
    Status added = bond.add(member);
    if (added) continue;
    for (const std::uint16_t one : bond.members_) {
      (void)::rte_eth_bond_slave_remove(bond.device_, one);
    }
    (void)::rte_eth_bond_free(name.c_str());  // refused while it has members
    return added.error();
  }
  if (known_mac && there.front() != form.members.front()) {
    rte_ether_addr mac{};
    std::ranges::copy(known_mac->bytes, mac.addr_bytes);
    (void)::rte_eth_bond_mac_address_set(bond.device_, &mac);  // else it has the next one's
  }
  return bond;
}

Status Bond::add(const std::string& member) {
  std::uint16_t device = 0;
  if (::rte_eth_dev_get_port_by_name(member.c_str(), &device) != 0) {
    return why_not_taken(member).within("member " + member);
  }
  // Queues, offloads and what a driver needs watching for are decided once for all members.
  const std::uint16_t first = members_.empty() ? device : members_.front();
  if (driver_of(first) != driver_of(device)) {
    return Error{"its members are of different kinds, by their drivers: " + name_of(first) + " " +
                 driver_of(first) + ", " + member + " " + driver_of(device)};
  }
  // The driver hears of links by interrupts where the device says that it has them, and else looks
  // by itself. With uio_pci_generic interrupts may never come (IRQ routing), so it shall do both.
  const std::uint32_t flags = change_flags(device, ~std::uint32_t{RTE_ETH_DEV_INTR_LSC});
  const int status = ::rte_eth_bond_slave_add(device_, device);
  (void)change_flags(device, UINT32_MAX, flags);
  if (status != 0) {
    return driver_error("DPDK does not take its member " + member);
  }
  members_.push_back(device);
  return ok();
}

std::uint16_t Bond::carrier() const {
  const int primary = has_lacp_ ? -1 : ::rte_eth_bond_primary_get(device_);
  return primary < 0 ? members_.front() : static_cast<std::uint16_t>(primary);
}

std::vector<IdleMember> Bond::idle_members() const {
  std::vector<IdleMember> idle;
  for (const std::string& member : gone_) {
    idle.push_back(
        {member,
         "carries nothing: there is no such PCI device; once it is back, a restart takes it"});
  }
  std::optional<std::uint16_t> first;
  for (const std::uint16_t member : members_) {
    if (std::string why = why_idle(member, first); !why.empty()) {
      idle.push_back({name_of(member), std::move(why)});
    } else if (!first) {
      first = member;
    }
  }
  return idle;
}

std::string Bond::why_idle(std::uint16_t member, std::optional<std::uint16_t> first) const {
  if (is_idle(member)) {
    return has_lacp_ ? "carries nothing: no link, or its switch does not agree by LACP"
                     : "carries nothing: no link";
  }
  // The driver sends by all that a switch agrees with, whichever that is (tx_burst_8023ad() in its
  // rte_eth_bond_pmd.c), though IEEE 802.1AX wants those of one switch alone.
  if (!has_lacp_ || !first || channel_of(device_, member) == channel_of(device_, *first)) return "";
  return "is in another channel than " + name_of(*first) +
         ", and both carry: their switches need one channel that spans them (MLAG, VPC), or take "
         "bond-active-backup";
}

bool Bond::has_link() const {
  return !std::ranges::all_of(members_, [this](std::uint16_t member) { return is_idle(member); });
}

bool Bond::is_idle(std::uint16_t member) const {
  if (has_lacp_) {
    const std::optional<LacpInfo> lacp = lacp_of(device_, member);
    return !lacp || (lacp->actor_state & STATE_DISTRIBUTING) == 0;
  }
  std::array<std::uint16_t, RTE_MAX_ETHPORTS> active;
  const int count = ::rte_eth_bond_active_slaves_get(device_, active.data(), active.size());
  return count <= 0 ||
         std::ranges::count(std::span(active).first(static_cast<std::size_t>(count)), member) == 0;
}

void Bond::share_mac() const {
  rte_ether_addr mac{};
  if (!has_lacp_ || ::rte_eth_macaddr_get(device_, &mac) != 0) return;
  for (const std::uint16_t member : members_) {
    if (::rte_eth_dev_default_mac_addr_set(member, &mac) == 0) continue;
    (void)::rte_eth_promiscuous_enable(member);  // nothing is left to try
  }
}

}  // namespace millrace::dpdk
