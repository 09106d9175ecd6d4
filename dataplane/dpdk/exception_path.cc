// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/exception_path.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <rte_mbuf.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>

#include "dataplane/dpdk/mbuf_pool.h"

namespace millrace::dpdk {

namespace {

ifreq request_for(const std::string& twin) {
  ifreq request{};
  twin.copy(request.ifr_name, IFNAMSIZ - 1);
  return request;
}

std::string reason() { return std::generic_category().message(errno); }

// A TAP that was created with several queues can only be opened as such; nothing else differs.
bool attach(int fd, const std::string& twin) {
  ifreq request = request_for(twin);
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (::ioctl(fd, TUNSETIFF, &request) == 0) return true;
  if (errno != EINVAL) return false;
  request = request_for(twin);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE;
  return ::ioctl(fd, TUNSETIFF, &request) == 0;
}

Status set_mac(int tap_fd, const std::string& twin, const core::MacAddr& mac) {
  ifreq request = request_for(twin);
  if (::ioctl(tap_fd, SIOCGIFHWADDR, &request) != 0)
    return Error{"cannot read its MAC: " + reason()};
  if (std::memcmp(request.ifr_hwaddr.sa_data, mac.bytes.data(), mac.bytes.size()) == 0) return ok();
  request = request_for(twin);
  request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
  std::memcpy(request.ifr_hwaddr.sa_data, mac.bytes.data(), mac.bytes.size());
  if (::ioctl(tap_fd, SIOCSIFHWADDR, &request) == 0) return ok();
  return Error{"cannot give it the MAC of its nic: " + reason()};
}

Status attach_and_set_up(int fd, const std::string& twin, const core::MacAddr& mac) {
  if (!attach(fd, twin)) {
    if (errno == EBUSY) return Error{"in use by another process"};
    if (errno == EINVAL) return Error{"exists, but is no TAP interface"};
    return Error{"cannot attach to it: " + reason()};
  }
  return set_mac(fd, twin, mac);
}

}  // namespace

Result<ExceptionPath> ExceptionPath::open(const std::string& twin, std::uint8_t nic,
                                          const core::MacAddr& mac) {
  const std::string place = "twin " + twin;
  if (twin.empty() || twin.size() >= IFNAMSIZ) {
    return Error{place + ": an interface name has 1 to " + std::to_string(IFNAMSIZ - 1) +
                 " characters"};
  }
  // TUNSETIFF would make a new one: without addresses, and gone with the process.
  if (::if_nametoindex(twin.c_str()) == 0) {
    return Error{place +
                 ": no such interface in this network namespace; make it with: host-setup twin " +
                 twin + " NIC"};
  }
  const int fd = ::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return Error{place + ": cannot open /dev/net/tun: " + reason()};
  ExceptionPath path{fd, nic};
  if (Status up = attach_and_set_up(fd, twin, mac); !up) return up.error().within(place);
  return path;
}

ExceptionPath::~ExceptionPath() {
  if (fd_ >= 0) (void)::close(fd_);  // nothing is buffered that could be lost
}

std::string ExceptionPath::name() const {
  ifreq request{};
  return ::ioctl(fd_, TUNGETIFF, &request) == 0 ? request.ifr_name : "";
}

Status ExceptionPath::set_mac(const std::string& twin, const core::MacAddr& mac) const {
  Status set = dpdk::set_mac(fd_, twin, mac);
  return set ? ok() : Status(set.error().within("twin " + twin));
}

void ExceptionPath::set_carrier(bool is_up) const noexcept {
  int carrier = is_up ? 1 : 0;
  (void)::ioctl(fd_, TUNSETCARRIER, &carrier);  // Linux 5.0
}

bool ExceptionPath::punt(const core::Packet& packet) const noexcept {
  return ::write(fd_, packet.data, packet.length) == static_cast<ssize_t>(packet.length);
}

rte_mbuf* ExceptionPath::receive(const MbufPool& pool, std::uint32_t& too_long) const noexcept {
  rte_mbuf* mbuf = pool.take(nic_);
  if (mbuf == nullptr) return nullptr;
  const ssize_t room = ::rte_pktmbuf_tailroom(mbuf);
  const ssize_t bytes = ::read(fd_, rte_pktmbuf_mtod(mbuf, void*), static_cast<std::size_t>(room));
  const bool is_cut_off = bytes == room;
  if (is_cut_off) ++too_long;
  if (bytes <= 0 || is_cut_off) {
    ::rte_pktmbuf_free(mbuf);
    return nullptr;
  }
  mbuf->data_len = static_cast<std::uint16_t>(bytes);
  mbuf->pkt_len = mbuf->data_len;
  return mbuf;
}

}  // namespace millrace::dpdk
