// SPDX-License-Identifier: Apache-2.0
#include "dataplane/shm/stats_reader.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "dataplane/shm/atomic.h"

namespace millrace::shm {

namespace {

// Copies a struct of 64-bit words that another process is writing, each word whole.
template <typename T>
T load_words(const std::byte* from) {
  static_assert(sizeof(T) % sizeof(std::uint64_t) == 0 && alignof(T) == alignof(std::uint64_t),
                "copied word by word");
  T value;
  auto* target = reinterpret_cast<std::byte*>(&value);
  for (std::size_t at = 0; at < sizeof(T); at += sizeof(std::uint64_t)) {
    const std::uint64_t word = load_relaxed(*reinterpret_cast<const std::uint64_t*>(from + at));
    std::memcpy(target + at, &word, sizeof(word));
  }
  return value;
}

// Sums structs that consist of 64-bit counters only.
template <typename T>
void add_words(T& sum, const T& part) {
  auto* into = reinterpret_cast<std::uint64_t*>(&sum);
  const auto* from = reinterpret_cast<const std::uint64_t*>(&part);
  for (std::size_t i = 0; i < sizeof(T) / sizeof(std::uint64_t); ++i) into[i] += from[i];
}

template <std::size_t kBytes>
std::string text_of(const char (&field)[kBytes]) {
  std::string text;
  for (std::size_t i = 0; i < kBytes; ++i) {
    const char c =
        std::atomic_ref<char>(const_cast<char&>(field[i])).load(std::memory_order_relaxed);
    if (c == '\0') break;
    text += c;
  }
  return text;
}

Error out_of_range(const char* field, std::uint64_t value, std::uint64_t max) {
  return Error{std::string(field) + " is " + std::to_string(value) + " but must be at most " +
               std::to_string(max)};
}

std::uint8_t load_byte(const std::uint8_t& field) {
  return std::atomic_ref<std::uint8_t>(const_cast<std::uint8_t&>(field))
      .load(std::memory_order_relaxed);
}

}  // namespace

Result<StatsReader> StatsReader::join(const std::string& path) {
  Result<Segment> segment = Segment::join(path, kStatsSpec, os::Access::read_only);
  if (!segment) return segment.error();
  segment->survive_cuts();
  StatsReader reader(std::move(*segment));
  if (Status checked = reader.check_layout(); !checked) return checked.error().within(path);
  return reader;
}

Status StatsReader::check_layout() {
  const mr_stats_header header = *segment_.header<mr_stats_header>();
  const std::uint64_t total = segment_.bytes().size();
  if (header.worker_count == 0) return Error{"worker_count is 0"};
  if (header.worker_count > MR_WORKER_COUNT_MAX) {
    return out_of_range("worker_count", header.worker_count, MR_WORKER_COUNT_MAX);
  }
  if (header.nic_count > MR_NIC_COUNT_MAX) {
    return out_of_range("nic_count", header.nic_count, MR_NIC_COUNT_MAX);
  }
  if (header.listener_slots > MR_LISTENER_SLOTS_MAX) {
    return out_of_range("listener_slots", header.listener_slots, MR_LISTENER_SLOTS_MAX);
  }
  if (header.target_slots > MR_TARGET_SLOTS_MAX) {
    return out_of_range("target_slots", header.target_slots, MR_TARGET_SLOTS_MAX);
  }
  const std::uint64_t stride = header.worker_stride_bytes;
  if (stride > total || header.workers_offset > total ||
      header.worker_count * stride > total - header.workers_offset) {
    return out_of_range("end of the workers' parts",
                        header.workers_offset + header.worker_count * stride, total);
  }
  auto fits = [stride](std::uint64_t offset, std::uint64_t bytes) {
    return offset % MR_CACHE_LINE_BYTES == 0 && offset >= sizeof(mr_worker_stats) &&
           offset <= stride && bytes <= stride - offset;
  };
  if (stride % MR_CACHE_LINE_BYTES != 0 || header.workers_offset % MR_CACHE_LINE_BYTES != 0 ||
      header.workers_offset < sizeof(mr_stats_header) ||
      !fits(header.listener_stats_offset, header.listener_slots * sizeof(mr_listener_stats)) ||
      !fits(header.target_stats_offset, header.target_slots * sizeof(mr_target_stats))) {
    return Error{"offsets of the counters do not fit the worker's part of " +
                 std::to_string(stride) + " bytes"};
  }
  worker_count_ = header.worker_count;
  nic_count_ = header.nic_count;
  listener_slots_ = header.listener_slots;
  target_slots_ = header.target_slots;
  workers_offset_ = header.workers_offset;
  worker_stride_bytes_ = stride;
  listener_stats_offset_ = header.listener_stats_offset;
  target_stats_offset_ = header.target_stats_offset;
  return ok();
}

EngineInfo StatsReader::engine() const {
  const mr_stats_header& header = *segment_.header<mr_stats_header>();
  EngineInfo info;
  info.engine_kind = header.engine_kind;
  info.engine_pid = header.engine_pid;
  info.engine_start_ns = load_relaxed(header.engine_start_ns);
  info.heartbeat_ns = load_relaxed(header.heartbeat_ns);
  info.adopted_generation = load_acquire(header.adopted_generation);
  info.refused_generation = load_acquire(header.refused_generation);
  info.refused_reason = text_of(header.refused_reason);
  info.flow_table_dir = text_of(header.flow_table_dir);
  for (std::uint32_t i = 0; i < nic_count_; ++i) {
    const mr_nic& from = header.nics[i];
    mr_nic nic{};
    std::memcpy(nic.name, from.name, MR_NAME_BYTES - 1);
    std::memcpy(nic.twin, from.twin, MR_NAME_BYTES - 1);
    std::memcpy(nic.mac, from.mac, sizeof(nic.mac));
    nic.link_up = load_byte(from.link_up);
    nic.unserved_queues = load_byte(from.unserved_queues);
    nic.lacks_program = load_byte(from.lacks_program);
    nic.idle_members = load_byte(from.idle_members);
    nic.rx_missed = load_relaxed(from.rx_missed);
    nic.rx_errors = load_relaxed(from.rx_errors);
    nic.rx_no_buffer = load_relaxed(from.rx_no_buffer);
    nic.tx_dropped = load_relaxed(from.tx_dropped);
    nic.twin_index = from.twin_index;  // never changes
    info.nics.push_back(nic);
  }
  return info;
}

const std::byte* StatsReader::worker_part(std::uint32_t worker) const {
  return segment_.bytes().data() + workers_offset_ + worker * worker_stride_bytes_;
}

mr_worker_stats StatsReader::worker(std::uint32_t worker) const {
  return load_words<mr_worker_stats>(worker_part(worker));
}

std::uint64_t StatsReader::acknowledged_generation(std::uint32_t worker) const {
  const auto* stats = reinterpret_cast<const mr_worker_stats*>(worker_part(worker));
  // Pairs with the worker's release after Forwarder::adopt.
  return load_acquire(stats->acknowledged_generation);
}

std::uint64_t StatsReader::acknowledged_by_all() const {
  std::uint64_t lowest = acknowledged_generation(0);
  for (std::uint32_t worker = 1; worker < worker_count_; ++worker) {
    lowest = std::min(lowest, acknowledged_generation(worker));
  }
  return lowest;
}

std::optional<mr_listener_stats> StatsReader::listener(std::uint32_t slot) const {
  if (slot >= listener_slots_) return std::nullopt;
  mr_listener_stats sum{};
  for (std::uint32_t worker = 0; worker < worker_count_; ++worker) {
    add_words(sum, load_words<mr_listener_stats>(worker_part(worker) + listener_stats_offset_ +
                                                 slot * sizeof(mr_listener_stats)));
  }
  return sum;
}

std::optional<mr_target_stats> StatsReader::target(std::uint32_t slot) const {
  if (slot >= target_slots_) return std::nullopt;
  mr_target_stats sum{};
  for (std::uint32_t worker = 0; worker < worker_count_; ++worker) {
    add_words(sum, load_words<mr_target_stats>(worker_part(worker) + target_stats_offset_ +
                                               slot * sizeof(mr_target_stats)));
  }
  return sum;
}

}  // namespace millrace::shm
