// SPDX-License-Identifier: Apache-2.0
#include "dataplane/core/drop_reason.h"

#include <array>

namespace millrace::core {
namespace {

constexpr std::array kDropReasonNames = {
    "none",
    "malformed_l2",
    "bad_ip_header",
    "bad_ip_checksum",
    "ip_options",
    "ipv6_extension",
    "fragment",
    "bad_l4",
    "bad_tcp_flags",
    "martian",
    "ttl_expired",
    "unsupported_protocol",
    "no_listener",
    "no_target",
    "next_hop_unresolved",
    "unwanted_rst",
    "rate_limited",
    "tx_full",
    "punt_full",
    "handover_full",
    "no_nic",
    "icmp",
    "multi_segment",
    "other_mac",
    "too_big",
    "no_encap_source",
    "no_flow",
    "no_echo",
};
static_assert(kDropReasonNames.size() == MR_DROP_REASON_COUNT, "every reason needs a name");

constexpr std::array kFlowStateNames = {
    "free", "syn", "established", "closing", "closed", "udp", "expired", "udp_new",
};
static_assert(kFlowStateNames.size() == MR_FLOW_STATE_COUNT, "every state needs a name");

}  // namespace

const char* drop_reason_name(std::uint32_t reason) noexcept {
  return reason < kDropReasonNames.size() ? kDropReasonNames[reason] : "unknown";
}

const char* flow_state_name(std::uint32_t state) noexcept {
  return state < kFlowStateNames.size() ? kFlowStateNames[state] : "unknown";
}

}  // namespace millrace::core
