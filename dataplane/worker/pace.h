// SPDX-License-Identifier: Apache-2.0
//
// How hard a worker polls when nothing comes, and how long its turns take. HOT.
//
//   packets          poll again at once
//   idle < 50 us     poll on with a pause: the next packet of a busy minute is near
//   idle < 1 ms      sleep 50 us between polls
//   idle for longer  sleep 100 us between polls: about 5 % of a CPU, and the most that a first
//   packet
//                    waits (plus what the kernel's timer adds, see set_timer_slack)
//
// With --spin a worker never sleeps. Times are arguments; rest() only says how long to sleep.
#pragma once

#include <cstdint>

#include "dataplane/contract/stats_abi.h"
#include "dataplane/core/nanoseconds.h"

namespace millrace::worker {

inline constexpr std::uint64_t kSpinNs = 50'000;
inline constexpr std::uint64_t kLightSleepNs = 50'000;
inline constexpr std::uint64_t kDeepSleepNs = 100'000;
inline constexpr std::uint64_t kDeepAfterNs = kMillisecondNs;
inline constexpr std::uint64_t kStallNs = kMillisecondNs;  // so long a turn: MR_COUNTER_STALLS

class Pace {
 public:
  // `counters` is the worker's own, not shared.
  Pace(bool spins, mr_worker_stats& counters) : spins_(spins), counters_(counters) {}

  // Accounts the turn that began at `began_ns`, ended at `now_ns` and handled `packet_count`
  // packets. Returns how long to sleep before the next one; 0: not at all.
  [[nodiscard]] std::uint64_t rest(std::uint64_t began_ns, std::uint64_t now_ns,
                                   std::uint32_t packet_count) noexcept;

 private:
  bool spins_;
  mr_worker_stats& counters_;
  std::uint64_t busy_until_ns_ = 0;  // end of the last turn that had packets
};

}  // namespace millrace::worker
