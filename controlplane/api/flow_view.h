// SPDX-License-Identifier: Apache-2.0
//
// Flow records as JSON, and the filter of the `flows` command. Cold.
#pragma once

#include <boost/json/object.hpp>
#include <cstdint>
#include <optional>

#include "controlplane/api/flow_reader.h"
#include "controlplane/api/names.h"
#include "controlplane/model/model.h"

namespace millrace::control {

// All that are set must hold.
struct FlowFilter {
  std::optional<IpAddress> client;
  std::optional<std::uint16_t> client_port;
  std::optional<IpAddress> vip;
  std::optional<std::uint16_t> vip_port;
  std::optional<Protocol> protocol;
  std::optional<IpAddress> target;
  std::optional<std::uint16_t> target_port;
  std::optional<std::string> target_group;
  std::optional<std::uint32_t> state;  // enum mr_flow_state
};

[[nodiscard]] bool matches(const FlowFilter& filter, const mr_flow_record& record,
                           const Names& names);

// `monotonic_ns` is CLOCK_MONOTONIC now, which the engine's ticks count.
[[nodiscard]] boost::json::object flow_view(const FlowFound& flow, const Names& names,
                                            std::uint64_t monotonic_ns);

// "10.0.0.1:80", "[2001:db8::1]:80"

}  // namespace millrace::control
