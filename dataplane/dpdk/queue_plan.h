// SPDX-License-Identifier: Apache-2.0
//
// How many queues a device gets that the engine sets up itself (a PCI device, a virtual one). Cold
// and pure. What counts is that no rx queue is spread over that no worker reads.
#pragma once

#include <cstdint>
#include <string>

#include "dataplane/core/result.h"

namespace millrace::dpdk {

struct QueueWish {
  std::uint32_t rx = 0;  // 0: what suits the device
  std::uint32_t worker_count = 1;
};

// What the driver says of the device.
struct QueueLimits {
  std::string driver;  // as DPDK names it: net_virtio
  std::uint16_t rx_max = 1;
  std::uint16_t tx_max = 1;
};

struct QueuePlan {
  std::uint16_t rx = 1;
  std::uint16_t tx = 1;
};

// Errors: the other side of the device may spread over more queues than were wished for, or it has
// fewer.
[[nodiscard]] Result<QueuePlan> plan_queues(const QueueWish& wish, const QueueLimits& limits);

// "queues=4" among the arguments of a virtual device; 0 when it says nothing.
[[nodiscard]] std::uint32_t queues_argument(const std::string& device);

}  // namespace millrace::dpdk
