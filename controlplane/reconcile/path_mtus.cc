// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/path_mtus.h"

#include <algorithm>

#include "dataplane/rules/forwarding_rule.h"

namespace millrace::control {
namespace {

// Whether an engine may have sent the quoted packet to a target of this group.
bool is_of_group(const OuterError& error, const std::string& name, const GroupState& group,
                 const ControlState& state) {
  const bool is_udp = error.protocol == MR_PROTOCOL_UDP;
  const Forwarding forwarding = group.settings.forwarding;
  if (forwarding != (is_udp ? Forwarding::gue : Forwarding::ipip)) return false;
  if (is_udp && error.destination_port != group.settings.gue_port) return false;
  if (!error.inner) return true;                  // too little is quoted
  if (!mr_is_transport(error.inner->protocol)) {  // an ICMP error, or a fragment over IPv6
    return std::ranges::count(group.vips, error.inner->vip) != 0;
  }
  const auto listener = state.listeners.find({.vip = error.inner->vip,
                                              .protocol = Protocol{error.inner->protocol},
                                              .port = error.inner->vip_port});
  return listener != state.listeners.end() && listener->second.target_group == name;
}

bool has_address(const GroupState& group, const IpAddress& address) {
  return std::ranges::any_of(group.targets,
                             [&](const auto& entry) { return entry.first.address == address; });
}

// Of the groups whose packets to it are in other packets.
std::set<std::string> groups_with(const IpAddress& address, const ControlState& state) {
  std::set<std::string> names;
  for (const auto& [name, group] : state.groups) {
    if (encapsulates(group.settings.forwarding) && has_address(group, address)) names.insert(name);
  }
  return names;
}

}  // namespace

std::set<std::string> PathMtus::learn(const OuterError& error, const Sources& sources,
                                      std::uint64_t now_ns) {
  const mr_image* image = sources.in_force.image;
  if (image == nullptr) return {};
  const bool is_v4 = error.destination.is_v4();
  const EncapSource own = EncapSource::of(is_v4 ? image->encap_source_v4 : image->encap_source_v6);
  if (!own.contains(error.source)) return {};
  if (!is_v4 && error.mtu < MR_IPV6_MTU_MIN) return {};  // RFC 8201 section 4
  if (sources.route_mtu != 0 && error.mtu >= sources.route_mtu) return {};
  std::set<std::string> names = groups_with(error.destination, sources.state);
  const auto is_any = [&](auto what) {
    return std::ranges::any_of(
        names, [&](const std::string& name) { return what(name, sources.state.groups.at(name)); });
  };
  const bool is_believed = is_any([&](const std::string& name, const GroupState& group) {
    return is_of_group(error, name, group, sources.state);
  });
  if (!is_believed) return {};
  const auto [place, is_new] = known_.try_emplace(error.destination);
  Known& known = place->second;
  if (!is_new && error.mtu >= known.mtu) return {};
  // Below what is taken for true, one byte less is no news.
  const bool is_news = is_new || is_any([&](const std::string&, const GroupState& group) {
                         return known.mtu > smallest_mtu_towards(error.destination, group);
                       });
  if (!is_news) return {};
  known = {.mtu = error.mtu, .learned_ns = now_ns};
  return names;
}

std::set<std::string> PathMtus::forget_old(const ControlState& state, std::uint64_t now_ns) {
  std::set<std::string> groups;
  std::erase_if(known_, [&](const auto& entry) {
    const auto& [address, known] = entry;
    if (now_ns < known.learned_ns + kLifetimeNs) return false;
    groups.merge(groups_with(address, state));
    return true;
  });
  return groups;
}

std::uint16_t PathMtus::towards(const IpAddress& target, const GroupState& group,
                                std::uint16_t route_mtu) const {
  const std::uint16_t told = told_towards(target, group, route_mtu);
  if (told == route_mtu) return route_mtu;
  const auto smallest = static_cast<std::uint16_t>(smallest_mtu_towards(target, group));
  const std::uint16_t mtu = std::max(told, smallest);
  return route_mtu == 0 ? mtu : std::min(route_mtu, mtu);
}

std::uint16_t PathMtus::told_towards(const IpAddress& target, const GroupState& group,
                                     std::uint16_t route_mtu) const {
  if (known_.empty() || !encapsulates(group.settings.forwarding)) return route_mtu;
  const auto known = known_.find(target);
  if (known == known_.end()) return route_mtu;
  return route_mtu == 0 ? known->second.mtu : std::min(route_mtu, known->second.mtu);
}

std::uint32_t smallest_mtu_towards(const IpAddress& target, const GroupState& group) {
  constexpr std::uint32_t kSmallestV4 = 576;  // RFC 791 section 3.1: what every host must take
  const bool has_v6 =
      std::ranges::any_of(group.vips, [](const IpAddress& vip) { return !vip.is_v4(); });
  return (has_v6 ? MR_IPV6_MTU_MIN : kSmallestV4) +
         mr_outer_bytes(static_cast<std::uint8_t>(group.settings.forwarding), target.is_v4());
}

}  // namespace millrace::control
