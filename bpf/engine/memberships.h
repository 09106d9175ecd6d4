// SPDX-License-Identifier: Apache-2.0
//
// Membership of the multicast groups by which neighbours ask for IPv6 VIPs. Cold.
//
// A switch that snoops on MLD (RFC 4541; most do) delivers a neighbour solicitation only where
// somebody reported its group. The kernel reports for the addresses of an interface, and a group
// may be such an address (IFA_F_MCAUTOJOIN, `ip address add ... autojoin`): that outlives the
// daemon, as forwarding does. What is there is read from the kernel, so that a daemon knows what
// the one before it joined.
//
// `ip link set NIC down` takes the addresses and leaves the kernel's membership, which nothing can
// end then but the end of the interface: a few solicitations more are delivered.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "bpf/engine/nics.h"
#include "dataplane/core/announcements.h"
#include "dataplane/os/file.h"

namespace millrace::xdp {

class Memberships {
 public:
  [[nodiscard]] static Result<Memberships> open(const std::vector<Nic>& nics);

  // Makes the groups of the VIPs of `view` the wanted ones, from the next run() on.
  void adopt(const core::ConfigView& view);

  // Joins what is wanted and leaves what is not. Does something after adopt() and otherwise every
  // few seconds, for interfaces that were down; call it more often. Returns what cannot be joined
  // and why, "" when nothing changed in that. Needs CAP_NET_ADMIN.
  [[nodiscard]] std::string run(std::uint64_t now_ns);

  // For what run() says: somebody renamed the nic.
  void rename(std::size_t nic, const std::string& name) { nics_[nic].name = name; }

  // Leaves all of them on an interface.
  void leave_all(std::uint32_t ifindex);

 private:
  using Groups = std::set<core::Ipv6Group>;

  Memberships(const std::vector<Nic>& nics, os::File socket)
      : nics_(nics), socket_(std::move(socket)) {}
  [[nodiscard]] Result<std::map<std::uint32_t, Groups>> read();
  // The kernel's answer: 0 or an errno.
  [[nodiscard]] int change(std::uint16_t type, std::uint32_t ifindex, const core::Ipv6Group& group);
  [[nodiscard]] std::string bring_about(const Nic& nic, const Groups& has);

  std::vector<Nic> nics_;
  std::set<std::uint32_t> vlans_;  // interfaces, by the kernel's numbers
  os::File socket_;
  Groups wanted_;
  bool is_adopted_ = false;  // before the first config nothing is left: it may be the same
  std::string told_;
  std::uint64_t due_ns_ = 0;
  std::uint32_t sequence_ = 0;
};

}  // namespace millrace::xdp
