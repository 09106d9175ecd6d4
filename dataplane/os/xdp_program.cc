// SPDX-License-Identifier: Apache-2.0
#include "dataplane/os/xdp_program.h"

#include <linux/bpf.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "dataplane/os/file.h"

namespace millrace::os {

namespace {

int bpf(bpf_cmd command, bpf_attr& attributes) {
  return static_cast<int>(::syscall(SYS_bpf, command, &attributes, sizeof(attributes)));
}

File open_by_id(bpf_cmd command, std::uint32_t id) {
  bpf_attr attributes{};
  attributes.prog_id = id;  // of a link in the same place
  return File(bpf(command, attributes));
}

// All zeroes when the kernel does not say.
template <typename Info>
Info info_of(const File& object) {
  Info info{};
  bpf_attr attributes{};
  attributes.info.bpf_fd = static_cast<std::uint32_t>(object.fd());
  attributes.info.info_len = sizeof(info);
  attributes.info.info = reinterpret_cast<std::uint64_t>(&info);
  (void)bpf(BPF_OBJ_GET_INFO_BY_FD, attributes);
  return info;
}

// The BPF link by which the program is attached; 0: by none, or nobody tells us.
std::uint32_t link_of(std::uint32_t program_id) {
  bpf_attr attributes{};
  while (bpf(BPF_LINK_GET_NEXT_ID, attributes) == 0) {
    const std::uint32_t id = attributes.next_id;
    const File link = open_by_id(BPF_LINK_GET_FD_BY_ID, id);
    if (link.is_open()) {
      const auto info = info_of<bpf_link_info>(link);
      if (info.type == BPF_LINK_TYPE_XDP && info.prog_id == program_id) return id;
    }
    attributes = {};
    attributes.start_id = id;
  }
  return 0;
}

// `xdp off` leaves a program of generic mode where it is, and says nothing.
std::string remedy(const std::string& interface, std::uint32_t id, const std::string& name,
                   bool is_generic) {
  if (name == "nlb_xdp") return "it is the XDP engine's: millrace-xdp detach takes it off";
  const std::string off =
      "ip link set dev " + interface + (is_generic ? " xdpgeneric off" : " xdp off");
  if (name == "xdp_dispatcher") {
    return "it is libxdp's, for the programs that xdp-loader status " + interface +
           " shows: " + off + " takes all of them off, millrace-xdp --chain joins them";
  }
  if (name == "xsk_def_prog") return "it is AF_XDP's, as the DPDK engine leaves it: " + off;
  if (const std::uint32_t link = link_of(id); link != 0) {
    return "end the process that holds it by BPF link " + std::to_string(link) +
           ", or: bpftool link detach id " + std::to_string(link);
  }
  return off + " takes it off";
}

}  // namespace

std::string name_of_xdp_program(std::uint32_t id) {
  const File program = open_by_id(BPF_PROG_GET_FD_BY_ID, id);
  return program.is_open() ? info_of<bpf_prog_info>(program).name : "";
}

Error interface_has_program(const std::string& interface, std::uint32_t id, bool is_generic) {
  const std::string name = name_of_xdp_program(id);
  const std::string which = name.empty() ? "another XDP program" : "the XDP program '" + name + "'";
  return Error{interface + ": " + which + " (id " + std::to_string(id) +
               ") is attached already, and an interface takes one (" +
               remedy(interface, id, name, is_generic) + ")"};
}

}  // namespace millrace::os
