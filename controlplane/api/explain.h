// SPDX-License-Identifier: Apache-2.0
//
// Which target a flow would get, and why: the packet path's decision, step by step, from the same
// published image and with the same functions (ARCHITECTURE.md, "Choosing a target"). Cold.
#pragma once

#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "controlplane/model/model.h"
#include "controlplane/reconcile/snapshot.h"
#include "dataplane/core/config_view.h"

namespace millrace::control {

struct FlowQuestion {
  IpAddress client;
  std::uint16_t client_port = 0;
  IpAddress vip;
  std::uint16_t vip_port = 0;
  Protocol protocol = Protocol::tcp;
};

// `config` is the newest published image (its `image` null: none yet) and `snapshot` what is known
// of the same moment. Looks for the flow in the engine's flow tables as well; gives up that part,
// and says so, after a few million records.
[[nodiscard]] boost::json::value explain_flow(const FlowQuestion& question,
                                              const core::ConfigView& config,
                                              const Snapshot& snapshot);

}  // namespace millrace::control
