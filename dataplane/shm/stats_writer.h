// SPDX-License-Identifier: Apache-2.0
//
// The engine's side of the stats segment (stats_abi.h): creates it, lays it out, hands each worker
// its own part. Cold; the counters themselves are stored by their one writer through shm/atomic.h.
//
// The layout is computed here and nowhere else; stats_reader only checks what the header says.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "dataplane/contract/stats_abi.h"
#include "dataplane/core/answer.h"
#include "dataplane/core/result.h"
#include "dataplane/shm/segment.h"

namespace millrace::shm {

struct StatsOptions {
  mr_engine_kind engine_kind = MR_ENGINE_DPDK;
  std::uint64_t engine_start_ns = 0;  // CLOCK_BOOTTIME
  std::uint32_t worker_count = 1;     // 1 to MR_WORKER_COUNT_MAX
  // Slots that are counted one by one; memory is 64 bytes for each and worker.
  std::uint32_t listener_slots = 1024;  // 1 to MR_LISTENER_SLOTS_MAX
  std::uint32_t target_slots = 16384;   // 1 to MR_TARGET_SLOTS_MAX
  std::vector<mr_nic> nics;             // 0 to MR_NIC_COUNT_MAX
  std::string flow_table_dir;           // shorter than the header's field
};

// Where things are in a stats segment of so many workers and slots.
struct StatsLayout {
  std::uint64_t workers_offset;
  std::uint64_t worker_stride_bytes;
  std::uint64_t listener_stats_offset;  // from the start of a worker's part
  std::uint64_t target_stats_offset;    // likewise
  std::uint64_t total_bytes;
};
[[nodiscard]] StatsLayout stats_layout(std::uint32_t worker_count, std::uint32_t listener_slots,
                                       std::uint32_t target_slots);

class StatsWriter {
 public:
  // Creates the segment for `path`, with all counters 0. Nobody sees it before publish().
  [[nodiscard]] static Result<StatsWriter> create(const std::string& path,
                                                  const StatsOptions& options);

  // Puts it in place of what an earlier engine left, and the control plane takes this engine's nics
  // for what next hops are numbered by: for when nothing can fail any more.
  [[nodiscard]] Status publish() { return segment_.publish(); }

  // Each worker's own part; valid as long as the writer. `worker` < worker_count.
  [[nodiscard]] mr_worker_stats& worker(std::uint32_t worker) const;
  [[nodiscard]] std::span<mr_listener_stats> listeners(std::uint32_t worker) const;
  [[nodiscard]] std::span<mr_target_stats> targets(std::uint32_t worker) const;

  // The rest is the main thread's.
  // The file was removed, or cut short: the control plane sees nothing any more. renew() makes it
  // again, with all that it says; what worker() and the like returned stays good. Of a file that
  // was cut short that is what keep() last saw, and counters of listeners and targets begin at 0.
  [[nodiscard]] bool is_lost() const { return segment_.is_replaced() || segment_.is_truncated(); }
  void keep();
  [[nodiscard]] Status renew();
  void set_heartbeat(std::uint64_t monotonic_ns) const;
  void set_adopted(std::uint64_t generation) const;
  // `reason` is cut to fit. The generation is stored last.
  void set_refused(std::uint64_t generation, const std::string& reason) const;
  void set_link(std::uint32_t nic, bool is_up) const;
  // Whether the XDP program by which the engine gets the nic's frames is on it.
  void set_program(std::uint32_t nic, bool is_there) const;
  // What the kernel calls the nic and its twin now. A reader may see a mix of two names, and sees
  // the right one with its next poll.
  void set_names(std::uint32_t nic, const std::string& name, const std::string& twin) const;
  // A reader may see half of the one before for a moment; it only shows it.
  void set_mac(std::uint32_t nic, const core::MacAddr& mac) const;
  // Takes over the drop counters of `counted`.
  void set_drops(std::uint32_t nic, const mr_nic& counted) const;
  // Returns whether that is another number than before.
  [[nodiscard]] bool set_unserved_queues(std::uint32_t nic, std::uint32_t count) const;
  // Of a nic that is a bond.
  void set_idle_members(std::uint32_t nic, std::size_t count) const;

 private:
  explicit StatsWriter(Segment segment) : segment_(std::move(segment)) {}
  [[nodiscard]] mr_stats_header& header() const { return *segment_.header<mr_stats_header>(); }
  [[nodiscard]] std::byte* worker_part(std::uint32_t worker) const;
  [[nodiscard]] std::vector<std::span<std::uint64_t>> kept_parts() const;

  Segment segment_;
  StatsLayout layout_{};
  std::uint32_t worker_count_ = 0;
  std::uint32_t listener_slots_ = 0;
  std::uint32_t target_slots_ = 0;
  std::vector<std::uint64_t> kept_;  // kept_parts(), one after the other
};

}  // namespace millrace::shm
