// SPDX-License-Identifier: Apache-2.0
#include "controlplane/net/next_hop_table.h"

#include <linux/neighbour.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <cstdio>
#include <system_error>
#include <utility>

#include "dataplane/core/wire.h"
#include "dataplane/rules/address_rule.h"

namespace millrace::control {
namespace {

// Entries that the kernel vouches for or is asking about already.
constexpr std::uint16_t kNotToAsk =
    NUD_REACHABLE | NUD_PERMANENT | NUD_NOARP | NUD_DELAY | NUD_PROBE | NUD_INCOMPLETE;

// Whether an entry went from one that the kernel sends to into one that it does not, or back. Of
// several gateways, IPv4 passes over those that it is asking about (fib_multipath_use_neigh), IPv6
// over those that failed. That it asks a failed one again is no news: IPv6 would turn back to it.
bool turns_routes(std::uint16_t before, std::uint16_t after) {
  constexpr std::uint16_t kUnanswered = NUD_INCOMPLETE | NUD_FAILED;
  if ((after & kUnanswered) == 0) return (before & kUnanswered) != 0;
  return after != before && (before & NUD_FAILED) == 0;
}

std::string text_of(const MacAddress& mac) {
  char text[sizeof("00:00:00:00:00:00")] = "";
  (void)std::snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
                      mac[3], mac[4], mac[5]);
  return text;
}

bool is_loopback(const IpAddress& address) {
  static const IpAddress kV6Loopback = *IpAddress::parse("::1");
  return address == kV6Loopback || (address.is_v4() && address.addr.bytes[12] == 127);
}

// ff00::/8: groups that an interface was made to join by an address (IFA_F_MCAUTOJOIN).
bool is_multicast(const IpAddress& address) { return address.addr.bytes[0] == 0xff; }

bool is_link_local(const IpAddress& address) {
  return mr_is_link_local(core::words_of(address.addr).low);
}

std::optional<NeighbourKey> neighbour_of(const IpAddress& destination, const RouteAnswer& route) {
  if (route.error != 0 || route.type != RTN_UNICAST) return std::nullopt;
  return NeighbourKey{.link_index = route.link_index,
                      .address = route.gateway.value_or(destination)};
}

const char* why_not_unicast(std::uint8_t type) {
  switch (type) {
    case RTN_LOCAL:
      return "an address of this node";
    case RTN_BLACKHOLE:
      return "the route is a blackhole";
    case RTN_UNREACHABLE:
      return "the route says unreachable";
    case RTN_PROHIBIT:
      return "the route says prohibited";
    default:
      return "not a unicast address";
  }
}

NextHopInfo unresolved(std::string text) {
  NextHopInfo info;
  info.text = std::move(text);
  return info;
}

}  // namespace

void NextHopTable::set_twins(std::set<std::uint32_t> link_indices) {
  twins_ = std::move(link_indices);
}

Reasked NextHopTable::apply(const NetlinkEvent& event, NetTime now) {
  if (const auto* link = std::get_if<LinkEvent>(&event)) apply_link(*link, now);
  if (const auto* neighbour = std::get_if<NeighbourEvent>(&event)) {
    return apply_neighbour(*neighbour, now);
  }
  if (const auto* own = std::get_if<AddressEvent>(&event)) {
    const NeighbourKey key{.link_index = own->link_index, .address = own->address};
    if (own->is_removed) {
      addresses_.erase(key);
    } else {
      addresses_[key] = own->standing;
    }
  }
  return Reasked::all;  // links and addresses bring routes with them, of which IPv4 may not tell
}

void NextHopTable::apply_link(const LinkEvent& event, NetTime now) {
  if (event.is_removed) {
    links_.erase(event.link_index);
    return;
  }
  auto [found, is_new] = links_.try_emplace(event.link_index);
  Link& link = found->second;
  if (!is_new && event.has_carrier && !link.has_carrier) link.carrier_since = now;
  link.name = event.name;
  link.has_carrier = event.has_carrier;
  link.mtu = event.mtu;
  link.mac = event.mac;
  link.lower_index = event.lower_index;
  link.is_macvlan = event.is_macvlan;
  link.is_up = event.is_up;
  link.vlan_id = event.vlan_id;
}

Reasked NextHopTable::apply_neighbour(const NeighbourEvent& event, NetTime now) {
  const NeighbourKey key{.link_index = event.link_index, .address = event.address};
  if (event.is_removed && !is_used(key)) {
    neighbours_.erase(key);
    return Reasked::none;  // one that had failed is not better for it
  }
  Neighbour& neighbour = neighbours_[key];
  const std::uint16_t before = neighbour.state;
  neighbour.state = event.is_removed ? std::uint16_t{NUD_NONE} : event.state;
  if (event.is_removed) return Reasked::none;
  if (event.state == NUD_FAILED) {
    if (is_settled(event.link_index, now)) neighbour.mac.reset();
  } else if (event.mac && event.state != NUD_INCOMPLETE) {
    neighbour.mac = event.mac;
  }
  if (!is_undecided(key)) former_routes_.erase(key);
  // Most neighbours are no gateway: who scans the link must not have all routes asked again.
  const bool is_gateway = gateways_.contains(key);
  return is_gateway && turns_routes(before, event.state) ? Reasked::behind_gateways : Reasked::none;
}

