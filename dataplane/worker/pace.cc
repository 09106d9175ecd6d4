// SPDX-License-Identifier: Apache-2.0
#include "dataplane/worker/pace.h"

#include <algorithm>

namespace millrace::worker {

std::uint64_t Pace::rest(std::uint64_t began_ns, std::uint64_t now_ns,
                         std::uint32_t packet_count) noexcept {
  const std::uint64_t turn_ns = now_ns - began_ns;
  ++counters_.counters[MR_COUNTER_POLLS];
  counters_.turn_ns_max = std::max(counters_.turn_ns_max, turn_ns);
  if (turn_ns > kStallNs) ++counters_.counters[MR_COUNTER_STALLS];
  if (packet_count > 0) {
    counters_.counters[MR_COUNTER_BUSY_NS] += turn_ns;
    busy_until_ns_ = now_ns;
    return 0;
  }
  ++counters_.counters[MR_COUNTER_POLLS_EMPTY];
  const std::uint64_t idle_ns = now_ns - busy_until_ns_;
  if (spins_ || idle_ns < kSpinNs) return 0;
  return idle_ns < kDeepAfterNs ? kLightSleepNs : kDeepSleepNs;
}

}  // namespace millrace::worker
