// SPDX-License-Identifier: Apache-2.0
//
// Counters as they grow over restarts of the engine and over reuse of slots. Cold and pure.
//
// The engine counts by slot from 0 at its start, whoever has the slot. Here each owner of a slot
// has a sum of its own: what the slot's counter grew by since that owner has the slot. Counts that
// may be another owner's are left out. So a sum starts at 0 or goes on, and never jumps.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "dataplane/contract/stats_abi.h"

namespace millrace::control {

// `Stats` is mr_listener_stats or mr_target_stats: eight 64-bit words.
template <typename Stats>
class CounterSums {
 public:
  // The owner `id` gets its slot with `generation`. The slot's counters stand at `raw` in the
  // engine that runs now; nullopt when they cannot be read. Until the workers have that generation,
  // a used slot may still count for the owner before. Does nothing for an owner that is known.
  void begin(std::uint32_t id, const std::optional<Stats>& raw, std::uint64_t generation);
  // The counters of the owner's slot stand at `raw`, and all workers have `acknowledged`. Does
  // nothing for an owner that is not known.
  void observe(std::uint32_t id, const Stats& raw, std::uint64_t acknowledged);
  // Another engine runs. If it `has_started` since the owners have their slots, counters start at
  // 0. Otherwise they start where they stand when they are seen first.
  void restart(bool has_started);
  // Forgets every owner but `ids`.
  void retain(const std::unordered_set<std::uint32_t>& ids) {
    std::erase_if(tracks_, [&](const auto& track) { return !ids.contains(track.first); });
  }

  // Gauges among the fields (active_flows) are as last observed.
  [[nodiscard]] Stats sum(std::uint32_t id) const;

 private:
  struct Track {
    std::optional<Stats> last{};   // nullopt: not seen yet
    std::uint64_t generation = 0;  // from which on the slot counts for this owner
    Stats sum{};
  };
  std::unordered_map<std::uint32_t, Track> tracks_;
};

extern template class CounterSums<mr_listener_stats>;
extern template class CounterSums<mr_target_stats>;

}  // namespace millrace::control
