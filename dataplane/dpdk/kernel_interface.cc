// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/kernel_interface.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>

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

}  // namespace millrace::dpdk
