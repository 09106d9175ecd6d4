// SPDX-License-Identifier: Apache-2.0
//
// What is in force wins over what the store says. A store that was lost, or put back from an older
// copy, must not give the slots and ids of living flows to anybody else. Cold and pure.
//
// The image in force names every slot and id that a flow can lead to, and who has them: a listener
// by (VIP, protocol, port), a group by the identity of its name and protocol, a target by its group
// and the identity of its address, port and protocol. Whoever is the same by these keeps slot and
// id, so that flows go on. A target that only the image knows drains. What only the store knows was
// not in force, and gives way if the two contradict each other.
#pragma once

#include <cstdint>
#include <string>

#include "controlplane/model/model.h"
#include "controlplane/reconcile/control_state.h"
#include "dataplane/core/config_view.h"

namespace millrace::control {

// What was taken over from the image because the state said something else, or nothing.
struct Recovered {
  std::uint32_t listeners = 0;
  std::uint32_t groups = 0;
  std::uint32_t targets = 0;

  [[nodiscard]] bool is_anything() const { return listeners + groups + targets != 0; }
};

// Makes `state`, as restored from the store, agree with `in_force`, which may have no image. A
// group is found by its name in `state` or `wanted`, the config that is about to be applied.
[[nodiscard]] Recovered recover_in_force(ControlState& state, const core::ConfigView& in_force,
                                         const Config& wanted);

// For the log.
[[nodiscard]] std::string to_string(const Recovered& recovered);

}  // namespace millrace::control
