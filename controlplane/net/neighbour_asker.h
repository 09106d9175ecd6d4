// SPDX-License-Identifier: Apache-2.0
//
// Makes the kernel resolve a neighbour, or check one whose entry went stale. Cold.
//
// By an empty UDP datagram to the neighbour's discard port, with a hop limit of 1: the kernel has
// to find the neighbour's MAC address to send it, and that needs no privilege. The ways of netlink
// (NTF_USE, NTF_EXT_MANAGED; both work on Linux 6.18) need CAP_NET_ADMIN, which the control plane
// gives up. Health probes do the same job for targets; gateways and unprobed neighbours need this.
#pragma once

#include <map>
#include <vector>

#include "controlplane/net/next_hop_table.h"

namespace millrace::control {

class NeighbourAsker {
 public:
  // One neighbour is asked for at most this often, however often ask() is called.
  static constexpr std::chrono::milliseconds kIntervalMin{500};

  NeighbourAsker() = default;
  ~NeighbourAsker();
  NeighbourAsker(const NeighbourAsker&) = delete;
  NeighbourAsker& operator=(const NeighbourAsker&) = delete;

  // Asks for each of `neighbours`; never blocks. One that cannot be asked for now is left for
  // later.
  void ask(const std::vector<NeighbourKey>& neighbours, NetTime now);

 private:
  void send(const NeighbourKey& neighbour);

  std::map<NeighbourKey, NetTime> asked_;
  int socket_v4_ = -1;  // opened when first needed
  int socket_v6_ = -1;
};

}  // namespace millrace::control
