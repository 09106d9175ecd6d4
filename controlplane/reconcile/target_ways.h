// SPDX-License-Identifier: Apache-2.0
//
// By which nic each target is reached, and which targets are out of the engine's reach, from what
// the engine was given. Cold and pure; time is an argument.
#pragma once

#include <cstdint>
#include <set>

#include "controlplane/publish/image_contents.h"
#include "controlplane/reconcile/control_state.h"
#include "controlplane/reconcile/group_queue.h"
#include "controlplane/reconcile/health_hold.h"

namespace millrace::control {

// Notes of each target the nic by which it is reached, or was while the kernel still knew. Returns
// all of them.
[[nodiscard]] NicMask note_nics(ControlState& state, const ImageContents& given);

// The targets behind these nics. Those whose nic was never known are behind any. Those that have
// changed to another nic count as behind both: with an interface that is set down or removed its
// routes go, and the kernel then names the default route, by which nobody may reach them.
[[nodiscard]] std::set<TargetKey> targets_behind(NicMask nics, const ControlState& state);

// Notes of each target whether the engine has a way to it, and adds the groups in which that
// changes something to `changed`. While nobody attends to the engine, what it was given may be out
// of date: then no target becomes unreachable, and none that was so is taken for reachable.
void note_ways(ControlState& state, const ImageContents& given, bool is_engine_running,
               std::uint64_t now_ns, GroupQueue& changed);

}  // namespace millrace::control
