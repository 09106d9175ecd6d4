// SPDX-License-Identifier: Apache-2.0
#include "dataplane/worker/handover.h"

#include <atomic>
#include <string>

namespace millrace::worker {

Result<HandoverRings> HandoverRings::create(std::uint32_t worker_count) {
  static std::atomic<std::uint32_t> instance_next{0};  // ring names are unique in a process
  const std::string prefix = "handover" + std::to_string(instance_next.fetch_add(1)) + "_";
  HandoverRings rings(worker_count);
  for (std::uint32_t from = 0; from < worker_count; ++from) {
    for (std::uint32_t to = 0; to < worker_count; ++to) {
      // The diagonal is never used; the smallest ring keeps the index simple.
      const std::uint32_t size = from == to ? 2 : kHandoverRingSize;
      Result<dpdk::MbufRing> ring =
          dpdk::MbufRing::create(prefix + std::to_string(from) + "_" + std::to_string(to), size);
      if (!ring) return ring.error();
      rings.rings_.push_back(std::move(*ring));
    }
  }
  return rings;
}

Handover::Handover(HandoverRings& rings, std::uint32_t worker, mr_worker_stats& counters)
    : rings_(rings), worker_(worker), counters_(counters), parcels_(rings.worker_count()) {}

void Handover::deliver_parcels() noexcept {
  for (std::uint32_t owner = 0; owner < parcels_.size(); ++owner) {
    Parcel& parcel = parcels_[owner];
    if (parcel.count == 0) continue;
    const std::span<dpdk::Mbuf*> mbufs = std::span(parcel.mbufs).first(parcel.count);
    const std::uint32_t pushed = rings_.ring(worker_, owner).push(mbufs);
    dpdk::free_mbufs(mbufs.subspan(pushed));
    counters_.counters[MR_COUNTER_HANDOVER_OUT] += pushed;
    counters_.drops[MR_DROP_HANDOVER_FULL] += parcel.count - pushed;
    parcel.count = 0;
  }
  has_parcels_ = false;
}

void Handover::take(dpdk::MbufBurst& burst) noexcept {
  burst.view.count = 0;
  const std::uint32_t worker_count = rings_.worker_count();
  for (std::uint32_t tried = 0; tried < worker_count && burst.view.count == 0; ++tried) {
    const std::uint32_t from = take_next_;
    take_next_ = take_next_ + 1 < worker_count ? take_next_ + 1 : 0;
    if (from != worker_) burst.view.count = rings_.ring(from, worker_).pop(burst.mbufs);
  }
  if (burst.view.count == 0) return;
  counters_.counters[MR_COUNTER_HANDOVER_IN] += burst.view.count;
  std::uint64_t bytes = 0;               // counted where they were received
  (void)dpdk::view_mbufs(burst, bytes);  // drops nothing: they are in one piece by now
}

}  // namespace millrace::worker
