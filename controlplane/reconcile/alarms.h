// SPDX-License-Identifier: Apache-2.0
//
// What needs the operator's attention, in sentences: status shows them, telemetry counts them.
// Cold.
#pragma once

#include <vector>

#include "controlplane/net/route_watch.h"
#include "controlplane/publish/image_contents.h"
#include "controlplane/reconcile/control_state.h"
#include "controlplane/reconcile/path_mtus.h"
#include "controlplane/reconcile/snapshot.h"

namespace millrace::control {

struct AlarmSources {
  const ControlState& state;
  const EngineSnapshot& engine;
  const ImageContents& given;  // to the engine
  const RouteWatch& routes;
  const PathMtus& path_mtus;
};

// Those that were noted where they came up, and behind them what these sources show.
[[nodiscard]] std::vector<Alarm> all_alarms(std::vector<Alarm> noted, const AlarmSources& sources);

}  // namespace millrace::control
