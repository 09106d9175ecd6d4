// SPDX-License-Identifier: Apache-2.0
//
// Every attribute that a config file or the API may name, by where it stands. Cold and constant.
#pragma once

#include <span>

#include "controlplane/model/attribute.h"

namespace millrace::control {

// Under `attributes` of a target group: its own, and those of its health check.
[[nodiscard]] std::span<const Attribute<TargetGroup>> target_group_attributes();
[[nodiscard]] std::span<const Attribute<HealthCheck>> health_check_attributes();
// Under `health_check` of a target group.
[[nodiscard]] std::span<const Attribute<HealthCheck>> health_check_settings();
// Under `attributes` of a load balancer: what holds for each of its VIPs.
[[nodiscard]] std::span<const Attribute<LoadBalancer>> load_balancer_attributes();
// Under `attributes` of a listener.
[[nodiscard]] std::span<const Attribute<Listener>> listener_attributes();

}  // namespace millrace::control
