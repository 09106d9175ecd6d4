// SPDX-License-Identifier: Apache-2.0
#include "dataplane/worker/local_traffic.h"

namespace millrace::worker {

std::uint32_t LocalTraffic::send() noexcept {
  std::uint32_t frames = send_announcements();
  for (std::uint32_t nic = 0; nic < exits_.twins.size(); ++nic) frames += send_from_twin(nic);
  return frames;
}

std::uint32_t LocalTraffic::send_from_twin(std::uint32_t nic) noexcept {
  const dpdk::ExceptionPath* twin = exits_.twins[nic];
  if (twin == nullptr) return 0;
  std::array<dpdk::Mbuf*, kLocalFramesMax> mbufs;
  std::uint32_t count = 0;
  std::uint32_t too_long = 0;
  while (count < kLocalFramesMax) {
    dpdk::Mbuf* mbuf = twin->receive(pool_, too_long);
    if (mbuf == nullptr) break;
    mbufs[count++] = mbuf;
  }
  counters_.counters[MR_COUNTER_TWIN_RX_PACKETS] += too_long;
  counters_.counters[MR_COUNTER_TWIN_DROPPED] += too_long;
  if (count == 0) return 0;
  const std::span<dpdk::Mbuf*> frames = std::span(mbufs).first(count);
  const std::uint32_t sent = exits_.tx_queues[nic]->send(frames);
  dpdk::free_mbufs(frames.subspan(sent));
  counters_.counters[MR_COUNTER_TWIN_RX_PACKETS] += count;
  counters_.counters[MR_COUNTER_TWIN_FORWARDED] += sent;
  counters_.counters[MR_COUNTER_TWIN_DROPPED] += count - sent;
  return count;
}

std::uint32_t LocalTraffic::send_announcements() noexcept {
  std::array<dpdk::Mbuf*, kLocalFramesMax> mbufs;
  const std::uint32_t count = announcements_.pop(mbufs);
  for (dpdk::Mbuf*& mbuf : std::span(mbufs).first(count)) {
    const std::span<dpdk::Mbuf*> frame(&mbuf, 1);
    const std::uint32_t sent = exits_.tx_queues[dpdk::nic_of(mbuf)]->send(frame);
    dpdk::free_mbufs(frame.subspan(sent));  // one of several; the next round has another
    counters_.counters[MR_COUNTER_ANNOUNCED] += sent;
  }
  return count;
}

}  // namespace millrace::worker
