// SPDX-License-Identifier: Apache-2.0
#include "dataplane/worker/dispatch.h"

namespace millrace::worker {

void Dispatch::act(dpdk::MbufBurst& burst) noexcept {
  std::array<dpdk::Mbuf*, core::kBurstMax> dropped;
  std::uint32_t dropped_count = 0;
  for (std::uint32_t i = 0; i < burst.view.count; ++i) {
    const core::Verdict verdict = burst.view.verdicts[i];
    switch (verdict.kind()) {
      case core::VerdictKind::forward:
      case core::VerdictKind::reply:
        stage(burst.mbufs[i], burst.view.packets[i], verdict);
        break;
      case core::VerdictKind::punt:
        punt(burst.view.packets[i], verdict.nic());
        dropped[dropped_count++] = burst.mbufs[i];  // the kernel has its copy
        break;
      case core::VerdictKind::drop:
        dropped[dropped_count++] = burst.mbufs[i];
        break;
      case core::VerdictKind::hand_over:
        dpdk::take_view(burst.mbufs[i], burst.view.packets[i]);  // a tag may be gone
        handover_->give(burst.mbufs[i], verdict.owner());
        break;
    }
  }
  if (handover_ != nullptr) handover_->deliver();
  dpdk::free_mbufs(std::span(dropped).first(dropped_count));
  for (std::uint32_t nic = 0; nic < outgoing_.size(); ++nic) {
    if (outgoing_[nic].count > 0) send(nic);
  }
}

// The forwarder names only nics that it was constructed with, and these are the same.
void Dispatch::stage(dpdk::Mbuf* mbuf, const core::Packet& packet, core::Verdict verdict) noexcept {
  dpdk::take_view(mbuf, packet);
  Outgoing& outgoing = outgoing_[verdict.nic()];
  if (verdict.kind() == core::VerdictKind::reply) outgoing.replies |= 1u << outgoing.count;
  outgoing.lengths[outgoing.count] = packet.length;
  outgoing.mbufs[outgoing.count++] = mbuf;
}

void Dispatch::punt(const core::Packet& packet, std::uint8_t nic) noexcept {
  const dpdk::ExceptionPath* twin = exits_.twins[nic];
  if (twin != nullptr && twin->punt(packet)) [[likely]]
    return;
  --counters_.counters[MR_COUNTER_PUNTED_PACKETS];
  ++counters_.drops[MR_DROP_PUNT_FULL];
}

void Dispatch::send(std::uint32_t nic) noexcept {
  Outgoing& outgoing = outgoing_[nic];
  const std::span<dpdk::Mbuf*> mbufs = std::span(outgoing.mbufs).first(outgoing.count);
  const std::uint32_t sent = exits_.tx_queues[nic]->send(mbufs);
  for (std::uint32_t i = sent; i < outgoing.count; ++i) {
    if ((outgoing.replies >> i & 1u) != 0) {
      --counters_.counters[MR_COUNTER_REPLIED_PACKETS];
    } else {
      --counters_.counters[MR_COUNTER_FORWARDED_PACKETS];
      counters_.counters[MR_COUNTER_FORWARDED_BYTES] -= outgoing.lengths[i];
    }
    ++counters_.drops[MR_DROP_TX_FULL];
  }
  dpdk::free_mbufs(mbufs.subspan(sent));
  outgoing.count = 0;
  outgoing.replies = 0;
}

}  // namespace millrace::worker
