// SPDX-License-Identifier: Apache-2.0
//
// What netlink events and route answers add up to: the next hop of every watched address. Cold and
// pure: time is an argument, nothing is asked for here (next_hops.cc does).
//
// Only NUD_FAILED, the kernel's "asked three times, no answer", unresolves a next hop that was
// known. An entry that is merely gone (garbage collected, flushed because the twin lost its carrier
// while the engine restarts) keeps its MAC address: nothing says that the neighbour moved, and
// traffic must not stop for as long as asking takes. For the same reason FAILED does not count
// while the twin has no carrier, nor for kCarrierSettle afterwards.
//
// A way that works is left for another only once the neighbour there has answered, or has FAILED.
// The kernel turns to a gateway that is dead as soon as it has forgotten that it asked in vain.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controlplane/net/netlink.h"
#include "controlplane/net/next_hops.h"

namespace millrace::control {

using NetTime = std::chrono::steady_clock::time_point;

// Longer than the kernel takes from a first question to NUD_FAILED (3 tries, 1 s apart).
inline constexpr std::chrono::seconds kCarrierSettle{5};

struct NeighbourKey {
  std::uint32_t link_index = 0;
  IpAddress address;

  friend bool operator==(const NeighbourKey&, const NeighbourKey&) = default;
  friend auto operator<=>(const NeighbourKey&, const NeighbourKey&) = default;
};

// For which destinations the kernel may answer otherwise after a change, from none to all.
enum class Reasked : std::uint8_t {
  none,
  behind_gateways,  // where there are several: the kernel passes over those that do not answer
  all,
};

class NextHopTable {
 public:
  void set_twins(std::set<std::uint32_t> link_indices);

  // Takes a change into account. `now` on a monotonic clock.
  Reasked apply(const NetlinkEvent& event, NetTime now);

  // Before a dump that replaces what is known: forgets links and addresses, and the state of
  // neighbours, whose last MAC addresses stay until the dump or FAILED says otherwise.
  void begin_resync();

  // Sets where the kernel would send packets for `destination`; forget() ends that. Until it is
  // known whether the neighbour there answers, next_hop() stays at what worked before.
  void set_route(const IpAddress& destination, const RouteAnswer& answer);
  void forget(const IpAddress& destination);
  [[nodiscard]] bool is_behind_gateway(const IpAddress& destination) const;

  [[nodiscard]] NextHopInfo next_hop(const IpAddress& destination) const;
  [[nodiscard]] std::vector<IpAddress> local_addresses() const;
  [[nodiscard]] std::vector<OwnAddress> own_addresses() const;
  [[nodiscard]] std::vector<LocalMac> local_macs() const;
  [[nodiscard]] std::vector<VlanLink> vlans() const;
  // Of an interface that has the address, "" when none has.
  [[nodiscard]] std::string interface_of(const IpAddress& address) const;

  // Neighbours in use that the kernel should be made to ask for: not known, gone stale or failed,
  // on twins with carrier.
  [[nodiscard]] std::vector<NeighbourKey> neighbours_to_ask() const;

 private:
  struct Link {
    std::string name;
    bool has_carrier = false;
    std::uint32_t mtu = 0;
    std::optional<MacAddress> mac;
    std::uint32_t lower_index = 0;
    bool is_macvlan = false;
    bool is_up = false;
    std::uint16_t vlan_id = 0;
    std::optional<NetTime> carrier_since;  // nullopt: since before we looked
  };
  struct Neighbour {
    std::uint16_t state = 0;
    std::optional<MacAddress> mac;
  };

  void apply_link(const LinkEvent& event, NetTime now);
  [[nodiscard]] Reasked apply_neighbour(const NeighbourEvent& event, NetTime now);
  [[nodiscard]] bool is_used(const NeighbourKey& key) const;
  // A twin, or a VLAN interface on one.
  [[nodiscard]] bool is_driven(std::uint32_t link_index) const;
  [[nodiscard]] bool is_vlan(const Link& link) const;
  [[nodiscard]] bool is_settled(std::uint32_t link_index, NetTime now) const;
  [[nodiscard]] std::string name_of(std::uint32_t link_index) const;
  [[nodiscard]] std::uint16_t mtu_of(const RouteAnswer& route) const;
  [[nodiscard]] bool can_be_asked(std::uint32_t link_index) const;
  [[nodiscard]] bool is_undecided(const NeighbourKey& key) const;
  [[nodiscard]] NextHopInfo by_route(const IpAddress& destination, const RouteAnswer& route) const;
  [[nodiscard]] NextHopInfo by_neighbour(const NeighbourKey& key, const RouteAnswer& route) const;
  [[nodiscard]] const RouteAnswer* former_route(const IpAddress& destination) const;
  [[nodiscard]] std::optional<RouteAnswer> working_route(const IpAddress& destination) const;

  std::set<std::uint32_t> twins_;  // as an engine says, by link
  std::map<std::uint32_t, Link> links_;
  std::map<NeighbourKey, AddressStanding> addresses_;  // the node's own, with their standing
  std::map<NeighbourKey, Neighbour> neighbours_;
  std::set<NeighbourKey> gateways_;  // of answers now or before: few, and one may be so again
  std::map<IpAddress, RouteAnswer> routes_;  // the kernel's last answers
  // Of destinations whose route goes by an undecided neighbour now: what worked before.
  std::map<NeighbourKey, std::map<IpAddress, RouteAnswer>> former_routes_;
  std::map<NeighbourKey, std::uint32_t> uses_;  // by how many routes
};

}  // namespace millrace::control
