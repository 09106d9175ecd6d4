// SPDX-License-Identifier: Apache-2.0
#include "bpf/engine/attach_error.h"

#include <bpf/libbpf.h>
#include <linux/if_link.h>

#include <cerrno>
#include <string>

#include "dataplane/os/file.h"
#include "dataplane/os/xdp_program.h"

namespace millrace::xdp {

namespace {

// The kernel's own, without a name in errno.h: "operation is not supported".
constexpr int kENotSupp = 524;

}  // namespace

Error attach_error(const Nic& nic, Mode mode, int error) {
  bpf_xdp_query_opts query{};
  query.sz = sizeof(query);
  if ((error == EBUSY || error == EEXIST) &&
      ::bpf_xdp_query(static_cast<int>(nic.ifindex), 0, &query) == 0 && query.prog_id != 0) {
    return os::interface_has_program(nic.name, query.prog_id,
                                     query.attach_mode == XDP_ATTACHED_SKB);
  }
  if (mode == Mode::native && (error == EOPNOTSUPP || error == kENotSupp)) {
    return Error{nic.name +
                 ": its driver has no native XDP; --mode generic works with any, but slowly"};
  }
  if (error == EPERM)
    return Error{nic.name + ": attaching needs CAP_NET_ADMIN and CAP_BPF, or root"};
  errno = error;
  return os::os_error(nic.name + ": its driver refused the program (its MTU of " +
                      std::to_string(nic.mtu) +
                      " may be too large for XDP, or too few queues be left); --mode generic works "
                      "with any, but slowly");
}

}  // namespace millrace::xdp
