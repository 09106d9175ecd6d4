// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/surroundings.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "dataplane/core/wire.h"

namespace millrace::control {

namespace {

bool is_present(const mr_vlan& vlan) { return (vlan.flags & MR_VLAN_PRESENT) != 0; }

std::uint32_t tag_of(const VlanLink& link) {
  return core::to_be32(MR_ETH_TYPE_VLAN << 16 | link.vlan_id);
}

}  // namespace

std::optional<std::uint8_t> SurroundingsReader::nic_of(std::uint32_t link_index,
                                                       std::span<const mr_vlan> vlans) const {
  if (link_index == 0) return std::nullopt;
  if (const auto nic = engine_.nic_of_twin(link_index)) return nic;
  const auto found = std::ranges::find_if(vlans, [&](const mr_vlan& vlan) {
    return is_present(vlan) && vlan.link_index == link_index;
  });
  if (found == vlans.end()) return std::nullopt;
  return static_cast<std::uint8_t>(MR_NIC_COUNT_MAX + (found - vlans.begin()));
}

std::optional<mr_next_hop> SurroundingsReader::resolved(const std::optional<NextHopInfo>& hop,
                                                        std::span<const mr_vlan> vlans) const {
  if (!hop || !hop->resolved) return std::nullopt;
  const std::optional<std::uint8_t> nic = nic_of(hop->twin_index, vlans);
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
  return find_way({in_force.vlans.begin(), in_force.vlans.end()}, stand_in(in_force, now_ns));
}

FindWay SurroundingsReader::find_way(std::vector<mr_vlan> vlans,
                                     const core::ConfigView& before) const {
  return [this, before, vlans = std::move(vlans)](const TargetRecord& target,
                                                  const GroupState& group) -> WayToTarget {
    const IpAddress& address = target.key.address;
    const auto info = routes_.find(address);
    if (const auto hop = resolved(info, vlans)) {
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
  around.vlans = vlans_now(in_force);
  around.way_to = find_way(around.vlans, before);
  read_default_next_hops(before.image, around);
  read_own_addresses(before, around);
  read_nic_addresses(state, before.image, around);
  around.encap_source_v4 = encap_source(AddressFamily::ipv4, state, before.image);
  around.encap_source_v6 = encap_source(AddressFamily::ipv6, state, before.image);
  return around;
}

std::vector<VlanLink> SurroundingsReader::vlans_on_nics() const {
  std::vector<VlanLink> links = routes_.vlans();
  std::erase_if(links, [&](const VlanLink& link) { return !engine_.nic_of_twin(link.twin_index); });
  return links;
}

// A flow names its last hop's VLAN by the slot. So a VLAN keeps its slot when its interface goes,
// until no other slot is left. Where nobody tells what nics there are, all stays as it is.
std::vector<mr_vlan> SurroundingsReader::vlans_now(const core::ConfigView& in_force) const {
  std::vector<mr_vlan> vlans(in_force.vlans.begin(), in_force.vlans.end());
  if (engine_.is_unseen()) return vlans;
  for (mr_vlan& vlan : vlans) {
    vlan.flags = 0;
    vlan.addrs = {};
  }
  const auto enter = [&](const VlanLink& link, mr_vlan& vlan) {
    std::memcpy(vlan.mac, link.mac.data(), sizeof(vlan.mac));
    vlan.nic = *engine_.nic_of_twin(link.twin_index);
    vlan.flags = MR_VLAN_PRESENT;
    vlan.tag = tag_of(link);
    vlan.link_index = link.link_index;
  };
  std::vector<VlanLink> links = vlans_on_nics();
  std::erase_if(links, [&](const VlanLink& link) {
    const auto known = std::ranges::find_if(vlans, [&](const mr_vlan& vlan) {
      return vlan.tag == tag_of(link) && vlan.nic == engine_.nic_of_twin(link.twin_index);
    });
    if (known == vlans.end()) return false;
    enter(link, *known);
    return true;
  });
  for (const VlanLink& link : links) {
    if (vlans.size() < MR_VLAN_COUNT_MAX) {
      enter(link, vlans.emplace_back());
      continue;
    }
    const auto left = std::ranges::find_if_not(vlans, is_present);
    if (left == vlans.end()) break;  // the others are the kernel's
    enter(link, *left);
  }
  return vlans;
}

void SurroundingsReader::read_default_next_hops(const mr_image* before,
                                                Surroundings& around) const {
  const mr_image nothing{};
  const mr_image& known = before == nullptr ? nothing : *before;
  around.default_next_hop_v4 = resolved(routes_.default_next_hop(AddressFamily::ipv4), around.vlans)
                                   .value_or(known.default_next_hop_v4);
  around.default_next_hop_v6 = resolved(routes_.default_next_hop(AddressFamily::ipv6), around.vlans)
                                   .value_or(known.default_next_hop_v6);
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
    const std::optional<std::uint8_t> nic = nic_of(own.twin_index, around.vlans);
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
// another nic one of its twin's addresses, in a VLAN one of its interface's, and where that has
// none of a family, any of the node's own. A VIP is none: it may be an address of the node by
// mistake, and others have it, too.
void SurroundingsReader::read_nic_addresses(const ControlState& state, const mr_image* before,
                                            Surroundings& around) const {
  std::vector<OwnAddress> own = routes_.own_addresses();
  std::erase_if(own, [&](const OwnAddress& one) { return state.vips.contains(one.address); });
  if (own.empty() || engine_.is_unseen()) {  // whose nics' twins are not known
    if (before != nullptr) std::ranges::copy(before->nic_addrs, around.nic_addrs.begin());
    return;
  }
  const auto give = [&](std::uint8_t nic, const IpAddress& address) {
    mr_nic_addrs& of_nic = nic < MR_NIC_COUNT_MAX ? around.nic_addrs.at(nic)
                                                  : around.vlans.at(nic - MR_NIC_COUNT_MAX).addrs;
    mr_addr& place = address.is_v4() ? of_nic.v4 : of_nic.v6;
    if (IpAddress{place} == IpAddress{}) place = address.addr;
  };
  for (const AddressFamily family : {AddressFamily::ipv4, AddressFamily::ipv6}) {
    const auto way = routes_.default_next_hop(family);
    const auto nic = way && way->source ? nic_of(way->twin_index, around.vlans) : std::nullopt;
    const auto is_source = [&](const OwnAddress& one) { return one.address == *way->source; };
    if (nic && std::ranges::any_of(own, is_source)) give(*nic, *way->source);
  }
  for (const OwnAddress& one : own) {
    const auto nic = nic_of(one.twin_index, around.vlans);
    if (nic) give(*nic, one.address);
  }
  for (std::uint32_t nic = 0; nic < MR_NIC_COUNT_MAX + around.vlans.size(); ++nic) {
    for (const OwnAddress& one : own) give(static_cast<std::uint8_t>(nic), one.address);
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
