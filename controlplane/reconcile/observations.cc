// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/observations.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace millrace::control {

namespace {

constexpr std::size_t kWords = 8;
static_assert(sizeof(mr_listener_stats) == kWords * 8 && sizeof(mr_target_stats) == kWords * 8,
              "summed word by word");

template <typename Stats>
constexpr Stats kNothing{};

void set_gauges(mr_listener_stats&, const mr_listener_stats&) {}
void set_gauges(mr_target_stats& sum, const mr_target_stats& raw) {
  sum.active_flows = raw.active_flows;
}

}  // namespace

template <typename Stats>
void CounterSums<Stats>::begin(std::uint32_t id, const std::optional<Stats>& raw,
                               std::uint64_t generation) {
  const bool is_fresh = raw && std::memcmp(&*raw, &kNothing<Stats>, sizeof(Stats)) == 0;
  tracks_.try_emplace(id, Track{.last = raw, .generation = is_fresh ? 0 : generation, .sum = {}});
}

template <typename Stats>
void CounterSums<Stats>::observe(std::uint32_t id, const Stats& raw, std::uint64_t acknowledged) {
  const auto found = tracks_.find(id);
  if (found == tracks_.end()) return;
  Track& track = found->second;
  set_gauges(track.sum, raw);
  if (!track.last || acknowledged < track.generation) {
    track.last = raw;
    return;
  }
  track.generation = 0;  // an engine that starts later has it from its first packet on
  std::uint64_t now[kWords];
  std::uint64_t last[kWords];
  std::uint64_t sum[kWords];
  std::memcpy(now, &raw, sizeof(now));
  std::memcpy(last, &*track.last, sizeof(last));
  std::memcpy(sum, &track.sum, sizeof(sum));
  for (std::size_t i = 0; i < kWords; ++i) sum[i] += now[i] - std::min(now[i], last[i]);
  std::memcpy(&track.sum, sum, sizeof(sum));
  track.last = raw;
  set_gauges(track.sum, raw);
}

template <typename Stats>
void CounterSums<Stats>::restart(bool has_started) {
  for (auto& [id, track] : tracks_) {
    track.last = has_started ? std::optional<Stats>(Stats{}) : std::nullopt;
  }
}

template <typename Stats>
Stats CounterSums<Stats>::sum(std::uint32_t id) const {
  const auto track = tracks_.find(id);
  return track == tracks_.end() ? Stats{} : track->second.sum;
}

template class CounterSums<mr_listener_stats>;
template class CounterSums<mr_target_stats>;

}  // namespace millrace::control
