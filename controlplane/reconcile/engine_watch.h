// SPDX-License-Identifier: Apache-2.0
//
// The engine as the control plane sees it. Its lock says whether it lives, and its stats segment
// what it does. The kernel says whether a program that it left behind goes on. Cold; polled a few
// times a second.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "controlplane/net/netlink.h"
#include "controlplane/reconcile/snapshot.h"
#include "dataplane/shm/stats_reader.h"

namespace millrace::control {

class EngineWatch {
 public:
  // `runtime_dir` holds dataplane.lock and the stats segment; neither need exist.
  explicit EngineWatch(const std::string& runtime_dir)
      : lock_path_(runtime_dir + "/dataplane.lock"), stats_path_(runtime_dir + "/stats") {}

  using AskLink = std::function<LinkState(std::uint32_t link_index)>;

  struct Poll {
    bool is_new_engine = false;  // another process than last time
    // It started after an earlier look, so its counters start at 0 for everybody who has a slot
    // now. Otherwise it was there before us.
    bool has_started = false;
    bool twins_changed = false;  // other interfaces, not other names
  };
  // Looks at lock and segment, and joins the segment (again) if needed. `ask_link` says of each
  // twin whether it is there. While the daemon of an XDP engine is away, it also says whether a
  // program is attached.
  [[nodiscard]] Poll poll(std::uint64_t now_ns, const AskLink& ask_link);

  // Null while there is no segment to read.
  [[nodiscard]] const shm::StatsReader* stats() const { return stats_ ? &*stats_ : nullptr; }
  [[nodiscard]] bool is_alive() const { return is_alive_; }
  // As EngineState::unseen, at the last look.
  [[nodiscard]] bool is_unseen() const { return !stats_ && is_unseen_; }
  [[nodiscard]] const shm::EngineInfo& info() const { return info_; }

  // The time since the main thread's last sign of life; it gives one every millisecond.
  [[nodiscard]] std::uint64_t silence_ns(std::uint64_t now_ns) const {
    return now_ns > info_.heartbeat_ns ? now_ns - info_.heartbeat_ns : 0;
  }

  // The oldest generation that some worker may still read, for Publisher::reclaim; nullopt when
  // nobody can tell. Asks for the lock anew. Without an engine it is `published`, since an engine
  // that starts later begins with that.
  [[nodiscard]] std::optional<std::uint64_t> oldest_read(std::uint64_t published);

  // Index of the nic behind a twin; nullopt when the engine drives none.
  [[nodiscard]] std::optional<std::uint8_t> nic_of_twin(std::uint32_t twin_index) const;

  // `published`, which is in force since `published_at_ns`, is what the workers should have
  // acknowledged by now. All times are CLOCK_MONOTONIC.
  [[nodiscard]] EngineSnapshot snapshot(std::uint64_t published, std::uint64_t published_at_ns,
                                        std::uint64_t now_ns) const;

 private:
  [[nodiscard]] bool is_beating(std::uint64_t now_ns) const;
  [[nodiscard]] EngineState state(std::uint64_t now_ns) const;
  [[nodiscard]] NicSnapshot nic_snapshot(std::size_t index) const;
  [[nodiscard]] std::string ended_text() const;
  [[nodiscard]] std::string problem(const EngineSnapshot& engine, std::uint64_t published,
                                    std::uint64_t published_at_ns, std::uint64_t now_ns) const;

  std::string lock_path_;
  std::string stats_path_;
  bool is_alive_ = false;
  std::optional<bool> was_there_first_;  // at the first look
  std::optional<shm::StatsReader> stats_;
  std::string join_error_;
  bool is_unseen_ = false;  // there may be a segment, but it cannot be read
  shm::EngineInfo info_;
  std::vector<LinkState> links_;  // by nic, of its twin, as the kernel says
  bool is_left_alone_ = false;    // a program in the kernel, whose daemon says nothing of its nics
};

}  // namespace millrace::control
