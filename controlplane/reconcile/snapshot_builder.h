// SPDX-License-Identifier: Apache-2.0
//
// The state as the operator sees it: fills the parts of a Snapshot that come from decisions. Cold
// and pure.
#pragma once

#include <functional>
#include <optional>

#include "controlplane/net/next_hops.h"
#include "controlplane/reconcile/control_state.h"
#include "controlplane/reconcile/observations.h"
#include "controlplane/reconcile/snapshot.h"

namespace millrace::control {

struct SnapshotSources {
  const ControlState& state;
  const CounterSums<mr_listener_stats>& listener_sums;
  const CounterSums<mr_target_stats>& target_sums;
  std::function<std::optional<NextHopInfo>(const IpAddress&)> find_next_hop;
  bool is_engine_unseen;
  std::uint64_t now_ns;  // CLOCK_MONOTONIC
};

[[nodiscard]] std::vector<ListenerSnapshot> snapshot_listeners(const SnapshotSources& sources);
[[nodiscard]] std::vector<TargetGroupSnapshot> snapshot_groups(const SnapshotSources& sources);

}  // namespace millrace::control
