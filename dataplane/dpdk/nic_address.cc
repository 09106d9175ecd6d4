// SPDX-License-Identifier: Apache-2.0
//
// Which frames a device takes: its own MAC address, which may change, and the node's further ones.
// Cold; the engine's main thread.
#include <rte_ethdev.h>

#include <algorithm>
#include <cstring>

#include "dataplane/dpdk/nic.h"
#include "dataplane/dpdk/pci_address.h"

namespace millrace::dpdk {
namespace {

rte_ether_addr to_rte(const core::MacAddr& mac) {
  rte_ether_addr address{};
  std::memcpy(address.addr_bytes, mac.bytes.data(), mac.bytes.size());
  return address;
}

}  // namespace

std::optional<core::MacAddr> Nic::read_mac() const {
  rte_ether_addr address{};
  if (::rte_eth_macaddr_get(devices_.front(), &address) != 0) return std::nullopt;
  core::MacAddr mac;
  std::memcpy(mac.bytes.data(), address.addr_bytes, mac.bytes.size());
  return mac;
}

// What a driver cannot filter by several addresses it takes as promiscuous; the forwarder sorts.
void Nic::accept(const std::vector<core::MacAddr>& macs) {
  for (const std::uint16_t device : devices_) {
    if (::rte_eth_promiscuous_get(device) == 1) continue;
    for (const core::MacAddr& mac : accepted_) {
      rte_ether_addr address = to_rte(mac);
      // Refused when it has become the device's own.
      if (!std::ranges::count(macs, mac)) (void)::rte_eth_dev_mac_addr_remove(device, &address);
    }
    for (const core::MacAddr& mac : macs) {
      rte_ether_addr address = to_rte(mac);
      if (std::ranges::count(accepted_, mac) != 0) continue;
      if (::rte_eth_dev_mac_addr_add(device, &address, 0) == 0) continue;
      (void)::rte_eth_promiscuous_enable(device);  // nothing is left to try
      break;
    }
  }
  accepted_ = macs;
}

bool Nic::filters_multicast() const {
  // With active-backup the driver asks only the member that carries.
  const std::span<const std::uint16_t> asked =
      bond_ && bond_->has_lacp() ? bond_->members() : std::span<const std::uint16_t>(devices_);
  return (bond_ || is_pci_address(name_)) && std::ranges::any_of(asked, [](std::uint16_t device) {
           return ::rte_eth_allmulticast_get(device) != 1 && ::rte_eth_promiscuous_get(device) != 1;
         });
}

void Nic::keep_vlan_tags() const {
  for (const std::uint16_t device : plugged()) {
    const int offloads = ::rte_eth_dev_get_vlan_offload(device);
    if (offloads < 0 || (offloads & RTE_ETH_VLAN_STRIP_OFFLOAD) == 0) continue;
    (void)::rte_eth_dev_set_vlan_offload(device, offloads & ~RTE_ETH_VLAN_STRIP_OFFLOAD);
  }
}

}  // namespace millrace::dpdk