void NextHopTable::begin_resync() {
  addresses_.clear();
  std::erase_if(neighbours_, [this](const auto& known) { return !is_used(known.first); });
  for (auto& [key, neighbour] : neighbours_) neighbour.state = NUD_NONE;
  // Links stay, for carrier_since; one that is gone is named by no route any more, and is no VLAN.
  for (auto& [index, link] : links_) link.is_up = false;
}

void NextHopTable::set_route(const IpAddress& destination, const RouteAnswer& answer) {
  const std::optional<RouteAnswer> worked = working_route(destination);
  forget(destination);
  if (const auto key = neighbour_of(destination, answer)) {
    ++uses_[*key];
    if (answer.gateway) gateways_.insert(*key);
    if (worked && is_undecided(*key)) former_routes_[*key].emplace(destination, *worked);
  }
  routes_.insert_or_assign(destination, answer);
}

void NextHopTable::forget(const IpAddress& destination) {
  const auto route = routes_.find(destination);
  if (route == routes_.end()) return;
  if (const auto key = neighbour_of(destination, route->second)) {
    const auto use = uses_.find(*key);
    if (--use->second == 0) uses_.erase(use);
    if (const auto former = former_routes_.find(*key); former != former_routes_.end()) {
      former->second.erase(destination);
      if (former->second.empty()) former_routes_.erase(former);
    }
  }
  routes_.erase(route);
}

bool NextHopTable::is_behind_gateway(const IpAddress& destination) const {
  const auto route = routes_.find(destination);
  return route != routes_.end() && route->second.gateway;
}

NextHopInfo NextHopTable::next_hop(const IpAddress& destination) const {
  if (const RouteAnswer* former = former_route(destination)) {
    NextHopInfo info = by_route(destination, *former);
    if (info.resolved) return info;
  }
  const auto found = routes_.find(destination);
  if (found == routes_.end()) return unresolved("not looked up yet");
  return by_route(destination, found->second);
}

// nullptr once the neighbour of the present one has been decided, and while nobody asks for it.
const RouteAnswer* NextHopTable::former_route(const IpAddress& destination) const {
  if (former_routes_.empty()) return nullptr;
  const auto route = routes_.find(destination);
  if (route == routes_.end()) return nullptr;
  const auto key = neighbour_of(destination, route->second);
  const bool is_asked = key && can_be_asked(key->link_index);
  const auto of_key = is_asked ? former_routes_.find(*key) : former_routes_.end();
  if (of_key == former_routes_.end()) return nullptr;
  const auto former = of_key->second.find(destination);
  return former == of_key->second.end() ? nullptr : &former->second;
}

std::optional<RouteAnswer> NextHopTable::working_route(const IpAddress& destination) const {
  if (!next_hop(destination).resolved) return std::nullopt;
  const RouteAnswer* former = former_route(destination);
  return former != nullptr ? *former : routes_.at(destination);
}

NextHopInfo NextHopTable::by_route(const IpAddress& destination, const RouteAnswer& route) const {
  if (route.error != 0) {
    return unresolved("no route: " + std::generic_category().message(route.error));
  }
  const auto key = neighbour_of(destination, route);
  if (!key) return unresolved(why_not_unicast(route.type));
  if (!is_driven(route.link_index)) {
    return unresolved("route leaves by " + name_of(route.link_index) + ", which no engine drives");
  }
  return by_neighbour(*key, route);
}

NextHopInfo NextHopTable::by_neighbour(const NeighbourKey& key, const RouteAnswer& route) const {
  NextHopInfo info;
  info.twin_index = key.link_index;
  info.mtu = mtu_of(route);
  if (route.source && !is_link_local(*route.source)) info.source = route.source;
  info.text = (route.gateway ? "via " + key.address.to_string() + " dev " : "dev ") +
              name_of(key.link_index);
  const auto found = neighbours_.find(key);
  if (found == neighbours_.end() || !found->second.mac) {
    const bool has_failed = found != neighbours_.end() && found->second.state == NUD_FAILED;
    const char* asks = key.address.is_v4() ? "ARP" : "neighbour solicitation";
    info.text += has_failed ? std::string(", no answer to ") + asks : ", not resolved yet";
    return info;
  }
  info.resolved = true;
  info.mac = *found->second.mac;
  info.text += " lladdr " + text_of(info.mac);
  return info;
}

