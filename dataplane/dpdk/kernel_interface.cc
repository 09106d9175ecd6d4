// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/kernel_interface.h"

#include <linux/ethtool.h>
#include <linux/if_link.h>
#include <linux/if_xdp.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <system_error>
#include <utility>

namespace millrace::dpdk {

namespace {

// netdevice(7); false when there is no such interface, or nobody who answers.
bool ask(const std::string& interface, unsigned long what, ifreq& request) {
  if (interface.size() >= IFNAMSIZ) return false;
  interface.copy(request.ifr_name, IFNAMSIZ - 1);
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const int status = ::ioctl(fd, what, &request);
  const int reason = errno;
  (void)::close(fd);
  errno = reason;
  return status == 0;
}

// ethtool's channels that receive and send; 0 for a driver that has none, or does not say.
std::uint32_t combined_channels_max(const std::string& interface) {
  ethtool_channels channels{};
  channels.cmd = ETHTOOL_GCHANNELS;
  ifreq request{};
  request.ifr_data = reinterpret_cast<char*>(&channels);
  return ask(interface, SIOCETHTOOL, request) ? channels.max_combined : 0;
}

// What an attribute among others holds (netlink(7)).
std::optional<std::string_view> find_attribute(std::string_view attributes, std::uint16_t type) {
  while (attributes.size() >= sizeof(nlattr)) {
    nlattr attribute;
    std::memcpy(&attribute, attributes.data(), sizeof(attribute));
    if (attribute.nla_len < sizeof(nlattr) || attribute.nla_len > attributes.size()) break;
    if ((attribute.nla_type & NLA_TYPE_MASK) == type) {
      return attributes.substr(sizeof(nlattr), attribute.nla_len - sizeof(nlattr));
    }
    attributes.remove_prefix(
        std::min<std::size_t>(NLA_ALIGN(attribute.nla_len), attributes.size()));
  }
  return std::nullopt;
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

std::uint32_t rx_queue_count_with_xdp(const std::string& interface) {
  const std::uint32_t now = rx_queue_count(interface);
  std::error_code failure;  // a device without a driver
  const std::filesystem::path driver =
      std::filesystem::read_symlink("/sys/class/net/" + interface + "/device/driver", failure);
  if (driver.filename() != "virtio_net" || xdp_program(interface).value_or(XdpProgram{}).id != 0)
    return now;
  const auto with_xdp = now + static_cast<std::uint32_t>(::sysconf(_SC_NPROCESSORS_CONF));
  return with_xdp <= combined_channels_max(interface) ? with_xdp : now;
}

std::string queue_command(const std::string& interface, std::uint32_t count) {
  const bool is_combined = combined_channels_max(interface) != 0;
  const std::string wanted = std::to_string(count);
  return "ethtool -L " + interface +
         (is_combined ? " combined " + wanted : " rx " + wanted + " tx " + wanted);
}

std::string why_no_af_xdp(const std::string& interface) {
  std::error_code failure;  // what cannot be asked for is no bond
  const std::filesystem::path folder = "/sys/class/net/" + interface;
  const char* remedy =
      "; set node.engine: xdp and start millrace-xdp with the bond, or give this engine its NICs "
      "by "
      "their PCI addresses: --nic bond:ADDRESS,ADDRESS";
  if (std::filesystem::exists(folder / "bonding", failure)) {
    return std::string("is a bond, of which AF_XDP gets no frames") + remedy;
  }
  if (std::filesystem::exists(folder / "bonding_slave", failure)) {
    return std::string("is a bond's, which would get no frames any more") + remedy;
  }
  return "";
}

std::uint32_t mtu_of(const std::string& interface) {
  ifreq request{};
  return ask(interface, SIOCGIFMTU, request) ? static_cast<std::uint32_t>(request.ifr_mtu) : 0;
}

Status set_mtu(const std::string& interface, std::uint32_t mtu) {
  ifreq request{};
  request.ifr_mtu = static_cast<int>(mtu);
  if (ask(interface, SIOCSIFMTU, request)) return ok();
  return Error{interface + ": cannot change its MTU from " + std::to_string(mtu_of(interface)) +
               " to " + std::to_string(mtu) + ": " + std::generic_category().message(errno)};
}

std::optional<XdpProgram> xdp_program(const std::string& interface) {
  struct {
    nlmsghdr header;
    ifinfomsg link;
  } request{};
  request.header = {.nlmsg_len = sizeof(request),
                    .nlmsg_type = RTM_GETLINK,
                    .nlmsg_flags = NLM_F_REQUEST,
                    .nlmsg_seq = 1,
                    .nlmsg_pid = 0};
  request.link.ifi_index = static_cast<int>(::if_nametoindex(interface.c_str()));
  const int fd = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) return std::nullopt;
  alignas(nlmsghdr) std::array<char, 32768> answer;
  ssize_t bytes = ::send(fd, &request, sizeof(request), 0);
  if (bytes > 0) bytes = ::recv(fd, answer.data(), answer.size(), 0);
  (void)::close(fd);
  const auto* header = reinterpret_cast<const nlmsghdr*>(answer.data());
  const auto size = static_cast<std::uint32_t>(std::max<ssize_t>(bytes, 0));
  if (!NLMSG_OK(header, size) || header->nlmsg_type != RTM_NEWLINK) return std::nullopt;

  const std::string_view link(answer.data(), std::min(size, header->nlmsg_len));
  const auto xdp = find_attribute(link.substr(NLMSG_SPACE(sizeof(ifinfomsg))), IFLA_XDP);
  const auto id = xdp ? find_attribute(*xdp, IFLA_XDP_PROG_ID) : std::nullopt;
  const auto mode = xdp ? find_attribute(*xdp, IFLA_XDP_ATTACHED) : std::nullopt;
  XdpProgram found;
  if (id && id->size() == sizeof(found.id)) std::memcpy(&found.id, id->data(), sizeof(found.id));
  found.is_generic = mode && !mode->empty() && mode->front() == XDP_ATTACHED_SKB;
  return found;
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

bool lost_interface(std::span<const int> sockets) {
  return std::ranges::any_of(sockets, [](int fd) {
    int error = 0;
    socklen_t bytes = sizeof(error);
    return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes) == 0 && error == ENETDOWN;
  });
}

InterfaceDrops::InterfaceDrops(const std::string& interface, std::vector<int> sockets)
    : sockets_(std::move(sockets)) {
  rename(interface);
  for (const Statistic statistic : {kRxMissed, kRxErrors, kRxDropped, kTxErrors, kTxDropped}) {
    before_[statistic] = read(statistic);
  }
}

void InterfaceDrops::rename(const std::string& interface) {
  folder_ = "/sys/class/net/" + interface + "/statistics/";
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
  shown.tx_dropped =
      less(read(kTxErrors), before_[kTxErrors]) + less(read(kTxDropped), before_[kTxDropped]);
}

std::uint64_t InterfaceDrops::read(Statistic statistic) const {
  constexpr std::array<const char*, kStatisticCount> kFiles = {
      "rx_missed_errors", "rx_errors", "rx_dropped", "tx_errors", "tx_dropped"};
  std::uint64_t count = 0;  // stays, when the interface is gone
  std::ifstream(folder_ + kFiles[statistic]) >> count;
  return count;
}

}  // namespace millrace::dpdk
