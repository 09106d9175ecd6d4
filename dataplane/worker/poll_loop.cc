// SPDX-License-Identifier: Apache-2.0
#include "dataplane/worker/poll_loop.h"

#include <sys/prctl.h>
#include <time.h>

#include "dataplane/shm/atomic.h"

namespace millrace::worker {

namespace {

void sleep_for(std::uint64_t duration_ns) noexcept {
  const timespec duration{.tv_sec = 0, .tv_nsec = static_cast<long>(duration_ns)};
  (void)::clock_nanosleep(CLOCK_MONOTONIC, 0, &duration, nullptr);  // waking early is fine
}

}  // namespace

void Worker::run(const std::atomic<bool>& stop) noexcept {
  // The kernel may otherwise add 50 us to each short sleep.
  (void)::prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
  dpdk::Clock clock;
  std::uint64_t now_ns = clock.now_ns();
  (void)keep_house(now_ns);  // takes the config before the first packet
  while (!stop.load(std::memory_order_relaxed)) {
    std::uint32_t handled = turn(now_ns);
    if (housekeeping_.is_due(now_ns)) handled += keep_house(now_ns);
    const std::uint64_t ended_ns = clock.now_ns();
    const std::uint64_t sleep_ns = pace_.rest(now_ns, ended_ns, handled);
    now_ns = ended_ns;
    if (sleep_ns != 0) {
      sleep_for(sleep_ns);
      now_ns = clock.now_ns();
    }
  }
  (void)keep_house(now_ns);
}

std::uint32_t Worker::turn(std::uint64_t now_ns) noexcept {
  std::uint32_t handled = 0;
  for (const dpdk::RxQueue& queue : rx_queues_) handled += poll(queue, now_ns);
  if (handover_) handled += poll_handover(now_ns);
  return handled;
}

std::uint32_t Worker::poll(const dpdk::RxQueue& queue, std::uint64_t now_ns) noexcept {
  const std::uint32_t received = queue.receive(burst_.mbufs);
  if (received == 0) return 0;
  burst_.view.count = received;
  counters_.counters[MR_COUNTER_RX_PACKETS] += received;
  counters_.drops[MR_DROP_MULTI_SEGMENT] +=
      dpdk::view_mbufs(burst_, counters_.counters[MR_COUNTER_RX_BYTES]);
  process(now_ns, ownership_);
  return received;
}

std::uint32_t Worker::poll_handover(std::uint64_t now_ns) noexcept {
  handover_->take(burst_);
  const std::uint32_t taken = burst_.view.count;
  if (taken != 0) process(now_ns, core::kOwnsAll);
  return taken;
}

void Worker::process(std::uint64_t now_ns, const core::Ownership& ownership) noexcept {
  if (handover_) {
    forwarder_.process_burst(burst_.view, now_ns, ownership);
  } else {
    forwarder_.process_burst(burst_.view, now_ns);
  }
  dispatch_.act(burst_);
}

Worker::Worker(const WorkerOptions& options)
    : rx_queues_(options.rx_queues),
      ownership_(options.handover_rings == nullptr
                     ? core::kOwnsAll
                     : core::Ownership{.worker = options.index,
                                       .worker_count = options.handover_rings->worker_count()}),
      forwarder_({.flow_table = options.flow_table,
                  .ownership = ownership_,
                  .nic_macs = options.nic_macs,
                  .counters = {.worker = &counters_,
                               .listeners = options.listener_stats,
                               .targets = options.target_stats}}),
      handover_(options.handover_rings == nullptr
                    ? std::nullopt
                    : std::optional<Handover>(std::in_place, *options.handover_rings, options.index,
                                              counters_)),
      dispatch_(options.exits, counters_, handover_ ? &*handover_ : nullptr),
      local_traffic_(options.announcements == nullptr
                         ? std::nullopt
                         : std::optional<LocalTraffic>(std::in_place, options.exits, *options.pool,
                                                       *options.announcements, counters_)),
      housekeeping_({.worker = options.index,
                     .forwarder = &forwarder_,
                     .configs = options.configs,
                     .local_traffic = local_traffic_ ? &*local_traffic_ : nullptr,
                     .bond_turns = options.bond_turns,
                     .nic_macs = options.changing_macs,
                     .counters = &counters_,
                     .published = options.published}),
      pace_(options.spins, counters_) {
  shm::store_relaxed(options.published->flows_capacity, options.flow_table.capacity());
}

}  // namespace millrace::worker