// The loopback's 65536 is no limit to a packet that has 16 bits for its length.
std::uint16_t NextHopTable::mtu_of(const RouteAnswer& route) const {
  const auto link = links_.find(route.link_index);
  const std::uint32_t of_link = link == links_.end() ? 0 : link->second.mtu;
  return static_cast<std::uint16_t>(std::min(route.mtu != 0 ? route.mtu : of_link, 0xffffu));
}

std::vector<IpAddress> NextHopTable::local_addresses() const {
  std::vector<IpAddress> local;
  const auto add = [&local](const IpAddress& address) {
    if (is_loopback(address) || is_multicast(address)) return;
    if (std::find(local.begin(), local.end(), address) == local.end()) local.push_back(address);
  };
  for (const auto& [own, standing] : addresses_) {
    if (is_driven(own.link_index)) add(own.address);
  }
  for (const auto& [own, standing] : addresses_) {
    if (!is_link_local(own.address)) add(own.address);
  }
  return local;
}

std::vector<OwnAddress> NextHopTable::own_addresses() const {
  std::vector<OwnAddress> own;
  for (const AddressStanding wanted :
       {AddressStanding::first, AddressStanding::further, AddressStanding::alone}) {
    for (const auto& [key, standing] : addresses_) {
      const bool is_told = standing == wanted && !is_loopback(key.address) &&
                           !is_multicast(key.address) && !is_link_local(key.address);
      if (!is_told) continue;
      own.push_back(
          {.twin_index = is_driven(key.link_index) ? key.link_index : 0, .address = key.address});
    }
  }
  return own;
}

// The twin's own among them: for the moments in which it is not its nic's, and for a twin that
// somebody gave another. A VLAN interface's own is told by vlans().
std::vector<LocalMac> NextHopTable::local_macs() const {
  std::vector<LocalMac> macs;
  for (const auto& [index, link] : links_) {
    const std::uint32_t below = link.is_macvlan ? link.lower_index : index;
    const bool is_told = link.is_macvlan ? is_driven(below) : twins_.contains(index);
    if (link.mac && is_told) macs.push_back({.twin_index = below, .mac = *link.mac});
  }
  return macs;
}

std::vector<VlanLink> NextHopTable::vlans() const {
  std::vector<VlanLink> vlans;
  for (const auto& [index, link] : links_) {
    if (!is_vlan(link)) continue;
    vlans.push_back({.link_index = index,
                     .twin_index = link.lower_index,
                     .vlan_id = link.vlan_id,
                     .mac = *link.mac});
  }
  return vlans;
}

std::string NextHopTable::interface_of(const IpAddress& address) const {
  const auto found = std::find_if(addresses_.begin(), addresses_.end(),
                                  [&](const auto& own) { return own.first.address == address; });
  return found == addresses_.end() ? "" : name_of(found->first.link_index);
}

std::vector<NeighbourKey> NextHopTable::neighbours_to_ask() const {
  std::vector<NeighbourKey> to_ask;
  for (const auto& [key, count] : uses_) {
    if (!can_be_asked(key.link_index)) continue;
    const auto known = neighbours_.find(key);
    const bool is_fine = known != neighbours_.end() && (known->second.state & kNotToAsk) != 0;
    if (!is_fine) to_ask.push_back(key);
  }
  return to_ask;
}

// Neither known nor asked in vain.
bool NextHopTable::is_undecided(const NeighbourKey& key) const {
  const auto known = neighbours_.find(key);
  return known == neighbours_.end() || (!known->second.mac && known->second.state != NUD_FAILED);
}

bool NextHopTable::is_used(const NeighbourKey& key) const { return uses_.contains(key); }

bool NextHopTable::can_be_asked(std::uint32_t link_index) const {
  const auto link = links_.find(link_index);
  return is_driven(link_index) && link != links_.end() && link->second.has_carrier;
}

bool NextHopTable::is_driven(std::uint32_t link_index) const {
  if (twins_.contains(link_index)) return true;
  const auto link = links_.find(link_index);
  return link != links_.end() && is_vlan(link->second);
}

bool NextHopTable::is_vlan(const Link& link) const {
  return link.vlan_id != 0 && link.is_up && link.mac && twins_.contains(link.lower_index);
}

bool NextHopTable::is_settled(std::uint32_t link_index, NetTime now) const {
  const auto found = links_.find(link_index);
  if (found == links_.end()) return false;
  const Link& link = found->second;
  return link.has_carrier && (!link.carrier_since || now - *link.carrier_since >= kCarrierSettle);
}

std::string NextHopTable::name_of(std::uint32_t link_index) const {
  const auto link = links_.find(link_index);
  return link == links_.end() ? "interface " + std::to_string(link_index) : link->second.name;
}

}  // namespace millrace::control
