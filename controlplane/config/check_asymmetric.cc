// SPDX-License-Identifier: Apache-2.0
//
// Groups whose replies may pass another node than the requests. That node sees a machine and a
// port, and nothing else, so these must tell the group. Cold.
#include <algorithm>
#include <map>
#include <vector>

#include "controlplane/config/draft.h"

namespace millrace::control {
namespace {

struct Place {
  const TargetGroupDraft* group;
  const TargetDraft* target;
  std::uint16_t port;  // 0: any
};

bool share_protocol(const TargetGroupDraft& a, const TargetGroupDraft& b) {
  if (!a.protocol || !b.protocol) return false;
  return std::ranges::any_of(protocols_of(*a.protocol), [&](Protocol one) {
    return std::ranges::count(protocols_of(*b.protocol), one) != 0;
  });
}

// Of groups whose targets' packets pass the node, by machine.
std::map<IpAddress, std::vector<Place>> places_of(const ConfigDraft& draft) {
  std::map<IpAddress, std::vector<Place>> places;
  for (const TargetGroupDraft& group : draft.target_groups) {
    if (!sees_replies(group.settings.forwarding)) continue;
    for (const TargetDraft& target : group.targets) {
      if (!target.address) continue;
      places[target.address->value].push_back(
          {.group = &group,
           .target = &target,
           .port = target.port.value_or(group.port.value_or(0))});
    }
  }
  return places;
}

}  // namespace

void check_asymmetric_targets(const ConfigDraft& draft, ErrorList& errors) {
  for (const auto& [address, here] : places_of(draft)) {
    for (const Place& one : here) {
      if (!one.group->settings.asymmetric_returns || !one.group->name) continue;
      const auto other = std::ranges::find_if(here, [&](const Place& place) {
        return place.group != one.group && (place.port == one.port || place.port == 0) &&
               share_protocol(*place.group, *one.group);
      });
      if (other == here.end()) continue;
      errors.add(one.target->at,
                 "target group " + quote(one.group->name->value) +
                     " has millrace.asymmetric_returns.enabled, and " + address.to_string() +
                     " with this port is a target of another group, too, in " +
                     line_of(other->target->at) +
                     "; replies that pass another node than the requests do not say which group "
                     "was asked: give the target another port there");
    }
  }
}

}  // namespace millrace::control
