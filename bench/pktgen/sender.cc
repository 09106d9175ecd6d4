// SPDX-License-Identifier: Apache-2.0
//
// HOT from send_due() on; making is cold.
#include "bench/pktgen/sender.h"

#include <span>
#include <utility>

namespace millrace::pktgen {

Sender::Sender(StreamSource source, dpdk::TxQueue& queue, const dpdk::MbufPool& pool)
    : source_(std::move(source)), queue_(queue), pool_(pool) {}

Sender::~Sender() {
  const std::span<dpdk::Mbuf* const> mbufs(burst_.mbufs);
  dpdk::free_mbufs(mbufs.subspan(sent_, burst_.view.count - sent_));
}

void Sender::send_due(std::uint64_t now_ns, SendWork& work) noexcept {
  if (sent_ == burst_.view.count) fill_burst(now_ns);
  const std::uint32_t left = burst_.view.count - sent_;
  if (left == 0) return;
  const std::uint32_t taken = queue_.send({burst_.mbufs.data() + sent_, left});
  for (std::uint32_t i = sent_; i < sent_ + taken; ++i) bytes_ += burst_.view.packets[i].length;
  packets_ += taken;
  work.has_sent |= taken > 0;
  work.is_blocked |= taken < left;
  sent_ += taken;
}

void Sender::fill_burst(std::uint64_t now_ns) noexcept {
  const std::uint32_t planned = source_.plan(now_ns);
  std::uint32_t count = 0;
  while (count < planned) {
    dpdk::Mbuf* mbuf = pool_.take(0);
    if (mbuf == nullptr) break;  // all are out; the rest of the plan waits
    burst_.mbufs[count++] = mbuf;
  }
  burst_.view.count = count;
  sent_ = 0;
  std::uint64_t empty_bytes = 0;
  (void)dpdk::view_mbufs(burst_, empty_bytes);  // new mbufs are in one piece
  for (std::uint32_t i = 0; i < count; ++i) {
    core::Packet& packet = burst_.view.packets[i];
    packet.length = source_.write_next(packet.data, now_ns);
    dpdk::take_view(burst_.mbufs[i], packet);
  }
}

}  // namespace millrace::pktgen
