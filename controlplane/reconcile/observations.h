// SPDX-License-Identifier: Apache-2.0
//
// Counters as they grow over restarts of the engine and over reuse of slots. Cold and pure.
//
// The engine counts by slot from 0 at its start. Here each owner of a slot has its own sum: what
// the slot's counter grew by since the owner got the slot.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <unordered_set>

#include "dataplane/contract/stats_abi.h"

namespace millrace::control {

// `Stats` is mr_listener_stats or mr_target_stats: eight 64-bit words.
template <typename Stats>
class CounterSums {
 public:
  // The owner `id` got its slot, whose counters stand at `raw` in the engine that runs now. Does
  // nothing for an owner that is known.
  void begin(std::uint32_t id, const Stats& raw);
  // The counters of the owner's slot stand at `raw`.
  void observe(std::uint32_t id, const Stats& raw);
  // A new engine: every counter starts at 0.
  void restart();
  // Forgets every owner but `ids`.
  void retain(const std::unordered_set<std::uint32_t>& ids) {
    std::erase_if(tracks_, [&](const auto& track) { return !ids.contains(track.first); });
  }

  // Gauges among the fields (active_flows) are as last observed.
  [[nodiscard]] Stats sum(std::uint32_t id) const;

 private:
  struct Track {
    Stats last{};
    Stats sum{};
  };
  std::unordered_map<std::uint32_t, Track> tracks_;
};

extern template class CounterSums<mr_listener_stats>;
extern template class CounterSums<mr_target_stats>;

}  // namespace millrace::control
