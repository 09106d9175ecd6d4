// SPDX-License-Identifier: Apache-2.0
//
// Groups whose replies may pass another node than the requests. That node sees a machine and a
// port, and nothing else, so these must tell the group. Cold.
#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "controlplane/config/draft.h"

namespace millrace::control {
namespace {

struct Place {
  const TargetGroupDraft* group;
  const TargetDraft* target;
};
// By machine and port; 0: any.
using Places = std::map<std::pair<IpAddress, std::uint16_t>, std::vector<Place>>;

std::uint16_t port_of(const TargetGroupDraft& group, const TargetDraft& target) {
  return target.port.value_or(group.port.value_or(0));
}

bool share_protocol(const TargetGroupDraft& a, const TargetGroupDraft& b) {
  if (!a.protocol || !b.protocol) return false;
  return std::ranges::any_of(protocols_of(*a.protocol), [&](Protocol one) {
    return std::ranges::count(protocols_of(*b.protocol), one) != 0;
  });
}

// Of groups whose targets' packets pass the node.
Places places_of(const ConfigDraft& draft) {
  Places places;
  for (const TargetGroupDraft& group : draft.target_groups) {
    if (!sees_replies(group.settings.forwarding)) continue;
    for (const TargetDraft& target : group.targets) {
      if (!target.address) continue;
      places[{target.address->value, port_of(group, target)}].push_back(
          {.group = &group, .target = &target});
    }
  }
  return places;
}

// What another group has at a target's machine and port, or at any port of the machine.
const TargetDraft* other_at(const Places& places, const TargetGroupDraft& group,
                            const TargetDraft& target) {
  for (const std::uint16_t port : {port_of(group, target), std::uint16_t{0}}) {
    const auto here = places.find({target.address->value, port});
    if (here == places.end()) continue;
    const auto other = std::ranges::find_if(here->second, [&](const Place& place) {
      return place.group != &group && share_protocol(*place.group, group);
    });
    if (other != here->second.end()) return other->target;
  }
  return nullptr;
}

bool is_asymmetric(const TargetGroupDraft& group) {
  return group.settings.asymmetric_returns && group.name;
}

}  // namespace

void check_asymmetric_targets(const ConfigDraft& draft, ErrorList& errors) {
  if (std::ranges::none_of(draft.target_groups, is_asymmetric)) return;
  const Places places = places_of(draft);
  for (const TargetGroupDraft& group : draft.target_groups) {
    if (!is_asymmetric(group)) continue;
    for (const TargetDraft& target : group.targets) {
      const TargetDraft* other = target.address ? other_at(places, group, target) : nullptr;
      if (other == nullptr) continue;
      errors.add(target.at,
                 "target group " + quote(group.name->value) +
                     " has millrace.asymmetric_returns.enabled, and " +
                     target.address->value.to_string() +
                     " with this port is a target of another group, too, in " + line_of(other->at) +
                     "; replies that pass another node than the requests do not say which group "
                     "was asked: give the target another port there");
    }
  }
}

}  // namespace millrace::control
