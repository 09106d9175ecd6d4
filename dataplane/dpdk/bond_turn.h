// SPDX-License-Identifier: Apache-2.0
//
// What a worker does for a nic that is a bond, beside receiving and sending. Warm: part of its
// housekeeping.
#pragma once

#include <cstdint>
#include <vector>

#include "dataplane/dpdk/nic.h"

namespace millrace::dpdk {

class BondTurn {
 public:
  // `tx` is the queue that the worker sends on, `rx` are those of the bond that it reads.
  BondTurn(const Bond& bond, TxQueue& tx, const std::vector<RxQueue>& rx);

  void run() noexcept;

 private:
  void empty_waiting() noexcept;

  std::uint16_t bond_;
  TxQueue* lacp_;                 // null without
  std::vector<RxQueue> waiting_;  // of all members, with active-backup
};

}  // namespace millrace::dpdk
