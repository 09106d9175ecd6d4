// SPDX-License-Identifier: Apache-2.0
//
// What a flow's record says of it: how long it may be silent, and what a full table does with it.
// HOT; pure.
//
// A record is worth as much as what confirms it. A single packet may have any source, so a flow
// that nothing has confirmed is *new*, and a full table gives it up first. Where answers pass this
// node, an answer that was answered *confirms* a flow, and it is never given up. Where they don't,
// a client that goes on for some time makes it *plausible*; such flows go when there are no new
// ones. Whoever can send three packets from a forged source can send more, so this is no proof.
#pragma once

#include <cstdint>

#include "dataplane/contract/flow_abi.h"

namespace millrace::core {

inline constexpr std::uint16_t kResetFlags = MR_FLOW_RST_CLIENT | MR_FLOW_RST_TARGET;
inline constexpr std::uint16_t kFinFlags = MR_FLOW_FIN_CLIENT | MR_FLOW_FIN_TARGET;

// Over by a RST, which may be forged: then the connection goes on (RFC 5961 section 1.1).
[[nodiscard]] inline bool is_reset(const mr_flow_record& flow) noexcept {
  return flow.state == MR_FLOW_CLOSED && (flow.flags & kResetFlags) != 0;
}

[[nodiscard]] inline bool is_over(const mr_flow_record& flow) noexcept {
  return flow.state == MR_FLOW_CLOSED || flow.state == MR_FLOW_EXPIRED;
}

// What a target is busy with.
[[nodiscard]] inline bool is_active(const mr_flow_record& flow) noexcept {
  return flow.state != MR_FLOW_FREE && !is_over(flow);
}

[[nodiscard]] inline bool is_confirmed(const mr_flow_record& flow) noexcept {
  return (flow.flags & MR_FLOW_CONFIRMED) != 0;
}

// Gives way before plausible flows do.
[[nodiscard]] inline bool is_over_or_new(const mr_flow_record& flow) noexcept {
  return is_over(flow) || (flow.flags & (MR_FLOW_CONFIRMED | MR_FLOW_PLAUSIBLE)) == 0;
}

// Index into mr_listener.timeout_ticks.
[[nodiscard]] inline std::uint32_t timeout_index(const mr_flow_record& flow) noexcept {
  return is_reset(flow) ? std::uint32_t{MR_FLOW_TIMEOUT_RESET} : flow.state & 7u;
}

}  // namespace millrace::core
