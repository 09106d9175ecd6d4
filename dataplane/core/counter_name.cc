// SPDX-License-Identifier: Apache-2.0
#include "dataplane/core/counter_name.h"

#include <array>

#include "dataplane/contract/stats_abi.h"

namespace millrace::core {
namespace {

// By enum mr_counter, which is append only.
constexpr std::array kCounterNames = {
    "rx_packets",         "rx_bytes",          "forwarded_packets",
    "forwarded_bytes",    "replied_packets",   "punted_packets",
    "handover_in",        "handover_out",      "twin_rx_packets",
    "twin_forwarded",     "twin_dropped",      "announced",
    "flow_hits",          "flow_inserted",     "flow_removed",
    "flow_expired",       "untracked_packets", "insert_refused",
    "orphans_to_prev",    "orphans_moved",     "rst_sent",
    "config_adopted",     "config_refused",    "polls",
    "polls_empty",        "busy_ns",           "stalls",
    "too_big_sent",       "flow_given_up",     "icmp_errors_passed",
    "time_exceeded_sent", "refusals_sent",     "fragments_forwarded",
};
static_assert(kCounterNames.size() == MR_COUNTER_COUNT, "every counter needs a name");

}  // namespace

const char* counter_name(std::size_t counter) noexcept {
  return counter < kCounterNames.size() ? kCounterNames[counter] : "unknown";
}

}  // namespace millrace::core
