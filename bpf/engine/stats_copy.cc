// SPDX-License-Identifier: Apache-2.0
#include "bpf/engine/stats_copy.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "dataplane/shm/atomic.h"

namespace millrace::xdp {

namespace {

using shm::load_relaxed;
using shm::store_relaxed;

// Lines of eight counters, which both kinds of slot are.
constexpr std::size_t kWords = 8;
static_assert(sizeof(mr_listener_stats) == kWords * sizeof(std::uint64_t));
static_assert(sizeof(mr_target_stats) == kWords * sizeof(std::uint64_t));

template <typename T>
std::uint64_t& word_of(T& line, std::size_t word) {
  return reinterpret_cast<std::uint64_t*>(&line)[word];
}

// What `row` of `now` counted since `before`.
template <typename T>
void add_grown(std::array<std::uint64_t, kWords>& sum, std::span<T> now,
               const std::vector<T>& before, std::size_t index) {
  for (std::size_t word = 0; word < kWords; ++word) {
    sum[word] +=
        load_relaxed(word_of(now[index], word)) - word_of(const_cast<T&>(before[index]), word);
  }
}

// What became of the packets that were received.
std::uint64_t outcomes(const mr_worker_stats& stats) {
  std::uint64_t sum = stats.counters[MR_COUNTER_FORWARDED_PACKETS] +
                      stats.counters[MR_COUNTER_REPLIED_PACKETS] +
                      stats.counters[MR_COUNTER_PUNTED_PACKETS];
  for (const std::uint64_t drops : stats.drops) sum += drops;
  return sum;
}

// Counters of a CPU whose program may be running. A packet under way is received and nothing else
// yet: so look again, a few times. Under load some packet always is, and then nobody minds.
mr_worker_stats read_counters(const mr_worker_stats& stats) {
  constexpr int kLooks = 4;
  mr_worker_stats taken{};
  for (int look = 0; look < kLooks; ++look) {
    for (std::size_t i = 0; i < MR_COUNTER_COUNT; ++i) {
      taken.counters[i] = load_relaxed(stats.counters[i]);
    }
    for (std::size_t i = 0; i < MR_DROP_REASON_COUNT; ++i) {
      taken.drops[i] = load_relaxed(stats.drops[i]);
    }
    if (taken.counters[MR_COUNTER_RX_PACKETS] == outcomes(taken)) break;
  }
  return taken;
}

}  // namespace

StatsCopy::StatsCopy(const Maps& maps, const shm::StatsWriter& stats)
    : maps_(maps),
      stats_(stats),
      listeners_before_(maps.listener_stats.begin(), maps.listener_stats.end()),
      targets_before_(maps.target_stats.begin(), maps.target_stats.end()) {
  for (std::uint32_t cpu = 0; cpu < maps_.control->cpu_count; ++cpu) {
    stats_.worker(cpu).cpu = cpu;
    mr_worker_stats before = read_counters(maps_.cpus[cpu].stats);
    // A packet that is under way now counts as received from now on, like what becomes of it.
    before.counters[MR_COUNTER_RX_PACKETS] = outcomes(before);
    cpus_before_.push_back(before);
  }
  store_relaxed(stats_.worker(0).flows_capacity, maps_.flows.size());
}

void StatsCopy::publish(const Sweep& sweep, const core::ConfigView& view, std::uint64_t now_ns) {
  const mr_xdp_control& control = *maps_.control;
  listener_slots_ = std::clamp<std::uint32_t>(static_cast<std::uint32_t>(view.listeners.size()),
                                              listener_slots_, control.listener_slots);
  target_slots_ = std::clamp<std::uint32_t>(static_cast<std::uint32_t>(view.targets.size()),
                                            target_slots_, control.target_slots);
  own_[MR_COUNTER_FLOW_REMOVED] = sweep.removed();
  own_[MR_COUNTER_FLOW_EXPIRED] = sweep.expired();
  own_[MR_COUNTER_FLOW_GIVEN_UP] = sweep.given_up();
  for (std::uint32_t cpu = 0; cpu < control.cpu_count; ++cpu) publish_worker(cpu, now_ns);
  publish_slots(next_slots_);
  next_slots_ = (next_slots_ + 1) % control.cpu_count;
  publish_gauges(sweep);
}

void StatsCopy::acknowledge(std::uint64_t generation) {
  ++own_[MR_COUNTER_CONFIG_ADOPTED];
  acknowledged_ = generation;
  if (has_gauges_) publish_acknowledged();
}

void StatsCopy::publish_acknowledged() {
  for (std::uint32_t cpu = 0; cpu < maps_.control->cpu_count; ++cpu) {
    // Pairs with the acquire of control::Publisher before it reuses the memory of older
    // generations.
    shm::store_release(stats_.worker(cpu).acknowledged_generation, acknowledged_);
  }
}

void StatsCopy::publish_worker(std::uint32_t cpu, std::uint64_t now_ns) {
  const mr_worker_stats now = read_counters(maps_.cpus[cpu].stats);
  const mr_worker_stats& before = cpus_before_[cpu];
  mr_worker_stats& shared = stats_.worker(cpu);
  for (std::size_t i = 0; i < MR_COUNTER_COUNT; ++i) {
    const std::uint64_t own = cpu == 0 ? own_[i] : 0;
    store_relaxed(shared.counters[i], now.counters[i] - before.counters[i] + own);
  }
  for (std::size_t i = 0; i < MR_DROP_REASON_COUNT; ++i) {
    store_relaxed(shared.drops[i], now.drops[i] - before.drops[i]);
  }
  store_relaxed(shared.heartbeat_ns, now_ns);
}

void StatsCopy::publish_slots(std::uint32_t cpu) {
  const mr_xdp_control& control = *maps_.control;
  const std::size_t own_row = control.cpu_count;
  const std::span<mr_listener_stats> listeners = stats_.listeners(cpu);
  for (std::size_t slot = 0; slot < listener_slots_; ++slot) {
    std::array<std::uint64_t, kWords> sum{};
    const std::size_t stride = control.listener_slots;
    add_grown(sum, maps_.listener_stats, listeners_before_, cpu * stride + slot);
    if (cpu == 0) add_grown(sum, maps_.listener_stats, listeners_before_, own_row * stride + slot);
    for (std::size_t word = 0; word < kWords; ++word) {
      store_relaxed(word_of(listeners[slot], word), sum[word]);
    }
  }
  constexpr std::size_t kActive = offsetof(mr_target_stats, active_flows) / sizeof(std::uint64_t);
  const std::span<mr_target_stats> targets = stats_.targets(cpu);
  for (std::size_t slot = 0; slot < target_slots_; ++slot) {
    std::array<std::uint64_t, kWords> sum{};
    const std::size_t stride = control.target_slots;
    add_grown(sum, maps_.target_stats, targets_before_, cpu * stride + slot);
    if (cpu == 0) add_grown(sum, maps_.target_stats, targets_before_, own_row * stride + slot);
    for (std::size_t word = 0; word < kWords; ++word) {
      if (word != kActive) store_relaxed(word_of(targets[slot], word), sum[word]);
    }
  }
}

void StatsCopy::publish_gauges(const Sweep& sweep) {
  if (!sweep.has_counted()) return;  // "0" would say that nobody needs a target
  store_relaxed(stats_.worker(0).flows_active, sweep.active_flows());
  const std::span<mr_target_stats> targets = stats_.targets(0);
  for (std::size_t slot = 0; slot < target_slots_; ++slot) {
    store_relaxed(targets[slot].active_flows, sweep.target_flows()[slot]);
  }
  if (!std::exchange(has_gauges_, true)) publish_acknowledged();
}

}  // namespace millrace::xdp
