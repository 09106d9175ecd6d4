// SPDX-License-Identifier: Apache-2.0
//
// What a worker does between bursts: adopt a newer config and acknowledge it, age flows in small
// steps, send what the node itself sends, see to bonds, publish counters, beat the heart. Warm:
// every 32 us, with jitter so that workers do not do it all at the same moment.
//
// The worker counts in private memory; publish() copies to the stats segment, so that a counter
// that was corrected (dispatch.h) never went down for a reader.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "dataplane/contract/stats_abi.h"
#include "dataplane/core/forwarder.h"
#include "dataplane/core/nanoseconds.h"
#include "dataplane/dpdk/bond_turn.h"
#include "dataplane/worker/config_exchange.h"
#include "dataplane/worker/local_traffic.h"
#include "dataplane/worker/nic_macs.h"

namespace millrace::worker {

// Mean time between two: what a new config waits at most on a busy worker, and what a frame from
// the kernel waits. Shorter costs: about 0.4 us each, half of it the look into the twin.
inline constexpr std::uint64_t kHousekeepingNs = 32'000;
// All flow records are looked at once in this time, as far as the next line allows.
inline constexpr std::uint64_t kSweepNs = kSecondNs;
// A round over more than ten million records takes longer, a hundred million ten seconds, by which
// timeouts and counters then lag. Without a bound it would be 6.4 GB of records read in one second.
inline constexpr std::uint64_t kSweepRecordsPerSecond = 10'000'000;
// How long a round over so many records takes.
[[nodiscard]] constexpr std::uint64_t sweep_round_ns(std::uint64_t records) noexcept {
  constexpr std::uint64_t kAtOnceMax = kSweepNs / kSecondNs * kSweepRecordsPerSecond;
  return records <= kAtOnceMax ? kSweepNs : records * kSecondNs / kSweepRecordsPerSecond;
}
// Records per step at most, so that a step after a pause stays below about 100 us.
inline constexpr std::uint32_t kSweepStepMax = 4096;

struct HousekeepingOptions {
  std::uint32_t worker = 0;
  core::Forwarder* forwarder = nullptr;
  ConfigExchange* configs = nullptr;
  LocalTraffic* local_traffic = nullptr;        // null for all but worker 0
  std::vector<dpdk::BondTurn> bond_turns = {};  // one for each nic that is a bond
  const NicMacs* nic_macs = nullptr;            // null: they never change
  const mr_worker_stats* counters = nullptr;    // the worker's own
  mr_worker_stats* published = nullptr;         // in the stats segment
};

class Housekeeping {
 public:
  explicit Housekeeping(const HousekeepingOptions& options) : options_(options) {}

  [[nodiscard]] bool is_due(std::uint64_t now_ns) const noexcept { return now_ns >= next_ns_; }

  // Returns how many frames of the node's own were sent.
  std::uint32_t run(std::uint64_t now_ns) noexcept;

 private:
  void adopt_newest() noexcept;
  void take_nic_macs() noexcept;
  void sweep(std::uint64_t now_ns) noexcept;
  void publish(std::uint64_t now_ns) noexcept;
  [[nodiscard]] std::uint64_t jitter_ns() noexcept;

  HousekeepingOptions options_;
  const core::ConfigView* adopted_ = nullptr;
  std::array<core::MacAddr, MR_NIC_COUNT_MAX> nic_macs_{};  // the forwarder's
  std::uint64_t next_ns_ = 0;
  std::uint64_t swept_ns_ = 0;      // until when the sweep has kept up
  std::uint32_t jitter_state_ = 1;  // xorshift32: cheap, and nothing depends on its quality
};

}  // namespace millrace::worker
