// SPDX-License-Identifier: Apache-2.0
#include "dataplane/worker/memberships.h"

#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>
#include <utility>

#include "dataplane/core/counted.h"
#include "dataplane/core/nanoseconds.h"

namespace millrace::worker {
namespace {

constexpr std::uint64_t kCheckNs = kSecondNs;
// Well below what the kernel's default of net.core.optmem_max allows (20 KiB, 56 bytes each).
constexpr std::uint32_t kGroupsPerSocket = 256;

bool change(int fd, int option, std::uint32_t index, const core::Ipv6Group& group) {
  ipv6_mreq request{};
  std::memcpy(&request.ipv6mr_multiaddr, group.data(), group.size());
  request.ipv6mr_interface = index;
  return ::setsockopt(fd, IPPROTO_IPV6, option, &request, sizeof(request)) == 0;
}

}  // namespace

Memberships::Memberships(const std::vector<std::string>& interfaces) {
  for (const std::string& name : interfaces) {
    interfaces_.emplace_back();
    interfaces_.back().name = name;
  }
}

void Memberships::adopt(const core::ConfigView& view) {
  std::set<core::Ipv6Group> wanted = core::solicited_node_groups(view);
  std::set<std::uint32_t> vlans;
  for (const mr_vlan& vlan : core::present_vlans(view)) vlans.insert(vlan.link_index);
  if (wanted == wanted_ && vlans == vlans_) return;
  wanted_ = std::move(wanted);
  vlans_ = std::move(vlans);
  follow_vlans();
  due_ns_ = 0;
}

void Memberships::renew(std::size_t interface) {
  interfaces_[interface].index = 0;
  vlan_interfaces_.clear();
  follow_vlans();
  due_ns_ = 0;
}

std::string Memberships::run(std::uint64_t now_ns) {
  if (now_ns < due_ns_) return "";
  due_ns_ = now_ns + kCheckNs;
  std::string problem;
  for (Interface& interface : interfaces_) {
    if (interface.name.empty()) continue;  // a nic without a twin
    follow(interface);
    if (std::string told = bring_about(interface, interface.name); !told.empty()) problem = told;
  }
  for (auto& [index, interface] : vlan_interfaces_) {
    std::array<char, IF_NAMESIZE> name{};
    if (::if_indextoname(index, name.data()) == nullptr) continue;  // the next config lacks it
    if (std::string told = bring_about(interface, name.data()); !told.empty()) problem = told;
  }
  if (problem == told_) return "";
  told_ = problem;
  return problem;
}

std::string Memberships::bring_about(Interface& interface, const std::string& name) {
  leave_unwanted(interface);
  if (join_wanted(interface)) return "";
  return name + ": " + core::counted(wanted_.size() - interface.joined.size(), "multicast group") +
         " of IPv6 VIPs cannot be joined (" + std::generic_category().message(errno) +
         "): switches that snoop on MLD do not deliver solicitations for them";
}

// Those that are gone take their sockets with them, which leaves the groups.
void Memberships::follow_vlans() {
  std::erase_if(vlan_interfaces_, [&](const auto& one) { return !vlans_.contains(one.first); });
  for (const std::uint32_t index : vlans_) vlan_interfaces_[index].index = index;
}

// Memberships go with the interface; one of the same name is another one.
void Memberships::follow(Interface& interface) {
  const std::uint32_t index = ::if_nametoindex(interface.name.c_str());
  if (index == interface.index) return;
  interface.index = index;
  interface.joined.clear();
  interface.sockets.clear();
}

void Memberships::leave_unwanted(Interface& interface) {
  for (auto entry = interface.joined.begin(); entry != interface.joined.end();) {
    const auto& [group, socket] = *entry;
    if (wanted_.contains(group)) {
      ++entry;
      continue;
    }
    Socket& joined_by = interface.sockets[socket];
    // An error means that the interface lost it already.
    (void)change(joined_by.file.fd(), IPV6_LEAVE_GROUP, interface.index, group);
    --joined_by.count;
    entry = interface.joined.erase(entry);
  }
}

// False with errno set when some could not be joined.
bool Memberships::join_wanted(Interface& interface) {
  if (interface.index == 0) {
    errno = ENODEV;
    return wanted_.empty();
  }
  for (const core::Ipv6Group& group : wanted_) {
    if (!interface.joined.contains(group) && !join(interface, group)) return false;
  }
  return true;
}

bool Memberships::join(Interface& interface, const core::Ipv6Group& group) {
  std::size_t at = 0;
  while (at < interface.sockets.size() && interface.sockets[at].count >= kGroupsPerSocket) ++at;
  if (at == interface.sockets.size()) {
    os::File file(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!file.is_open()) return false;
    interface.sockets.push_back({.file = std::move(file), .count = 0});
  }
  Socket& socket = interface.sockets[at];
  if (!change(socket.file.fd(), IPV6_JOIN_GROUP, interface.index, group)) return false;
  ++socket.count;
  interface.joined.emplace(group, at);
  return true;
}

}  // namespace millrace::worker
