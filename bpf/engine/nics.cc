// SPDX-License-Identifier: Apache-2.0
#include "bpf/engine/nics.h"

#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "bpf/engine/driver_statistics.h"
#include "dataplane/os/file.h"
#include "dataplane/os/interface.h"

namespace millrace::xdp {

namespace {

// Asks the kernel about one interface (netdevice(7)); false when it has none of that name.
bool ask(const std::string& name, unsigned long request, ifreq& answer) {
  answer = {};
  name.copy(answer.ifr_name, sizeof(answer.ifr_name) - 1);
  const os::File socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  return socket.is_open() && ::ioctl(socket.fd(), request, &answer) == 0;
}

std::uint64_t statistic(const Nic& nic, const std::string& name) {
  std::uint64_t count = 0;  // stays, when the interface is gone
  std::ifstream("/sys/class/net/" + nic.name + "/statistics/" + name) >> count;
  return count;
}

}  // namespace

Result<Nic> find_nic(const std::string& name) {
  ifreq answer{};
  if (name.size() >= sizeof(answer.ifr_name) || !ask(name, SIOCGIFINDEX, answer)) {
    return Error{"--interface " + name + ": no such interface (ip link shows those that exist)"};
  }
  Nic nic;
  nic.name = name;
  nic.ifindex = static_cast<std::uint32_t>(answer.ifr_ifindex);
  if (Status usable = os::check_interface(name); !usable) {
    return usable.error().within("--interface");
  }
  const Result<core::MacAddr> mac = os::mac_of_interface(name);
  if (!mac) return mac.error().within("--interface");
  nic.mac = *mac;
  if (!ask(name, SIOCGIFMTU, answer)) return Error{"--interface " + name + ": has no MTU"};
  nic.mtu = static_cast<std::uint32_t>(answer.ifr_mtu);
  return nic;
}

void count_drops(const Nic& nic, mr_nic& shown) {
  shown.rx_missed = statistic(nic, "rx_missed_errors");
  shown.rx_errors = statistic(nic, "rx_errors");
  // Some drivers count XDP's sends among the interface's, too: of the two the larger one holds.
  shown.tx_dropped = std::max(statistic(nic, "tx_dropped") + statistic(nic, "tx_errors"),
                              lost_sends(driver_statistics(nic.name)));
}

std::string cause_of_lost_sends(const Nic& nic) {
  if (driver_of(nic.name) != "veth") return "ethtool --statistics " + nic.name + " says why";
  return "a veth does so when its other end has no XDP program, or does not keep up";
}

std::vector<std::uint32_t> bond_members(const Nic& nic) {
  std::vector<std::uint32_t> found;
  std::ifstream names("/sys/class/net/" + nic.name + "/bonding/slaves");
  for (std::string name; names >> name;) {
    if (const std::uint32_t ifindex = ::if_nametoindex(name.c_str())) found.push_back(ifindex);
  }
  return found;
}

std::string interface_text(std::uint32_t ifindex) {
  const std::string name = os::name_of_interface(ifindex);
  return "interface " + (name.empty() ? std::to_string(ifindex) + " (gone)" : name);
}

bool follow_name(Nic& nic) {
  const std::string name = os::name_of_interface(nic.ifindex);
  if (name.empty() || name == nic.name) return false;
  nic.name = name;
  return true;
}

bool is_gone(const Nic& nic) { return os::name_of_interface(nic.ifindex).empty(); }

bool link_is_up(const Nic& nic) {
  // By the name that it has this moment: another one is no reason to call it down.
  const std::string name = os::name_of_interface(nic.ifindex);
  ifreq answer{};
  return !name.empty() && ask(name, SIOCGIFFLAGS, answer) && (answer.ifr_flags & IFF_RUNNING) != 0;
}

bool note_links(const std::vector<Nic>& nics, std::vector<bool>& links_up) {
  links_up.resize(nics.size(), true);
  bool has_changed = false;
  for (std::size_t i = 0; i < nics.size(); ++i) {
    const bool is_up = link_is_up(nics[i]);
    has_changed = has_changed || is_up != links_up[i];
    links_up[i] = is_up;
  }
  return has_changed;
}

}  // namespace millrace::xdp
