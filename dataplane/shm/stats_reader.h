// SPDX-License-Identifier: Apache-2.0
//
// The control plane's side of the stats segment: checks its layout once at join, then reads values.
// Cold. What it returns are copies; the engine may be writing meanwhile, so each number is whole
// but two numbers may be of different moments.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/contract/stats_abi.h"
#include "dataplane/core/result.h"
#include "dataplane/shm/segment.h"

namespace millrace::shm {

// What the header says of the engine, as values.
struct EngineInfo {
  std::uint32_t engine_kind = 0;
  std::uint32_t engine_pid = 0;
  std::uint64_t engine_start_ns = 0;
  std::uint64_t heartbeat_ns = 0;
  std::uint64_t adopted_generation = 0;
  std::uint64_t refused_generation = 0;
  std::string refused_reason;
  std::string flow_table_dir;
  std::vector<mr_nic> nics;  // name and twin are zero-terminated for sure
};

class StatsReader {
 public:
  // Joins and checks worker count, slot counts, nic count and every offset against the file's size.
  [[nodiscard]] static Result<StatsReader> join(const std::string& path);

  // True when a restarted engine put a new segment in place, or this one is gone or cut short: what
  // is read then may be zeroes.
  [[nodiscard]] bool is_stale() const { return segment_.is_replaced() || segment_.is_truncated(); }

  // As Segment's.
  [[nodiscard]] Status check_trust() const { return segment_.check_trust(); }

  [[nodiscard]] std::uint32_t worker_count() const { return worker_count_; }
  [[nodiscard]] std::uint32_t listener_slots() const { return listener_slots_; }
  [[nodiscard]] std::uint32_t target_slots() const { return target_slots_; }

  [[nodiscard]] EngineInfo engine() const;
  [[nodiscard]] mr_worker_stats worker(std::uint32_t worker) const;
  // What the worker acknowledged, with acquire: it no longer reads anything older.
  [[nodiscard]] std::uint64_t acknowledged_generation(std::uint32_t worker) const;
  // Smallest acknowledgement of all workers; 0 while some worker has adopted nothing.
  [[nodiscard]] std::uint64_t acknowledged_by_all() const;
  // Sums over all workers; nullopt for slots that this engine does not count.
  [[nodiscard]] std::optional<mr_listener_stats> listener(std::uint32_t slot) const;
  [[nodiscard]] std::optional<mr_target_stats> target(std::uint32_t slot) const;

 private:
  explicit StatsReader(Segment segment) : segment_(std::move(segment)) {}
  [[nodiscard]] Status check_layout();
  [[nodiscard]] const std::byte* worker_part(std::uint32_t worker) const;

  Segment segment_;
  // Checked copies: the header itself could change under us.
  std::uint32_t worker_count_ = 0;
  std::uint32_t nic_count_ = 0;
  std::uint32_t listener_slots_ = 0;
  std::uint32_t target_slots_ = 0;
  std::uint64_t workers_offset_ = 0;
  std::uint64_t worker_stride_bytes_ = 0;
  std::uint64_t listener_stats_offset_ = 0;
  std::uint64_t target_stats_offset_ = 0;
};

}  // namespace millrace::shm
