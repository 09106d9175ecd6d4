// SPDX-License-Identifier: Apache-2.0
#include "bpf/engine/attach_error.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <string>

#include "dataplane/shm/file.h"

namespace millrace::xdp {

namespace {

// The kernel's own, without a name in errno.h: "operation is not supported".
constexpr int kENotSupp = 524;

// Empty when it is gone, and for a daemon that has given up CAP_SYS_ADMIN.
std::string name_of_program(std::uint32_t id) {
  const shm::File program(::bpf_prog_get_fd_by_id(id));
  bpf_prog_info info{};
  std::uint32_t bytes = sizeof(info);
  if (!program.is_open() || ::bpf_obj_get_info_by_fd(program.fd(), &info, &bytes) != 0) return "";
  return info.name;
}

std::string remedy(const Nic& nic, const std::string& program) {
  if (program == "xdp_dispatcher") return "it is libxdp's: --chain joins the programs behind it";
  return "ip link set dev " + nic.name + " xdp off removes what the DPDK engine leaves";
}

}  // namespace

Error attach_error(const Nic& nic, Mode mode, int error) {
  bpf_xdp_query_opts query{};
  query.sz = sizeof(query);
  if ((error == EBUSY || error == EEXIST) &&
      ::bpf_xdp_query(static_cast<int>(nic.ifindex), 0, &query) == 0 && query.prog_id != 0) {
    const std::string name = name_of_program(query.prog_id);
    const std::string which =
        name.empty() ? "another XDP program" : "the XDP program '" + name + "'";
    return Error{nic.name + ": " + which + " (id " + std::to_string(query.prog_id) +
                 ") is attached already, and an interface takes one (" + remedy(nic, name) + ")"};
  }
  if (mode == Mode::native && (error == EOPNOTSUPP || error == kENotSupp)) {
    return Error{nic.name +
                 ": its driver has no native XDP; --mode generic works with any, but slowly"};
  }
  if (error == EPERM)
    return Error{nic.name + ": attaching needs CAP_NET_ADMIN and CAP_BPF, or root"};
  errno = error;
  return shm::os_error(
      nic.name + ": its driver refused the program (its MTU of " + std::to_string(nic.mtu) +
      " may be too large for XDP, or too few queues be left); --mode generic works "
      "with any, but slowly");
}

}  // namespace millrace::xdp
