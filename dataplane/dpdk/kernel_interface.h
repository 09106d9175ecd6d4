// SPDX-License-Identifier: Apache-2.0
//
// What the kernel says of an interface: of one that AF_XDP drives, or a twin. Cold; asked by sysfs
// and read-only requests, which needs no privilege, so that it can be asked while the engine runs.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dataplane/contract/stats_abi.h"
#include "dataplane/core/result.h"

namespace millrace::dpdk {

// Rx queues that the interface spreads frames over now; 0 when there is no such interface.
[[nodiscard]] std::uint32_t rx_queue_count(const std::string& interface);

// What that becomes with an XDP program. virtio_net turns on one more pair of queues for each CPU
// of the machine, if the device has as many (virtnet_xdp_set() in Linux's
// drivers/net/virtio_net.c), and the device spreads over all of them.
[[nodiscard]] std::uint32_t rx_queue_count_with_xdp(const std::string& interface);

// The command that gives it `count` queues, in the terms of its driver.
[[nodiscard]] std::string queue_command(const std::string& interface, std::uint32_t count);

// Why AF_XDP cannot drive it, in words that follow its name; "" when it can. Frames of a bond come
// in by its members, and a socket gets frames of its own interface alone (xsk_rcv_check() in
// Linux's net/xdp/xsk.c). A member's frames include LACP's, which the bond lives on.
[[nodiscard]] std::string why_no_af_xdp(const std::string& interface);

// 0 when there is no such interface.
[[nodiscard]] std::uint32_t mtu_of(const std::string& interface);

// Needs CAP_NET_ADMIN. Errors name the interface and both values.
[[nodiscard]] Status set_mtu(const std::string& interface, std::uint32_t mtu);

// The XDP program that is attached to the interface; id 0: none, nothing: the kernel does not say.
struct XdpProgram {
  std::uint32_t id = 0;
  bool is_generic = false;  // run by the kernel's stack, not by the driver
};
[[nodiscard]] std::optional<XdpProgram> xdp_program(const std::string& interface);

// File descriptors of this process's AF_XDP sockets. DPDK's driver keeps its own to itself.
[[nodiscard]] std::vector<int> af_xdp_sockets();
// Whether the kernel has taken the interface of one of these sockets away since the last call. That
// ends the socket for good. The kernel says so once.
[[nodiscard]] bool lost_interface(std::span<const int> sockets);

// What was dropped before a worker could see it, by the interface or at its AF_XDP sockets, and
// what the interface did not send. Counts from when it was made.
class InterfaceDrops {
 public:
  InterfaceDrops(const std::string& interface, std::vector<int> sockets);

  // The interface is called otherwise from here on; what it dropped before goes on counting.
  void rename(const std::string& interface);

  // Writes the drop counters of `shown`. About 30 us, and 1 us for each socket.
  void count(mr_nic& shown) const;

 private:
  enum Statistic { kRxMissed, kRxErrors, kRxDropped, kTxErrors, kTxDropped, kStatisticCount };
  [[nodiscard]] std::uint64_t read(Statistic statistic) const;

  std::string folder_;
  std::vector<int> sockets_;
  std::array<std::uint64_t, kStatisticCount> before_{};
};

}  // namespace millrace::dpdk
