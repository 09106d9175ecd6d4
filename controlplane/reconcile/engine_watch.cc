// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/engine_watch.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "dataplane/core/nanoseconds.h"
#include "dataplane/os/process_lock.h"

namespace millrace::control {

namespace {

// A heartbeat that is so old has stopped: the main thread's loop beats a thousand times in that
// time.
constexpr std::uint64_t kSilenceNs = 1000 * kMillisecondNs;

// 0 means "has not happened yet", as in an engine that is starting. Such a time is not old; it does
// not exist yet.
std::uint64_t age_ms(std::uint64_t then_ns, std::uint64_t now_ns) {
  return then_ns == 0 || then_ns >= now_ns ? 0 : (now_ns - then_ns) / kMillisecondNs;
}

bool same_twins(const std::vector<mr_nic>& a, const std::vector<mr_nic>& b) {
  return std::ranges::equal(
      a, b, [](const mr_nic& x, const mr_nic& y) { return x.twin_index == y.twin_index; });
}

std::string mac_text(const std::uint8_t (&mac)[6]) {
  char text[18];
  (void)std::snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
                      mac[3], mac[4], mac[5]);
  return text;
}

std::string kind_text(std::uint32_t kind) {
  switch (kind) {
    case MR_ENGINE_DPDK:
      return "dpdk";
    case MR_ENGINE_XDP:
      return "xdp";
    default:
      return "unknown";
  }
}

void note_trouble(NicSnapshot& nic, bool is_own_twin) {
  const std::string nic_text = "nic " + nic.name;
  const std::string twin_text = "twin " + nic.twin + " of " + nic_text;
  const auto note = [&nic](NicTrouble trouble, std::string text) {
    nic.trouble = trouble;
    nic.trouble_text = std::move(text);
  };
  if (nic.twin_state == TwinState::gone) {
    if (is_own_twin) return note(NicTrouble::nic_gone, nic_text + " is gone");
    return note(NicTrouble::twin_gone, twin_text + " is gone");
  }
  if (!nic.has_program) return note(NicTrouble::no_program, nic_text + " has lost its XDP program");
  if (!nic.link_up) return note(NicTrouble::no_link, nic_text + " has no link");
  if (nic.twin_state == TwinState::set_down) note(NicTrouble::twin_down, twin_text + " is down");
}

WorkerSnapshot worker_snapshot(const shm::StatsReader& stats, std::uint32_t index,
                               std::uint64_t now_ns) {
  const mr_worker_stats from = stats.worker(index);
  WorkerSnapshot worker{.index = index,
                        .cpu = from.cpu,
                        .acknowledged_generation = from.acknowledged_generation,
                        .heartbeat_age_ms = age_ms(from.heartbeat_ns, now_ns),
                        .flows_active = from.flows_active,
                        .flows_capacity = from.flows_capacity,
                        .turn_ns_max = from.turn_ns_max,
                        .counters = {},
                        .drops = {}};
  std::copy(std::begin(from.counters), std::end(from.counters), worker.counters.begin());
  std::copy(std::begin(from.drops), std::end(from.drops), worker.drops.begin());
  return worker;
}

}  // namespace

