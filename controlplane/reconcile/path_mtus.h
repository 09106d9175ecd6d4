// SPDX-License-Identifier: Apache-2.0
//
// What routers have said of the ways to targets of ipip and gue groups: the largest packet that
// passes, where that is less than the node's own route says. Cold and pure; time is an argument.
//
// Whoever can send ICMP to the node can forge such an error. So it counts only if it quotes what an
// engine sends: from the address that packets are encapsulated from, to a target, by the group's
// way of forwarding, and with a packet to one of the group's listeners inside where the quote is
// long enough. And no packet is taken for too big that every client may send
// (smallest_mtu_towards()), so that a forged error ends no connection.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "controlplane/net/outer_error.h"
#include "controlplane/reconcile/control_state.h"
#include "dataplane/core/config_view.h"
#include "dataplane/core/nanoseconds.h"

namespace millrace::control {

class PathMtus {
 public:
  // Then the way is tried anew, since it may have become wider (RFC 1191 section 6.3; as Linux's
  // mtu_expires).
  static constexpr std::uint64_t kLifetimeNs = 600 * kSecondNs;

  struct Sources {
    const ControlState& state;
    const core::ConfigView& in_force;
    std::uint16_t route_mtu;  // of the kernel's route to the error's destination; 0: not known
  };
  // Names of the groups for whose targets that is news: all ipip and gue groups with the address,
  // whichever of them the error quotes a packet of.
  [[nodiscard]] std::set<std::string> learn(const OuterError& error, const Sources& sources,
                                            std::uint64_t now_ns);
  // Likewise for what has become too old.
  [[nodiscard]] std::set<std::string> forget_old(const ControlState& state, std::uint64_t now_ns);
  [[nodiscard]] bool knows(const IpAddress& target) const { return known_.contains(target); }

  // The MTU of the way to a target of `group`, where the route says `route_mtu`; 0: not known. For
  // the engine.
  [[nodiscard]] std::uint16_t towards(const IpAddress& target, const GroupState& group,
                                      std::uint16_t route_mtu) const;
  // Likewise, also when it is too small to be taken for true. For the operator.
  [[nodiscard]] std::uint16_t told_towards(const IpAddress& target, const GroupState& group,
                                           std::uint16_t route_mtu) const;

 private:
  struct Known {
    std::uint16_t mtu = 0;
    std::uint64_t learned_ns = 0;
  };
  std::map<IpAddress, Known> known_;  // by the target's address
};

// The MTU that the way to a target of an ipip or gue group needs at least: that of the smallest
// packets that senders go down to when they are told, and the outer headers.
[[nodiscard]] std::uint32_t smallest_mtu_towards(const IpAddress& target, const GroupState& group);

}  // namespace millrace::control
