// SPDX-License-Identifier: Apache-2.0
//
// Whoever follows the kernel's routes, neighbours and addresses, as the reconciler sees it. Cold.
// A change comes back as a call of Reconciler::on_next_hops().
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controlplane/model/model.h"
#include "controlplane/net/netlink.h"

namespace millrace::control {

struct NextHopInfo {
  // Of the twin or VLAN interface that the route leaves by; 0: it leaves by none.
  std::uint32_t twin_index = 0;
  std::array<std::uint8_t, 6> mac{};  // valid when resolved
  bool resolved = false;
  std::uint16_t mtu = 0;            // of the route if it has one, else of its link; 0: not known
  std::optional<IpAddress> source;  // what the kernel would send from, unless that is link-local
  std::string text;  // "via 10.0.0.1 dev mr0 lladdr 02:00:00:00:00:01", or why there is no next hop

  friend bool operator==(const NextHopInfo&, const NextHopInfo&) = default;
};

// A MAC address that the node has on a twin, its own or that of a macvlan on it (VRRP).
struct LocalMac {
  std::uint32_t twin_index = 0;
  std::array<std::uint8_t, 6> mac{};

  friend bool operator==(const LocalMac&, const LocalMac&) = default;
};

// A VLAN interface that is set up, on a twin (IEEE 802.1Q). Where a twin's number is asked for or
// told elsewhere here, that of such an interface stands for it alike.
struct VlanLink {
  std::uint32_t link_index = 0;
  std::uint32_t twin_index = 0;
  std::uint16_t vlan_id = 0;
  std::array<std::uint8_t, 6> mac{};

  friend bool operator==(const VlanLink&, const VlanLink&) = default;
};

// An address of the node that hosts beyond the link may be told.
struct OwnAddress {
  std::uint32_t twin_index = 0;  // 0: of another interface than a twin
  IpAddress address;

  friend bool operator==(const OwnAddress&, const OwnAddress&) = default;
};

enum class AddressFamily : std::uint8_t { ipv4, ipv6 };

class RouteWatch {
 public:
  virtual ~RouteWatch() = default;

  // Kernel interfaces that stand for nics of the engine, by the kernel's numbers: their names may
  // change, and change hands.
  virtual void set_twins(std::set<std::uint32_t> link_indices) = 0;

  // Makes `addresses` the whole watched set; find() answers for them from here on.
  virtual void watch(std::vector<IpAddress> addresses) = 0;

  // nullopt when the address is not watched.
  [[nodiscard]] virtual std::optional<NextHopInfo> find(const IpAddress& address) const = 0;

  // The next hop of the default route, as long as it leaves by a twin and is resolved.
  [[nodiscard]] virtual std::optional<NextHopInfo> default_next_hop(AddressFamily family) const = 0;

  // Addresses that the kernel takes as its own when a packet for them comes in by a twin: those of
  // the twins first, then those of other interfaces, without loopback ones and without other
  // interfaces' link-local ones.
  [[nodiscard]] virtual std::vector<IpAddress> local_addresses() const = 0;

  // Those of all interfaces, without loopback and link-local ones and without those that another
  // host may have. The best ones of an interface come first.
  [[nodiscard]] virtual std::vector<OwnAddress> own_addresses() const = 0;

  // MAC addresses for which a frame that comes in by a twin is the node's.
  [[nodiscard]] virtual std::vector<LocalMac> local_macs() const = 0;

  // By the kernel's number of the interface.
  [[nodiscard]] virtual std::vector<VlanLink> vlans() const = 0;

  // The interface that has this address as one of the node's own, "" when none has.
  [[nodiscard]] virtual std::string interface_of(const IpAddress& address) const = 0;

  // Of any interface, asked for now; nothing when there is none.
  [[nodiscard]] virtual LinkState link_state(std::uint32_t link_index) = 0;
};

}  // namespace millrace::control