EngineWatch::Poll EngineWatch::poll(std::uint64_t now_ns, const AskLink& ask_link) {
  is_alive_ = os::ProcessLock::is_held(lock_path_);
  if (!was_there_first_) was_there_first_ = is_alive_;
  Poll result;
  links_.clear();
  if (stats_ && stats_->is_stale()) stats_.reset();
  if (!stats_) {
    // A file that does not exist yet means that no engine has run: it appears complete, and in one
    // step. If the file exists but cannot be joined, an XDP program may still forward without its
    // daemon.
    const bool is_there = os::identity_of(stats_path_) != os::FileIdentity{};
    Result<shm::StatsReader> joined = shm::StatsReader::join(stats_path_);
    if (const Status own = joined ? joined->check_trust() : ok(); !own) joined = own.error();
    join_error_ = joined ? "" : joined.error().message;
    is_unseen_ = !joined && (is_there || os::is_hidden(stats_path_) || os::is_hidden(lock_path_));
    if (!joined) return result;
    stats_.emplace(std::move(*joined));
  }
  shm::EngineInfo info = stats_->engine();
  result.is_new_engine =
      info.engine_start_ns != info_.engine_start_ns || info.engine_pid != info_.engine_pid;
  result.has_started = result.is_new_engine && !(info_.engine_pid == 0 && *was_there_first_);
  result.twins_changed = !same_twins(info.nics, info_.nics);
  info_ = std::move(info);
  is_left_alone_ = info_.engine_kind == MR_ENGINE_XDP && !(is_alive_ && is_beating(now_ns));
  for (const mr_nic& nic : info_.nics) {
    links_.push_back(nic.twin_index == 0 ? LinkState{} : ask_link(nic.twin_index));
  }
  return result;
}

bool EngineWatch::is_beating(std::uint64_t now_ns) const {
  return stats_ && age_ms(info_.heartbeat_ns, now_ns) < kSilenceNs / kMillisecondNs;
}

// The one place where this is decided. The XDP engine's program is in the kernel and needs its
// daemon only for changes. Likewise the DPDK engine's workers need its main thread only for
// changes. If something cannot be read, that says neither that it is there nor that it is not.
EngineState EngineWatch::state(std::uint64_t now_ns) const {
  if (!stats_) return is_unseen() ? EngineState::unseen : EngineState::stopped;
  if (is_alive_ && is_beating(now_ns)) return EngineState::running;
  bool is_forwarding = is_left_alone_ && std::ranges::any_of(links_, &LinkState::has_xdp_program);
  if (is_alive_ && info_.engine_kind == MR_ENGINE_DPDK) {
    for (std::uint32_t i = 0; i < stats_->worker_count(); ++i) {
      const std::uint64_t age = age_ms(stats_->worker(i).heartbeat_ns, now_ns);
      is_forwarding = is_forwarding || age < kSilenceNs / kMillisecondNs;
    }
  }
  return is_forwarding ? EngineState::unattended : EngineState::stopped;
}

NicSnapshot EngineWatch::nic_snapshot(std::size_t index) const {
  const mr_nic& nic = info_.nics[index];
  const LinkState& link = links_[index];
  const bool has_program = is_left_alone_ ? link.has_xdp_program : nic.lacks_program == 0;
  const bool has_link = is_left_alone_ ? link.has_carrier : nic.link_up != 0;
  NicSnapshot shown{.name = nic.name,
                    .twin = nic.twin,
                    .mac = mac_text(nic.mac),
                    .link_up = has_link && has_program,
                    .has_program = has_program,
                    .unserved_queues = nic.unserved_queues,
                    .idle_members = nic.idle_members,
                    .rx_missed = nic.rx_missed,
                    .rx_errors = nic.rx_errors,
                    .rx_no_buffer = nic.rx_no_buffer,
                    .tx_dropped = nic.tx_dropped};
  const bool is_own_twin = info_.engine_kind == MR_ENGINE_XDP;
  if (link.is_gone) {
    shown.twin_state = TwinState::gone;
  } else if (link.is_set_down && !is_own_twin) {
    shown.twin_state = TwinState::set_down;
  }
  note_trouble(shown, is_own_twin);
  return shown;
}

std::optional<std::uint64_t> EngineWatch::oldest_read(std::uint64_t published) {
  is_alive_ = os::ProcessLock::is_held(lock_path_);
  if (!is_alive_) return published;
  // The engine is alive, but its segment is not there yet or cannot be understood. It may be
  // reading any generation.
  if (!stats_ || stats_->is_stale()) return std::nullopt;
  return stats_->acknowledged_by_all();
}

