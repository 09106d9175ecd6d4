// SPDX-License-Identifier: Apache-2.0
//
// Names of drop reasons and flow states, for people and metrics. Cold.
#pragma once

#include <cstdint>

#include "dataplane/contract/flow_abi.h"

namespace millrace::core {

// "bad_ip_header" for MR_DROP_BAD_IP_HEADER; "unknown" for a number that this build does not know.
[[nodiscard]] const char* drop_reason_name(std::uint32_t reason) noexcept;

// "established" for MR_FLOW_ESTABLISHED; "unknown" likewise.
[[nodiscard]] const char* flow_state_name(std::uint32_t state) noexcept;

}  // namespace millrace::core
