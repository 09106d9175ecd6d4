// SPDX-License-Identifier: Apache-2.0
//
// Turns a wanted config into changes of the state: what is new gets slots and ids, what is gone
// drains, what is equal is not touched. Cold and pure; time is an argument.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "controlplane/model/model.h"
#include "controlplane/reconcile/control_state.h"
#include "controlplane/reconcile/controller.h"
#include "dataplane/core/result.h"

namespace millrace::control {

// How many ids apply_config() would take: for listeners, groups and targets that are new.
[[nodiscard]] std::uint32_t ids_needed(const ControlState& state, const Config& config);

// Applies `config`, which config/ has checked. `state.ids` has room for what it needs. Fails
// without any effect when it does not fit the contract's ceilings. The outcome's generation is left
// 0.
[[nodiscard]] Result<ApplyOutcome> apply_config(ControlState& state, const Config& config,
                                                std::uint64_t now_ns);

// Frees targets and groups that left the config and have no flows any more. `active_flows` says how
// many flows a target slot has, or nullopt if nobody knows. True when something was freed.
using ActiveFlows = std::function<std::optional<std::uint64_t>(std::uint32_t target_slot)>;
[[nodiscard]] bool retire_targets(ControlState& state, const ActiveFlows& active_flows,
                                  std::uint64_t now_ns);

}  // namespace millrace::control
