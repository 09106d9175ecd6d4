// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/surroundings.h"

#include <algorithm>

namespace millrace::control {

std::optional<mr_next_hop> SurroundingsReader::resolved(
    const std::optional<NextHopInfo>& hop) const {
  if (!hop || !hop->resolved) return std::nullopt;
  const std::optional<std::uint8_t> nic = engine_.nic_of_twin(hop->twin_index);
  if (!nic) return std::nullopt;
  mr_next_hop out{};
  std::copy(hop->mac.begin(), hop->mac.end(), out.mac);
  out.nic = *nic;
  out.flags = MR_NEXT_HOP_RESOLVED;
  return out;
}

// What the image in force says, while the kernel has not answered since our start, or nobody tells
// for which interfaces its answers count: an engine that cannot be seen may well forward by it.
core::ConfigView SurroundingsReader::stand_in(const core::ConfigView& in_force,
                                              std::uint64_t now_ns) const {
  const bool is_known = is_grace_over(now_ns) && !engine_.is_unseen();
  return is_known ? core::ConfigView{} : in_force;
}

FindWay SurroundingsReader::way_to_targets(const core::ConfigView& in_force,
                                           std::uint64_t now_ns) const {
  return [this, before = stand_in(in_force, now_ns)](const TargetRecord& target,
                                                     const GroupState& group) -> WayToTarget {
    const IpAddress& address = target.key.address;
    const auto info = routes_.find(address);
    if (const auto hop = resolved(info)) {
      return {.next_hop = *hop, .mtu = path_mtus_.towards(address, group, info->mtu)};
    }
    const bool is_known =
        target.slot < before.targets.size() && before.targets[target.slot].id == target.id;
    if (!is_known) return {};
    const mr_target& known = before.targets[target.slot];
    return {.next_hop = known.next_hop, .mtu = known.mtu};
  };
}

Surroundings SurroundingsReader::read(const ControlState& state, const core::ConfigView& in_force,
                                      std::uint64_t now_ns) const {
  const core::ConfigView before = stand_in(in_force, now_ns);
  Surroundings around;
  around.way_to = way_to_targets(in_force, now_ns);
  read_default_next_hops(before.image, around);
  read_own_addresses(before, around);
  read_nic_addresses(state, before.image, around);
  around.encap_source_v4 = encap_source(AddressFamily::ipv4, state, before.image);
  around.encap_source_v6 = encap_source(AddressFamily::ipv6, state, before.image);
  return around;
}

void SurroundingsReader::read_default_next_hops(const mr_image* before,
                                                Surroundings& around) const {
  const mr_image nothing{};
  const mr_image& known = before == nullptr ? nothing : *before;
  around.default_next_hop_v4 =
      resolved(routes_.default_next_hop(AddressFamily::ipv4)).value_or(known.default_next_hop_v4);
  around.default_next_hop_v6 =
      resolved(routes_.default_next_hop(AddressFamily::ipv6)).value_or(known.default_next_hop_v6);
}

void SurroundingsReader::read_own_addresses(const core::ConfigView& before,
                                            Surroundings& around) const {
  for (const IpAddress& address : routes_.local_addresses()) {
    around.local_addrs.push_back(address.addr);
  }
  if (around.local_addrs.empty()) {
    around.local_addrs.assign(before.local_addrs.begin(), before.local_addrs.end());
  }
  for (const LocalMac& own : routes_.local_macs()) {
    const std::optional<std::uint8_t> nic = engine_.nic_of_twin(own.twin_index);
    if (!nic) continue;
    mr_local_mac& out = around.local_macs.emplace_back();
    std::copy(own.mac.begin(), own.mac.end(), out.mac);
    out.nic = *nic;
  }
  if (around.local_macs.empty()) {
    around.local_macs.assign(before.local_macs.begin(), before.local_macs.end());
  }
}

// What the kernel would send from by the default route, since most clients are behind it. On
// another nic one of its twin's addresses, and where that has none of a family, any of the node's
// own. A VIP is none: it may be an address of the node by mistake, and others have it, too.
void SurroundingsReader::read_nic_addresses(const ControlState& state, const mr_image* before,
                                            Surroundings& around) const {
  std::vector<OwnAddress> own = routes_.own_addresses();
  std::erase_if(own, [&](const OwnAddress& one) { return state.vips.contains(one.address); });
  if (own.empty() || engine_.is_unseen()) {  // whose nics' twins are not known
    if (before != nullptr) std::ranges::copy(before->nic_addrs, around.nic_addrs.begin());
    return;
  }
  const auto give = [&](std::uint8_t nic, const IpAddress& address) {
    mr_nic_addrs& of_nic = around.nic_addrs.at(nic);
    mr_addr& place = address.is_v4() ? of_nic.v4 : of_nic.v6;
    if (IpAddress{place} == IpAddress{}) place = address.addr;
  };
  for (const AddressFamily family : {AddressFamily::ipv4, AddressFamily::ipv6}) {
    const auto way = routes_.default_next_hop(family);
    const auto nic = way && way->source ? engine_.nic_of_twin(way->twin_index) : std::nullopt;
    const auto is_source = [&](const OwnAddress& one) { return one.address == *way->source; };
    if (nic && std::ranges::any_of(own, is_source)) give(*nic, *way->source);
  }
  for (const OwnAddress& one : own) {
    const auto nic = one.twin_index == 0 ? std::nullopt : engine_.nic_of_twin(one.twin_index);
    if (nic) give(*nic, one.address);
  }
  for (std::uint8_t nic = 0; nic < MR_NIC_COUNT_MAX; ++nic) {
    for (const OwnAddress& one : own) give(nic, one.address);
  }
}

// What the config names, else what the kernel would send from to the first such target.
mr_encap_source SurroundingsReader::encap_source(AddressFamily family, const ControlState& state,
                                                 const mr_image* before) const {
  const bool is_v4 = family == AddressFamily::ipv4;
  const auto& named = is_v4 ? state.node.encap_source_v4 : state.node.encap_source_v6;
  if (named) return named->published();
  for (const auto& [name, group] : state.groups) {
    if (!encapsulates(group.settings.forwarding)) continue;
    for (const auto& [key, target] : group.targets) {
      if (key.address.is_v4() != is_v4) continue;
      const auto hop = routes_.find(key.address);
      if (hop && hop->source) return {.addr = hop->source->addr, .spread_be = 0, .reserved = 0};
    }
  }
  if (before == nullptr) return {};
  return is_v4 ? before->encap_source_v4 : before->encap_source_v6;
}

}  // namespace millrace::control
