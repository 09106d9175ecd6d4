// SPDX-License-Identifier: Apache-2.0
//
// The counters of programs and sweep, as the stats segment has them (stats_abi.h): CPU i is worker
// i, and the daemon's own row counts for worker 0. Cold.
//
// The maps live longer than the daemon and go on counting; the segment counts from its start, as an
// engine that was started anew should. So the values found then are taken off.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "bpf/engine/maps.h"
#include "bpf/engine/sweep.h"
#include "dataplane/shm/stats_writer.h"

namespace millrace::xdp {

class StatsCopy {
 public:
  // Both outlive this.
  StatsCopy(const Maps& maps, const shm::StatsWriter& stats);

  // Publishes the CPUs' counters as they are now, and the slots of one CPU after the other with
  // each call: those are many. `view` says how many there are to look at.
  void publish(const Sweep& sweep, const core::ConfigView& view, std::uint64_t now_ns);

  // No program reads anything older than `generation` any more. Whoever reads that takes the gauges
  // for those of its targets, so the first one waits for the publish() that has gauges.
  void acknowledge(std::uint64_t generation);
  void add_announced(std::uint32_t frames) { own_[MR_COUNTER_ANNOUNCED] += frames; }

 private:
  void publish_worker(std::uint32_t cpu, std::uint64_t now_ns);
  void publish_slots(std::uint32_t cpu);
  void publish_gauges(const Sweep& sweep);
  void publish_acknowledged();

  Maps maps_;
  const shm::StatsWriter& stats_;
  std::vector<mr_worker_stats> cpus_before_;
  std::vector<mr_listener_stats> listeners_before_;
  std::vector<mr_target_stats> targets_before_;
  // As many slots as any config had: those of a smaller one keep what they counted.
  std::uint32_t listener_slots_ = 0;
  std::uint32_t target_slots_ = 0;
  std::uint64_t acknowledged_ = 0;
  bool has_gauges_ = false;
  std::uint32_t next_slots_ = 0;                       // the CPU whose turn it is
  std::array<std::uint64_t, MR_COUNTER_COUNT> own_{};  // what only the daemon counts
};

}  // namespace millrace::xdp
