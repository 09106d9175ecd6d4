// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/bond_turn.h"

#include <rte_eth_bond.h>

#include <array>
#include <span>

#include "dataplane/dpdk/bond.h"
#include "dataplane/dpdk/mbuf_burst.h"

namespace millrace::dpdk {

BondTurn::BondTurn(const Bond& bond, TxQueue& tx, const std::vector<RxQueue>& rx)
    : bond_(bond.device()), lacp_(bond.has_lacp() ? &tx : nullptr) {
  if (bond.has_lacp()) return;
  for (const RxQueue& queue : rx) {
    for (const std::uint16_t member : bond.members()) {
      waiting_.push_back({.device = member, .queue = queue.queue, .nic = queue.nic});
    }
  }
}

// The driver's frames for the switch leave with the next burst, even an empty one, and it wants ten
// a second at least. Every worker sends one: LACP shall not depend on a single one.
void BondTurn::run() noexcept {
  if (lacp_ != nullptr) {
    (void)lacp_->send({});
  } else {
    empty_waiting();
  }
}

// Nobody reads a member that waits. What the switch floods would fill its queue, count as dropped,
// and be taken for news when the member carries: ARP of hours ago. The worker that reads the same
// queue of the bond does this, so that no queue is ever read by two.
void BondTurn::empty_waiting() noexcept {
  std::array<Mbuf*, core::kBurstMax> mbufs;
  const int carrier = ::rte_eth_bond_primary_get(bond_);
  for (const RxQueue& queue : waiting_) {
    if (queue.device == carrier) continue;
    free_mbufs(std::span(mbufs).first(queue.receive(mbufs)));
  }
}

}  // namespace millrace::dpdk
