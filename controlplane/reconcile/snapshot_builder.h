// SPDX-License-Identifier: Apache-2.0
//
// The state as the operator sees it: fills the parts of a Snapshot that come from decisions. Cold
// and pure.
#pragma once

#include <cstdint>
#include <vector>

#include "controlplane/net/route_watch.h"
#include "controlplane/reconcile/control_state.h"
#include "controlplane/reconcile/owner_counters.h"
#include "controlplane/reconcile/path_mtus.h"
#include "controlplane/reconcile/snapshot.h"

namespace millrace::control {

struct SnapshotSources {
  const ControlState& state;
  const OwnerCounters& counters;
  const RouteWatch& routes;
  const PathMtus& path_mtus;
  bool is_engine_unseen;
  std::uint64_t now_ns;  // CLOCK_MONOTONIC
};

[[nodiscard]] std::vector<VipSnapshot> snapshot_vips(const ControlState& state);
[[nodiscard]] std::vector<ListenerSnapshot> snapshot_listeners(const SnapshotSources& sources);
[[nodiscard]] std::vector<TargetGroupSnapshot> snapshot_groups(const SnapshotSources& sources);

}  // namespace millrace::control
