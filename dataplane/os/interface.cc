// SPDX-License-Identifier: Apache-2.0
#include "dataplane/os/interface.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "dataplane/os/file.h"

namespace millrace::os {
namespace {

File open_any_socket() { return File(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)); }

ifreq request_for(const std::string& name) {
  ifreq request{};
  name.copy(request.ifr_name, sizeof(request.ifr_name) - 1);
  return request;
}

// ETHTOOL_GFLAGS or ETHTOOL_SFLAGS; false when the interface knows nothing of it or refuses.
bool exchange_flags(const std::string& name, std::uint32_t command, std::uint32_t& flags) {
  const File socket = open_any_socket();
  ethtool_value value{.cmd = command, .data = flags};
  ifreq request = request_for(name);
  request.ifr_data = reinterpret_cast<char*>(&value);
  if (::ioctl(socket.fd(), SIOCETHTOOL, &request) != 0) return false;
  if (command == ETHTOOL_GFLAGS) flags = value.data;
  return true;
}

bool strips_tags(const std::string& name) {
  std::uint32_t flags = 0;
  return exchange_flags(name, ETHTOOL_GFLAGS, flags) && (flags & ETH_FLAG_RXVLAN) != 0;
}

// Some drivers can do without only together with what inserts tags.
bool stop_stripping(const std::string& name) {
  constexpr std::uint32_t kRx = ETH_FLAG_RXVLAN;
  for (const std::uint32_t unwanted : {kRx, kRx | ETH_FLAG_TXVLAN}) {
    std::uint32_t flags = 0;
    if (!exchange_flags(name, ETHTOOL_GFLAGS, flags)) return true;
    flags &= ~unwanted;
    (void)exchange_flags(name, ETHTOOL_SFLAGS, flags);  // what it led to is asked for below
    if (!strips_tags(name)) return true;
  }
  return false;
}

// The interface, and the ports of a bond: what they take off, the bond never sees.
std::vector<std::string> receivers_of(const std::string& name) {
  std::vector<std::string> names = {name};
  const std::filesystem::path own = "/sys/class/net/" + name;
  std::error_code failure;  // leaves the iterator at its end
  if (!std::filesystem::exists(own / "bonding", failure)) return names;
  for (const auto& entry : std::filesystem::directory_iterator(own, failure)) {
    const std::string file = entry.path().filename().string();
    if (file.rfind("lower_", 0) == 0) names.push_back(file.substr(6));
  }
  return names;
}

}  // namespace

Status check_interface(const std::string& name) {
  const unsigned index = name.size() < IFNAMSIZ ? ::if_nametoindex(name.c_str()) : 0;
  if (index == 0) {
    return Error{(name.empty() ? "''" : name) +
                 ": no such interface in this network namespace (ip link show)"};
  }
  // The kernel's routes and neighbours know interfaces by their names alone.
  const std::string own = name_of_interface(index);
  if (!own.empty() && name != own) {
    return Error{name + ": is an alternative name of " + own + "; give that one"};
  }
  const Result<core::MacAddr> mac = mac_of_interface(name);
  return mac ? ok() : Status(mac.error());
}

std::string name_of_interface(std::uint32_t index) {
  std::array<char, IFNAMSIZ> name{};
  return ::if_indextoname(index, name.data()) != nullptr ? name.data() : "";
}

Result<core::MacAddr> mac_of_interface(const std::string& name) {
  const File socket = open_any_socket();
  ifreq request = request_for(name);
  if (::ioctl(socket.fd(), SIOCGIFHWADDR, &request) != 0) {
    return os_error(name + ": cannot read its MAC address");
  }
  if (request.ifr_hwaddr.sa_family != ARPHRD_ETHER) {
    return Error{name + ": is no Ethernet interface"};
  }
  core::MacAddr mac;
  std::memcpy(mac.bytes.data(), request.ifr_hwaddr.sa_data, mac.bytes.size());
  return mac;
}

Result<std::vector<std::string>> keep_vlan_tags(const std::string& name) {
  std::vector<std::string> changed;
  for (const std::string& receiver : receivers_of(name)) {
    if (!strips_tags(receiver)) continue;
    if (!stop_stripping(receiver)) {
      return Error{receiver + ": takes VLAN tags off and does not stop it (ethtool --offload " +
                   receiver +
                   " rxvlan off): packets of all VLANs would be balanced as untagged ones"};
    }
    changed.push_back(receiver);
  }
  return changed;
}

}  // namespace millrace::os
