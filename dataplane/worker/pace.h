// SPDX-License-Identifier: Apache-2.0
//
// How hard a worker polls when nothing comes, and how long its turns take. HOT.
//
//   last packet          the worker
//   -------------------  ----------------------------------------------------------------
//   in this poll         polls again at once
//   less than 50 us ago  pauses briefly, then polls: at a busy time the next packet is near
//   less than 1 ms ago   sleeps 50 us between polls
//   longer ago           sleeps 100 us between polls, which takes about 5 % of a CPU
//
// So the first packet after a pause waits 100 us at most, plus what the kernel's timer adds (the
// worker sets its timer slack to the least: poll_loop.cc).
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
