// SPDX-License-Identifier: Apache-2.0
//
// What the kernel says of an interface that AF_XDP drives. Cold; asked by sysfs and read-only
// requests, which needs no privilege, so that it can be asked while the engine runs.
#pragma once

#include <cstdint>
#include <string>

namespace millrace::dpdk {

// Rx queues that the interface spreads frames over now; 0 when there is no such interface.
[[nodiscard]] std::uint32_t rx_queue_count(const std::string& interface);

// The command that gives it `count` queues, in the terms of its driver.
[[nodiscard]] std::string queue_command(const std::string& interface, std::uint32_t count);

}  // namespace millrace::dpdk
