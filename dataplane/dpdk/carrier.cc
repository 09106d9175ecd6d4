// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/carrier.h"

#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

namespace millrace::dpdk {

bool interface_has_link(const std::string& interface) {
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return true;  // out of descriptors: no reason to blame the link
  ifreq request{};
  interface.copy(request.ifr_name, IFNAMSIZ - 1);
  const bool is_known = ::ioctl(fd, SIOCGIFFLAGS, &request) == 0;
  (void)::close(fd);  // nothing was written
  return is_known && (request.ifr_flags & IFF_RUNNING) != 0;
}

}  // namespace millrace::dpdk
