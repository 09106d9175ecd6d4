// SPDX-License-Identifier: Apache-2.0
#include "dataplane/shm/stats_writer.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "dataplane/shm/atomic.h"

namespace millrace::shm {

namespace {

std::uint64_t round_up(std::uint64_t bytes) {
  constexpr std::uint64_t kUnit = MR_WRITER_SEPARATION_BYTES;
  return (bytes + kUnit - 1) / kUnit * kUnit;
}

// Copies `text`, cut to fit, with its terminating zero.
template <std::size_t kBytes>
void copy_text(char (&field)[kBytes], const std::string& text) {
  const std::size_t length = std::min(text.size(), kBytes - 1);
  std::memcpy(field, text.data(), length);
  std::memset(field + length, 0, kBytes - length);
}

// The same while the control plane may read it: byte by byte atomic. It may see a mix of two texts,
// and sees the right one with its next poll.
template <std::size_t kBytes>
void exchange_text(char (&field)[kBytes], const std::string& text) {
  char bytes[kBytes];
  copy_text(bytes, text);
  for (std::size_t i = 0; i < kBytes; ++i) {
    std::atomic_ref<char>(field[i]).store(bytes[i], std::memory_order_relaxed);
  }
}

Status check(const StatsOptions& options) {
  auto in_range = [](std::uint64_t value, std::uint64_t max) { return value >= 1 && value <= max; };
  if (!in_range(options.worker_count, MR_WORKER_COUNT_MAX)) {
    return Error{"worker count " + std::to_string(options.worker_count) + " is not 1 to " +
                 std::to_string(MR_WORKER_COUNT_MAX)};
  }
  if (!in_range(options.listener_slots, MR_LISTENER_SLOTS_MAX) ||
      !in_range(options.target_slots, MR_TARGET_SLOTS_MAX)) {
    return Error{"stats slots are not 1 to the contract's ceilings"};
  }
  if (options.nics.size() > MR_NIC_COUNT_MAX) {
    return Error{std::to_string(options.nics.size()) + " nics are more than " +
                 std::to_string(MR_NIC_COUNT_MAX)};
  }
  if (options.flow_table_dir.size() >= sizeof(mr_stats_header::flow_table_dir)) {
    return Error{"flow table directory " + options.flow_table_dir + " has a path longer than " +
                 std::to_string(sizeof(mr_stats_header::flow_table_dir) - 1) + " bytes"};
  }
  return ok();
}

}  // namespace

StatsLayout stats_layout(std::uint32_t worker_count, std::uint32_t listener_slots,
                         std::uint32_t target_slots) {
  StatsLayout layout{};
  layout.workers_offset = round_up(sizeof(mr_stats_header));
  layout.listener_stats_offset = sizeof(mr_worker_stats);
  layout.target_stats_offset =
      layout.listener_stats_offset + std::uint64_t{listener_slots} * sizeof(mr_listener_stats);
  layout.worker_stride_bytes =
      round_up(layout.target_stats_offset + std::uint64_t{target_slots} * sizeof(mr_target_stats));
  layout.total_bytes = layout.workers_offset + worker_count * layout.worker_stride_bytes;
  return layout;
}

Result<StatsWriter> StatsWriter::create(const std::string& path, const StatsOptions& options) {
  if (Status checked = check(options); !checked) return checked.error().within(path);
  const StatsLayout layout =
      stats_layout(options.worker_count, options.listener_slots, options.target_slots);
  Result<Segment> segment =
      Segment::create(path, kStatsSpec, layout.total_bytes, layout.total_bytes);
  if (!segment) return segment.error();

  segment->survive_cuts();
  StatsWriter writer(std::move(*segment));
  writer.layout_ = layout;
  writer.worker_count_ = options.worker_count;
  writer.listener_slots_ = options.listener_slots;
  writer.target_slots_ = options.target_slots;
  mr_stats_header& header = writer.header();
  header.engine_kind = options.engine_kind;
  header.engine_pid = static_cast<std::uint32_t>(::getpid());
  header.engine_start_ns = options.engine_start_ns;
  header.worker_count = options.worker_count;
  header.nic_count = static_cast<std::uint32_t>(options.nics.size());
  header.listener_slots = options.listener_slots;
  header.target_slots = options.target_slots;
  header.workers_offset = layout.workers_offset;
  header.worker_stride_bytes = layout.worker_stride_bytes;
  header.listener_stats_offset = layout.listener_stats_offset;
  header.target_stats_offset = layout.target_stats_offset;
  copy_text(header.flow_table_dir, options.flow_table_dir);
  std::copy(options.nics.begin(), options.nics.end(), header.nics);
  return writer;
}

std::byte* StatsWriter::worker_part(std::uint32_t worker) const {
  return segment_.bytes().data() + layout_.workers_offset + worker * layout_.worker_stride_bytes;
}

mr_worker_stats& StatsWriter::worker(std::uint32_t worker) const {
  return *reinterpret_cast<mr_worker_stats*>(worker_part(worker));
}

std::span<mr_listener_stats> StatsWriter::listeners(std::uint32_t worker) const {
  std::byte* start = worker_part(worker) + layout_.listener_stats_offset;
  return {reinterpret_cast<mr_listener_stats*>(start), listener_slots_};
}

std::span<mr_target_stats> StatsWriter::targets(std::uint32_t worker) const {
  std::byte* start = worker_part(worker) + layout_.target_stats_offset;
  return {reinterpret_cast<mr_target_stats*>(start), target_slots_};
}

// What nobody stores again by itself: the header, and each worker's own fields.
std::vector<std::span<std::uint64_t>> StatsWriter::kept_parts() const {
  const auto words = [](void* start, std::size_t bytes) {
    return std::span(static_cast<std::uint64_t*>(start), bytes / sizeof(std::uint64_t));
  };
  std::vector<std::span<std::uint64_t>> parts{words(&header(), sizeof(mr_stats_header))};
  for (std::uint32_t i = 0; i < worker_count_; ++i) {
    parts.push_back(words(&worker(i), sizeof(mr_worker_stats)));
  }
  return parts;
}

void StatsWriter::keep() {
  std::vector<std::uint64_t> seen;
  for (const std::span<std::uint64_t> part : kept_parts()) {
    for (const std::uint64_t& word : part) seen.push_back(load_relaxed(word));
  }
  if (!is_lost()) kept_ = std::move(seen);  // else it may have been cut while we read
}

Status StatsWriter::renew() {
  if (segment_.is_truncated()) {
    std::span<const std::uint64_t> kept = kept_;
    for (const std::span<std::uint64_t> part : kept_parts()) {
      if (kept.size() < part.size()) break;  // cut before keep() saw anything
      raise_words(part, kept.first(part.size()));
      kept = kept.subspan(part.size());
    }
  }
  return segment_.renew(kStatsSpec);
}

void StatsWriter::set_heartbeat(std::uint64_t monotonic_ns) const {
  store_relaxed(header().heartbeat_ns, monotonic_ns);
}

void StatsWriter::set_adopted(std::uint64_t generation) const {
  store_release(header().adopted_generation, generation);
}

void StatsWriter::set_refused(std::uint64_t generation, const std::string& reason) const {
  exchange_text(header().refused_reason, reason);
  store_release(header().refused_generation, generation);
}

void StatsWriter::set_link(std::uint32_t nic, bool is_up) const {
  std::atomic_ref<std::uint8_t>(header().nics[nic].link_up)
      .store(is_up ? 1 : 0, std::memory_order_relaxed);
}

void StatsWriter::set_program(std::uint32_t nic, bool is_there) const {
  std::atomic_ref<std::uint8_t>(header().nics[nic].lacks_program)
      .store(is_there ? 0 : 1, std::memory_order_relaxed);
}

void StatsWriter::set_names(std::uint32_t nic, const std::string& name,
                            const std::string& twin) const {
  exchange_text(header().nics[nic].name, name);
  exchange_text(header().nics[nic].twin, twin);
}

void StatsWriter::set_mac(std::uint32_t nic, const core::MacAddr& mac) const {
  for (std::size_t i = 0; i < mac.bytes.size(); ++i) {
    std::atomic_ref<std::uint8_t>(header().nics[nic].mac[i])
        .store(mac.bytes[i], std::memory_order_relaxed);
  }
}

void StatsWriter::set_drops(std::uint32_t nic, const mr_nic& counted) const {
  mr_nic& shown = header().nics[nic];
  store_relaxed(shown.rx_missed, counted.rx_missed);
  store_relaxed(shown.rx_errors, counted.rx_errors);
  store_relaxed(shown.rx_no_buffer, counted.rx_no_buffer);
  store_relaxed(shown.tx_dropped, counted.tx_dropped);
}

bool StatsWriter::set_unserved_queues(std::uint32_t nic, std::uint32_t count) const {
  const auto shown = static_cast<std::uint8_t>(std::min<std::uint32_t>(count, UINT8_MAX));
  return std::atomic_ref<std::uint8_t>(header().nics[nic].unserved_queues)
             .exchange(shown, std::memory_order_relaxed) != shown;
}

void StatsWriter::set_idle_members(std::uint32_t nic, std::size_t count) const {
  std::atomic_ref<std::uint8_t>(header().nics[nic].idle_members)
      .store(static_cast<std::uint8_t>(std::min<std::size_t>(count, UINT8_MAX)),
             std::memory_order_relaxed);
}

}  // namespace millrace::shm
