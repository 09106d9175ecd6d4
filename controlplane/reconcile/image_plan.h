// SPDX-License-Identifier: Apache-2.0
//
// What to publish, from what was decided. Cold and pure.
#pragma once

#include <functional>
#include <optional>

#include "controlplane/publish/image_contents.h"
#include "controlplane/reconcile/control_state.h"

namespace millrace::control {

struct WayToTarget {
  mr_next_hop next_hop{};
  std::uint16_t mtu = 0;  // 0: not known
};

using FindWay = std::function<WayToTarget(const TargetRecord&, const GroupState&)>;

// What an image needs to know of the surroundings: ways to targets and the node's own addresses.
struct Surroundings {
  FindWay way_to;
  mr_next_hop default_next_hop_v4{};
  mr_next_hop default_next_hop_v6{};
  std::vector<mr_addr> local_addrs;
  std::vector<mr_local_mac> local_macs;
  std::vector<mr_vlan> vlans;
  mr_encap_source encap_source_v4{};  // :: for none
  mr_encap_source encap_source_v6{};
  NicAddrs nic_addrs{};
};

// Idle timeouts of a listener's flows, by enum mr_flow_state.
[[nodiscard]] mr_listener planned_listener(const ListenerKey& key, const ListenerRecord& record,
                                           std::uint32_t group_slot);

// Brings every group's lookup table up to date with its targets.
void update_epochs(ControlState& state, std::uint64_t now_ns);

void update_epochs(GroupState& group, const Node& node, std::uint64_t now_ns);

// Plans one group and its targets anew. The set of its targets must be the same. True when
// `contents` has changed.
[[nodiscard]] bool replan_group(ImageContents& contents, const GroupState& group,
                                const FindWay& way_to);

// Plans anew what depends on the group's health: whether its VIPs answer echo requests. True when
// `contents` has changed.
[[nodiscard]] bool replan_vips(ImageContents& contents, const GroupState& group,
                               const ControlState& state);

[[nodiscard]] ImageContents plan_image(const ControlState& state, const Surroundings& around);

// True when publishing `b` after `a` would tell an engine nothing new.
[[nodiscard]] bool are_equal(const ImageContents& a, const ImageContents& b);

}  // namespace millrace::control
