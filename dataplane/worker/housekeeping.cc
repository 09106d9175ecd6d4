// SPDX-License-Identifier: Apache-2.0
#include "dataplane/worker/housekeeping.h"

#include <algorithm>
#include <cstddef>

#include "dataplane/shm/atomic.h"

namespace millrace::worker {

std::uint32_t Housekeeping::run(std::uint64_t now_ns) noexcept {
  next_ns_ = now_ns + kHousekeepingNs - kHousekeepingNs / 4 + jitter_ns();
  adopt_newest();
  if (options_.nic_macs != nullptr) take_nic_macs();
  sweep(now_ns);
  const std::uint32_t frames =
      options_.local_traffic != nullptr ? options_.local_traffic->send() : 0;
  for (dpdk::BondTurn& turn : options_.bond_turns) turn.run();
  publish(now_ns);
  return frames;
}

void Housekeeping::adopt_newest() noexcept {
  const core::ConfigView* newest = options_.configs->newest();
  if (newest == adopted_) return;
  const bool is_first = adopted_ == nullptr;
  options_.forwarder->adopt(*newest);
  // Flows that an earlier process left belong to targets of this config.
  if (is_first) options_.forwarder->recount_flows();
  adopted_ = newest;
  options_.configs->set_adopted(options_.worker, newest);
  // Pairs with the acquire of control::Publisher before it reuses the memory of older generations.
  shm::store_release(options_.published->acknowledged_generation, newest->generation);
}

void Housekeeping::take_nic_macs() noexcept {
  for (std::uint32_t nic = 0; nic < options_.nic_macs->count(); ++nic) {
    const core::MacAddr mac = options_.nic_macs->get(nic);
    if (mac == nic_macs_[nic]) continue;
    nic_macs_[nic] = mac;
    options_.forwarder->set_nic_mac(nic, mac);
  }
}

void Housekeeping::sweep(std::uint64_t now_ns) noexcept {
  const std::uint64_t records = options_.forwarder->flows().record_high();
  if (records == 0 || swept_ns_ == 0) {
    swept_ns_ = now_ns;
    return;
  }
  const std::uint64_t round_ns = sweep_round_ns(records);
  // After a pause: one round, not all missed ones.
  swept_ns_ = now_ns - std::min(now_ns - swept_ns_, round_ns);
  const std::uint64_t share = records * (now_ns - swept_ns_) / round_ns;
  if (share == 0) return;  // few records: wait until one is due
  const auto step = static_cast<std::uint32_t>(std::min<std::uint64_t>(share, kSweepStepMax));
  options_.forwarder->sweep(now_ns, step);
  swept_ns_ += step * round_ns / records;
}

void Housekeeping::publish(std::uint64_t now_ns) noexcept {
  const mr_worker_stats& own = *options_.counters;
  mr_worker_stats& shared = *options_.published;
  for (std::size_t i = 0; i < MR_COUNTER_COUNT; ++i) {
    shm::store_relaxed(shared.counters[i], own.counters[i]);
  }
  for (std::size_t i = 0; i < MR_DROP_REASON_COUNT; ++i) {
    shm::store_relaxed(shared.drops[i], own.drops[i]);
  }
  shm::store_relaxed(shared.flows_active, own.flows_active);
  shm::store_relaxed(shared.turn_ns_max, own.turn_ns_max);
  shm::store_relaxed(shared.heartbeat_ns, now_ns);
}

std::uint64_t Housekeeping::jitter_ns() noexcept {
  jitter_state_ ^= jitter_state_ << 13;
  jitter_state_ ^= jitter_state_ >> 17;
  jitter_state_ ^= jitter_state_ << 5;
  return jitter_state_ % (kHousekeepingNs / 2);
}

}  // namespace millrace::worker
