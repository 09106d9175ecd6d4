// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/kernel_interface.h"

#include <linux/ethtool.h>
#include <linux/if_xdp.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

namespace millrace::dpdk {

namespace {

// netdevice(7); false when there is no such interface, or nobody who answers.
bool ask(const std::string& interface, unsigned long what, ifreq& request) {
  if (interface.size() >= IFNAMSIZ) return false;
  interface.copy(request.ifr_name, IFNAMSIZ - 1);
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const bool is_answered = fd >= 0 && ::ioctl(fd, what, &request) == 0;
  if (fd >= 0) (void)::close(fd);
  return is_answered;
}

std::uint64_t less(std::uint64_t count, std::uint64_t known) {
  return count > known ? count - known : 0;
}

}  // namespace

std::uint32_t rx_queue_count(const std::string& interface) {
  std::error_code failure;  // leaves the iterator at its end
  std::uint32_t count = 0;
  const std::filesystem::path queues = "/sys/class/net/" + interface + "/queues";
  for (const auto& entry : std::filesystem::directory_iterator(queues, failure)) {
    if (entry.path().filename().string().rfind("rx-", 0) == 0) ++count;
  }
  return count;
}

std::string queue_command(const std::string& interface, std::uint32_t count) {
  ethtool_channels channels{};
  channels.cmd = ETHTOOL_GCHANNELS;
  ifreq request{};
  request.ifr_data = reinterpret_cast<char*>(&channels);
  const bool is_combined =
      ask(interface, SIOCETHTOOL, request) && channels.max_combined != 0;
  const std::string wanted = std::to_string(count);
  return "ethtool -L " + interface +
         (is_combined ? " combined " + wanted : " rx " + wanted + " tx " + wanted);
}

std::vector<int> af_xdp_sockets() {
  std::vector<int> found;
  std::error_code failure;  // leaves the iterator at its end
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", failure)) {
    const int fd = std::atoi(entry.path().filename().c_str());
    int domain = 0;
    socklen_t bytes = sizeof(domain);
    const bool is_socket = ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) == 0;
    if (is_socket && domain == AF_XDP) found.push_back(fd);
  }
  return found;
}

InterfaceDrops::InterfaceDrops(const std::string& interface, std::vector<int> sockets)
    : folder_("/sys/class/net/" + interface + "/statistics/"), sockets_(std::move(sockets)) {
  for (const Statistic statistic : {kRxMissed, kRxErrors, kRxDropped}) {
    before_[statistic] = read(statistic);
  }
}

// The kernel counts a frame that a socket could not take as dropped by the socket, and most drivers
// count it as dropped by the interface, too: of these two the larger one holds. What is left of it
// without a reason of its own was too long for a packet buffer, or for the interface.
void InterfaceDrops::count(mr_nic& shown) const {
  std::uint64_t ring_full = 0;
  std::uint64_t no_buffer = 0;
  std::uint64_t dropped = 0;  // with those for want of a buffer
  for (const int fd : sockets_) {
    xdp_statistics socket{};
    socklen_t bytes = sizeof(socket);
    if (::getsockopt(fd, SOL_XDP, XDP_STATISTICS, &socket, &bytes) != 0) continue;
    ring_full += socket.rx_ring_full;
    no_buffer += socket.rx_fill_ring_empty_descs;
    dropped += socket.rx_dropped;
  }
  const std::uint64_t too_long =
      std::max(less(dropped, no_buffer),
               less(less(read(kRxDropped), before_[kRxDropped]), ring_full + no_buffer));
  shown.rx_missed = ring_full + less(read(kRxMissed), before_[kRxMissed]);
  shown.rx_errors = too_long + less(read(kRxErrors), before_[kRxErrors]);
  shown.rx_no_buffer = no_buffer;
}

std::uint64_t InterfaceDrops::read(Statistic statistic) const {
  constexpr std::array<const char*, kStatisticCount> kFiles = {"rx_missed_errors", "rx_errors",
                                                               "rx_dropped"};
  std::uint64_t count = 0;  // stays, when the interface is gone
  std::ifstream(folder_ + kFiles[statistic]) >> count;
  return count;
}

}  // namespace millrace::dpdk
