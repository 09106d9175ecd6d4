// SPDX-License-Identifier: Apache-2.0
//
// What an image needs to know of the surroundings: ways to targets, default next hops, the node's
// own addresses. Cold.
#include <algorithm>

#include "controlplane/reconcile/reconciler.h"

namespace millrace::control {

std::optional<mr_next_hop> Reconciler::resolved(const std::optional<NextHopInfo>& hop) const {
  if (!hop || !hop->resolved) return std::nullopt;
  const std::optional<std::uint8_t> nic = engine_.nic_of_twin(hop->twin_index);
  if (!nic) return std::nullopt;
  mr_next_hop out{};
  std::copy(hop->mac.begin(), hop->mac.end(), out.mac);
  out.nic = *nic;
  out.flags = MR_NEXT_HOP_RESOLVED;
  return out;
}

// The way as the image in force has it. It is used while the kernel has not answered since our
// start, or while nobody tells for which interfaces its answers count: an engine that cannot be
// seen may well forward by this image.
core::ConfigView Reconciler::stand_in(std::uint64_t now_ns) const {
  const bool is_known = now_ns >= opened_at_ns_ + kGraceNs && !engine_.is_unseen();
  return is_known ? core::ConfigView{} : publisher_->published();
}

FindWay Reconciler::way_to_targets(std::uint64_t now_ns) const {
  return [this, before = stand_in(now_ns)](const TargetRecord& target) -> WayToTarget {
    const auto info = hooks_.find_next_hop(target.key.address);
    if (const auto hop = resolved(info)) return {.next_hop = *hop, .mtu = info->mtu};
    const bool is_known =
        target.slot < before.targets.size() && before.targets[target.slot].id == target.id;
    if (!is_known) return {};
    const mr_target& known = before.targets[target.slot];
    return {.next_hop = known.next_hop, .mtu = known.mtu};
  };
}

Surroundings Reconciler::surroundings(std::uint64_t now_ns) const {
  const core::ConfigView before = stand_in(now_ns);
  Surroundings around;
  around.way_to = way_to_targets(now_ns);
  auto default_hop = [&](AddressFamily family, const mr_next_hop* fallback) {
    return resolved(hooks_.default_next_hop(family))
        .value_or(fallback == nullptr ? mr_next_hop{} : *fallback);
  };
  const mr_image* image = before.image;
  around.default_next_hop_v4 =
      default_hop(AddressFamily::ipv4, image == nullptr ? nullptr : &image->default_next_hop_v4);
  around.default_next_hop_v6 =
      default_hop(AddressFamily::ipv6, image == nullptr ? nullptr : &image->default_next_hop_v6);
  for (const IpAddress& address : hooks_.local_addresses()) {
    around.local_addrs.push_back(address.addr);
  }
  if (around.local_addrs.empty()) {
    around.local_addrs.assign(before.local_addrs.begin(), before.local_addrs.end());
  }
  for (const LocalMac& own : hooks_.local_macs()) {
    const std::optional<std::uint8_t> nic = engine_.nic_of_twin(own.twin_index);
    if (!nic) continue;
    mr_local_mac& out = around.local_macs.emplace_back();
    std::copy(own.mac.begin(), own.mac.end(), out.mac);
    out.nic = *nic;
  }
  if (around.local_macs.empty()) {
    around.local_macs.assign(before.local_macs.begin(), before.local_macs.end());
  }
  around.encap_source_v4 = encap_source(AddressFamily::ipv4, image);
  around.encap_source_v6 = encap_source(AddressFamily::ipv6, image);
  return around;
}

// The address that the config names, or else the one that the kernel would send from to the first
// such target.
mr_addr Reconciler::encap_source(AddressFamily family, const mr_image* before) const {
  const bool is_v4 = family == AddressFamily::ipv4;
  const auto& named = is_v4 ? state_.node.encap_source_v4 : state_.node.encap_source_v6;
  if (named) return named->addr;
  for (const auto& [name, group] : state_.groups) {
    if (!encapsulates(group.settings.forwarding)) continue;
    for (const auto& [key, target] : group.targets) {
      if (key.address.is_v4() != is_v4) continue;
      const auto hop = hooks_.find_next_hop(key.address);
      if (hop && hop->source) return hop->source->addr;
    }
  }
  if (before == nullptr) return {};
  return is_v4 ? before->encap_source_v4 : before->encap_source_v6;
}

}  // namespace millrace::control
