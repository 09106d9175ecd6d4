// SPDX-License-Identifier: Apache-2.0
//
// HOT but for making.
#include "bench/pktgen/connection_load.h"

#include <algorithm>

#include "dataplane/core/answer.h"
#include "dataplane/core/parse.h"

namespace millrace::pktgen {

NicOutbox::NicOutbox(const dpdk::MbufPool& pool, dpdk::TxQueue& queue)
    : pool_(pool), queue_(queue), mbufs_{}, packets_of_{} {
  refill(0, kOutboxFrames);
  outbox_.lend({packets_of_.data(), ready_});
}

NicOutbox::~NicOutbox() { dpdk::free_mbufs({mbufs_.data(), ready_}); }

// Gives [from, to) new buffers; [to, ready_) have theirs. What is missing is taken from the end.
void NicOutbox::refill(std::uint32_t from, std::uint32_t to) noexcept {
  ready_ = std::max(ready_, to);
  while (from < to) {
    dpdk::MbufBurst burst;
    const std::uint32_t wanted = std::min(to - from, core::kBurstMax);
    if (!pool_.take_all(0, {burst.mbufs.data(), wanted})) break;
    burst.view.count = wanted;
    std::uint64_t bytes = 0;
    (void)dpdk::view_mbufs(burst, bytes);  // new mbufs are in one piece
    for (std::uint32_t i = 0; i < wanted; ++i) {
      mbufs_[from + i] = burst.mbufs[i];
      packets_of_[from + i] = burst.view.packets[i];
    }
    from += wanted;
  }
  // [from, to) have none: the pool is empty, all of it is on its way.
  const std::uint32_t moved = std::min(to - from, ready_ - to);
  for (std::uint32_t i = 0; i < moved; ++i) {
    mbufs_[from + i] = mbufs_[ready_ - 1 - i];
    packets_of_[from + i] = packets_of_[ready_ - 1 - i];
  }
  ready_ -= to - from;
}

void NicOutbox::flush(SendWork& work) noexcept {
  const std::uint32_t total = pending_ + outbox_.written();
  if (total == 0 && ready_ == kOutboxFrames) return;
  for (std::uint32_t i = pending_; i < total; ++i) dpdk::take_view(mbufs_[i], packets_of_[i]);
  std::uint32_t sent = 0;
  while (sent < total) {
    const std::uint32_t count = std::min(total - sent, core::kBurstMax);
    const std::uint32_t taken = queue_.send({mbufs_.data() + sent, count});
    sent += taken;
    if (taken < count) break;
  }
  packets_ += sent;
  work.has_sent |= sent > 0;
  work.is_blocked |= sent < total;
  std::copy(mbufs_.begin() + sent, mbufs_.begin() + total, mbufs_.begin());
  pending_ = total - sent;
  refill(pending_, total);
  refill(ready_, kOutboxFrames);  // what an empty pool left out before
  outbox_.lend({packets_of_.data() + pending_, ready_ - pending_});
}

ConnectionLoad::ConnectionLoad(const Connections& connections, const Ways& ways)
    : connections_(connections),
      client_outbox_(ways.pool, ways.clients),
      target_outbox_(ways.pool, ways.targets),
      clients_(connections, client_outbox_.outbox()),
      are_alone_(ways.are_alone) {
  if (connections.target_count > 0) targets_.emplace(connections, target_outbox_.outbox());
}

bool ConnectionLoad::receive(core::Packet& packet, std::uint64_t now_ns) noexcept {
  return deliver(packet, {clients_, targets_ ? &*targets_ : nullptr, are_alone_}, now_ns);
}

std::optional<Mac> ConnectionLoad::mac_of(const core::AddrWords& addr) const noexcept {
  const std::uint16_t port_be = core::to_be16(connections_.clients.port_first);
  if (clients_.flows().flow_of({addr, port_be}) != FlowMap::kNoFlow) {
    return connections_.client_mac;
  }
  return targets_ ? targets_->mac_of(addr) : std::nullopt;
}

bool ConnectionLoad::answer(core::Packet& packet) const noexcept {
  if (core::is_arp_request(packet)) {
    const std::optional<Mac> mac = mac_of(core::arp_target(packet));
    if (mac) core::answer_arp(packet, {*mac});
    return mac.has_value();
  }
  core::Parsed parsed;
  core::parse(packet, parsed);
  if (parsed.shape == core::Shape::transport) {
    return targets_ && targets_->answer_probe(packet, parsed);
  }
  if (parsed.shape != core::Shape::icmp || !core::is_neighbour_solicitation(packet, parsed)) {
    return false;
  }
  const std::optional<Mac> mac = mac_of(core::solicited_target(packet));
  return mac && core::answer_neighbour_solicitation(packet, parsed, {*mac});
}

void ConnectionLoad::flush(SendWork& work) noexcept {
  client_outbox_.flush(work);
  target_outbox_.flush(work);
}

void ConnectionLoad::turn(std::uint64_t now_ns, bool opens, SendWork& work) noexcept {
  if (opens) clients_.open_due(now_ns);
  clients_.serve_timers(now_ns);
  flush(work);
}

}  // namespace millrace::pktgen
