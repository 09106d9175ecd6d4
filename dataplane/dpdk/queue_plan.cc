// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/queue_plan.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "dataplane/core/counted.h"

namespace millrace::dpdk {

namespace {

// A device of virtio has pairs of queues, and the driver turns on as many as the larger of both
// numbers is: with more tx queues than rx queues it would spread over rx queues that nobody reads.
bool has_paired_queues(const std::string& driver) { return driver.rfind("net_virtio", 0) == 0; }

// The other side of a vhost device, a virtual machine, uses as many pairs as it likes of those that
// the device was made with.
bool is_spread_by_other_side(const std::string& driver) { return driver == "net_vhost"; }

std::uint16_t at_most(std::uint32_t count, std::uint16_t max) {
  return static_cast<std::uint16_t>(std::min<std::uint32_t>(count, max));
}

}  // namespace

Result<QueuePlan> plan_queues(const QueueWish& wish, const QueueLimits& limits) {
  const bool takes_all = is_spread_by_other_side(limits.driver);
  if (wish.rx > limits.rx_max) {
    return Error{"has only " + core::counted(limits.rx_max, "rx queue") + ", " +
                 std::to_string(wish.rx) + " were asked for"};
  }
  if (takes_all && wish.rx != 0 && wish.rx < limits.rx_max) {
    return Error{"was made with " + std::to_string(limits.rx_max) +
                 " queues, which its other side may all use, --queues asks for " +
                 std::to_string(wish.rx) +
                 ": a part of the clients would get no service; leave --queues out, or make it "
                 "with queues=" +
                 std::to_string(wish.rx)};
  }
  QueuePlan plan{.rx = at_most(wish.rx != 0 ? wish.rx : wish.worker_count, limits.rx_max),
                 .tx = at_most(wish.worker_count, limits.tx_max)};
  if (takes_all) plan.rx = limits.rx_max;
  if (has_paired_queues(limits.driver)) plan.tx = std::min(plan.rx, plan.tx);
  return plan;
}

std::uint32_t queues_argument(const std::string& device) {
  constexpr std::string_view kArgument = ",queues=";
  const std::size_t at = device.find(kArgument);
  if (at == std::string::npos) return 0;
  const char* number = device.c_str() + at + kArgument.size();
  return static_cast<std::uint32_t>(std::strtoul(number, nullptr, 10));
}

}  // namespace millrace::dpdk
