// SPDX-License-Identifier: Apache-2.0
//
// What DPDK and the libraries of its AF_XDP driver (libxdp, libbpf) have to say, which they would
// print by themselves: it goes to our log. Most of it is for developers, and looks like faults that
// are none. So at --log-level debug all of it is shown, and otherwise what DPDK warns of while the
// engine runs. Why a start failed, our own errors say, with the last line that DPDK had. Cold.
#pragma once

#include <string>

namespace millrace::dpdk {

class LibraryLog {
 public:
  // One per process, as DPDK's own is.
  static LibraryLog& instance();

  // Before rte_eal_init(): DPDK's lines come here.
  void attach_to_dpdk();
  // Once DPDK's drivers are loaded: those of libbpf and libxdp, too, if a driver brought them.
  static void attach_to_xdp_libraries();
  // From now on a warning is one, since the start is over.
  void begin_to_warn() { warns_ = true; }

  // The reason of a failure of DPDK that has just happened.
  [[nodiscard]] const std::string& last_line() const { return last_; }

 private:
  void take(std::string text);

  bool is_attached_ = false;
  bool warns_ = false;
  std::string last_;
};

}  // namespace millrace::dpdk
