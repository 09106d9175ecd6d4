// SPDX-License-Identifier: Apache-2.0
//
// The rules of rules/flow_rule.h, asked about a record. HOT; pure.
#pragma once

#include <cstdint>

#include "dataplane/contract/flow_abi.h"
#include "dataplane/rules/flow_rule.h"

namespace millrace::core {

[[nodiscard]] inline bool is_reset(const mr_flow_record& flow) noexcept {
  return mr_is_reset(flow.state, flow.flags);
}

[[nodiscard]] inline bool is_over(const mr_flow_record& flow) noexcept {
  return mr_is_over(flow.state);
}

[[nodiscard]] inline bool is_active(const mr_flow_record& flow) noexcept {
  return mr_is_active(flow.state);
}

// Counted among those that a full table may not give up.
[[nodiscard]] inline bool is_confirmed(const mr_flow_record& flow) noexcept {
  return (flow.flags & MR_FLOW_CONFIRMED) != 0;
}

[[nodiscard]] inline mr_flow_worth worth_of(const mr_flow_record& flow) noexcept {
  return mr_flow_worth_of(flow.state, flow.flags);
}

}  // namespace millrace::core
