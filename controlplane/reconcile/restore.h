// SPDX-License-Identifier: Apache-2.0
//
// The state to and from the store, so that a restarted control plane goes on as if nothing had
// been. Cold and pure; time is an argument.
#pragma once

#include <cstdint>

#include "controlplane/reconcile/clock.h"
#include "controlplane/reconcile/control_state.h"
#include "controlplane/store/stored_state.h"
#include "dataplane/core/config_view.h"
#include "dataplane/core/result.h"

namespace millrace::control {

// `generation_floor` and what it takes from `state` make the whole.
[[nodiscard]] StoredState to_store(const ControlState& state, std::uint64_t generation_floor,
                                   const Moment& now);

[[nodiscard]] StoredTarget to_store(const TargetRecord& target, const Moment& now);

// Fails when rows contradict each other. A drain ends at its stored time, but never later than a
// whole deregistration delay from now, whatever the wall clock did meanwhile.
[[nodiscard]] Result<ControlState> from_store(const StoredState& stored, const Moment& now);

// Takes lookup tables over from the image that is in force, by target ids.
void restore_epochs(ControlState& state, const core::ConfigView& published, std::uint64_t now_ns);

// Takes over from the image in force which targets are unreachable. Those are targets without a
// next hop in a group that has a next hop to another target: that one got its new flows.
void restore_ways(ControlState& state, const core::ConfigView& published);

}  // namespace millrace::control
