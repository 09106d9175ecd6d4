// SPDX-License-Identifier: Apache-2.0
//
// The exception path: frames to and from the kernel twin of a nic, a persistent TAP interface that
// carries the node's own addresses and routes. Punting costs the worker about 0.9 us per frame, an
// empty read 0.26 us (2.6 GHz Zen 4), so worker 0 reads in housekeeping and not every turn.
//
// This opens /dev/net/tun itself instead of using DPDK's TAP driver, because that one (22.11,
// measured) sets the interface down when it stops, whereupon the kernel deletes its IPv6 addresses
// and all its routes; it refuses a TAP that was not created multi_queue; and it wants qdiscs
// (multiq, ingress) that a kernel may not have. Ours leaves addresses and routes alone, however the
// process ends; without a reader the interface merely loses its carrier.
#pragma once

#include <cstdint>
#include <string>

#include "dataplane/core/forwarder.h"
#include "dataplane/core/packet.h"
#include "dataplane/core/result.h"
#include "dataplane/dpdk/mbuf.h"

namespace millrace::dpdk {

class MbufPool;

class ExceptionPath {
 public:
  // Attaches to the existing TAP interface `twin` and gives it the nic's `mac` if it has another
  // one: neighbours must see one machine, whether the engine or the kernel answers them. Errors: no
  // such interface (with the command that makes it), no TAP, in use by another process.
  [[nodiscard]] static Result<ExceptionPath> open(const std::string& twin, std::uint8_t nic,
                                                  const core::MacAddr& mac);

  ExceptionPath(ExceptionPath&& other) noexcept : fd_(other.fd_), nic_(other.nic_) {
    other.fd_ = -1;
  }
  ExceptionPath& operator=(ExceptionPath&&) = delete;
  ExceptionPath(const ExceptionPath&) = delete;
  ExceptionPath& operator=(const ExceptionPath&) = delete;
  ~ExceptionPath();

  // What the interface is called now, whatever it was when it was opened; "" when somebody deleted
  // it.
  [[nodiscard]] std::string name() const;

  // Gives the interface, now named `twin`, another MAC address: the nic's has changed. Needs no
  // privilege on an open TAP.
  [[nodiscard]] Status set_mac(const std::string& twin, const core::MacAddr& mac) const;

  // Gives the twin the carrier that its nic has, so that the kernel and whoever listens to it (BGP,
  // bonds) see what they would see of the nic. A kernel that cannot leaves the twin as it is.
  void set_carrier(bool is_up) const noexcept;

  // Hands one frame to the kernel, which copies it. Any worker, at the same time as others. False
  // when the kernel does not take it: the twin is down or out of memory.
  [[nodiscard]] bool punt(const core::Packet& packet) const noexcept;

  // The next frame that the kernel sends, in an mbuf of `pool`; null when there is none. One that
  // does not fit, because somebody gave the twin a larger MTU than the nic's, is dropped and
  // counted in `too_long`. One thread.
  [[nodiscard]] Mbuf* receive(const MbufPool& pool, std::uint32_t& too_long) const noexcept;

 private:
  ExceptionPath(int fd, std::uint8_t nic) : fd_(fd), nic_(nic) {}
  int fd_;
  std::uint8_t nic_;
};

}  // namespace millrace::dpdk
