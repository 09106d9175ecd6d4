// SPDX-License-Identifier: Apache-2.0
//
// Tells the neighbours where VIPs are, on every nic: gratuitous ARP and unsolicited neighbour
// advertisements. Cold. ARP and neighbour discovery themselves are the program's.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bpf/engine/nics.h"
#include "dataplane/core/announcements.h"
#include "dataplane/os/file.h"

namespace millrace::xdp {

class Announcer {
 public:
  // Needs CAP_NET_RAW, once.
  [[nodiscard]] static Result<Announcer> open(std::vector<Nic> nics);

  void adopt(const core::ConfigView& view, std::uint64_t now_ns) {
    announcements_.adopt(view, now_ns);
  }
  // The nic has another MAC address: all VIPs are announced once more.
  void set_mac(std::size_t nic, const core::MacAddr& mac, std::uint64_t now_ns) {
    nics_[nic].mac = mac;
    announcements_.repeat(now_ns);
  }
  // Another switch may be behind a nic.
  void repeat(std::uint64_t now_ns) { announcements_.repeat(now_ns); }
  // Sends what is due; returns how many frames.
  std::uint32_t run(std::uint64_t now_ns);

 private:
  Announcer(std::vector<Nic> nics, os::File socket)
      : nics_(std::move(nics)), socket_(std::move(socket)) {}
  [[nodiscard]] std::uint32_t send(const mr_addr& vip) const;
  [[nodiscard]] bool send_by(const Nic& nic, std::span<const std::uint8_t> frame) const;

  std::vector<Nic> nics_;
  os::File socket_;
  core::Announcements announcements_;
};

}  // namespace millrace::xdp