std::optional<std::uint8_t> EngineWatch::nic_of_twin(std::uint32_t twin_index) const {
  for (std::size_t i = 0; i < info_.nics.size() && twin_index != 0; ++i) {
    if (twin_index == info_.nics[i].twin_index) return static_cast<std::uint8_t>(i);
  }
  return std::nullopt;
}

EngineSnapshot EngineWatch::snapshot(std::uint64_t published, std::uint64_t published_at_ns,
                                     std::uint64_t now_ns) const {
  EngineSnapshot engine;
  engine.state = state(now_ns);
  if (stats_) {
    engine.kind = kind_text(info_.engine_kind);
    engine.pid = info_.engine_pid;
    engine.start_ns = info_.engine_start_ns;
    engine.adopted_generation = info_.adopted_generation;
    engine.refused_generation = info_.refused_generation;
    engine.refused_reason = info_.refused_reason;
    engine.flow_table_dir = info_.flow_table_dir;
    // The workers of the XDP engine are CPUs, which share one table.
    engine.flow_table_count = info_.engine_kind == MR_ENGINE_XDP ? 1 : stats_->worker_count();
    for (std::size_t i = 0; i < info_.nics.size(); ++i) engine.nics.push_back(nic_snapshot(i));
    for (std::uint32_t i = 0; i < stats_->worker_count(); ++i) {
      engine.workers.push_back(worker_snapshot(*stats_, i, now_ns));
    }
  }
  engine.problem = problem(engine, published, published_at_ns, now_ns);
  return engine;
}

// Which engine ran last, if any did, and how it is known that it has ended.
std::string EngineWatch::ended_text() const {
  const std::string by_what = "nobody holds " + lock_path_;
  if (!stats_) return "no engine runs with this directory: " + by_what;
  const bool is_xdp = info_.engine_kind == MR_ENGINE_XDP;
  return std::string(is_xdp ? "millrace-xdp" : "millrace-dataplane") + ", process " +
         std::to_string(info_.engine_pid) + ", has ended: " + by_what;
}

// Returns the first problem that applies. Those at the top explain those below.
std::string EngineWatch::problem(const EngineSnapshot& engine, std::uint64_t published,
                                 std::uint64_t published_at_ns, std::uint64_t now_ns) const {
  if (engine.is_unseen()) {
    return "what the engine says of itself cannot be read, so whether it runs is unknown: " +
           join_error_;
  }
  if (!is_alive_) return ended_text();
  if (!stats_) return "the engine shows no counters: " + join_error_;
  if (!engine.is_running()) {
    return "the engine's main thread gave no sign of life for " +
           std::to_string(age_ms(info_.heartbeat_ns, now_ns)) + " ms";
  }
  for (const WorkerSnapshot& worker : engine.workers) {
    if (worker.heartbeat_age_ms * kMillisecondNs < kSilenceNs) continue;
    return "worker " + std::to_string(worker.index) + " stalled for " +
           std::to_string(worker.heartbeat_age_ms) +
           " ms; config memory is not reused until it goes on or the engine is restarted";
  }
  if (engine.refused_generation != 0 && engine.refused_generation >= engine.adopted_generation) {
    return "the engine refused generation " + std::to_string(engine.refused_generation) + ": " +
           engine.refused_reason;
  }
  if (age_ms(published_at_ns, now_ns) * kMillisecondNs < kSilenceNs) return "";
  for (const WorkerSnapshot& worker : engine.workers) {
    if (worker.acknowledged_generation >= published) continue;
    // If the engine cannot even join the segment, it reports no generation.
    const bool refuses_all = engine.refused_generation == 0 && !engine.refused_reason.empty();
    return "worker " + std::to_string(worker.index) + " has not acknowledged generation " +
           std::to_string(published) + " for " + std::to_string(age_ms(published_at_ns, now_ns)) +
           " ms" + (refuses_all ? "; the engine refused all: " + engine.refused_reason : "");
  }
  return "";
}

}  // namespace millrace::control
