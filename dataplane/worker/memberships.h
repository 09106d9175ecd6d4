// SPDX-License-Identifier: Apache-2.0
//
// Membership of the multicast groups by which neighbours ask for IPv6 VIPs. Cold; the engine's main
// thread.
//
// A switch that snoops on MLD (RFC 4541; most do) delivers a neighbour solicitation only where
// somebody reported its group. The kernel reports for sockets that joined: on the twin, whose
// frames go to the wire. It answers queries, and reports again when the twin comes up. Needs no
// privilege. What a socket may join is bounded (net.core.optmem_max), so there are several.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "dataplane/core/announcements.h"
#include "dataplane/os/file.h"

namespace millrace::worker {

class Memberships {
 public:
  // Kernel interfaces; one that does not exist, or has no IPv6 yet, is waited for.
  explicit Memberships(const std::vector<std::string>& interfaces);

  // The interface is called otherwise from here on. One that only got another name keeps them.
  void rename(std::size_t interface, const std::string& name) {
    interfaces_[interface].name = name;
  }

  // Makes the groups of the VIPs of `view` the wanted ones, from the next run() on.
  void adopt(const core::ConfigView& view);

  // Joins what is wanted and leaves what is not. Does something after adopt() and otherwise once a
  // second; call it more often. Returns what cannot be joined and why, "" when nothing changed in
  // that.
  [[nodiscard]] std::string run(std::uint64_t now_ns);

  // Leaves and joins all groups on the interface, and in all VLANs, with the next run(), which
  // makes the kernel report them anew: the switch behind the nic may be another one, or have
  // forgotten.
  void renew(std::size_t interface);

 private:
  struct Socket {
    os::File file;
    std::uint32_t count = 0;
  };
  struct Interface {
    std::string name;
    std::uint32_t index = 0;  // 0: there is none at the moment
    std::vector<Socket> sockets;
    std::map<core::Ipv6Group, std::size_t> joined;  // by which socket
  };

  void follow(Interface& interface);
  void follow_vlans();
  [[nodiscard]] std::string bring_about(Interface& interface, const std::string& name);
  void leave_unwanted(Interface& interface);
  [[nodiscard]] bool join_wanted(Interface& interface);
  [[nodiscard]] bool join(Interface& interface, const core::Ipv6Group& group);

  std::vector<Interface> interfaces_;
  std::map<std::uint32_t, Interface> vlan_interfaces_;  // by the kernel's number
  std::set<std::uint32_t> vlans_;                       // those of the config
  std::set<core::Ipv6Group> wanted_;
  std::string told_;
  std::uint64_t due_ns_ = 0;
};

}  // namespace millrace::worker
