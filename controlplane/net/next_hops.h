// SPDX-License-Identifier: Apache-2.0
//
// Where the kernel would send a packet for an address: the next hops of targets, the default next
// hops, and the node's own addresses, followed over netlink. Cold; on the control plane's
// io_context.
//
// The kernel is the only authority on routes and neighbours. Only routes that leave by a twin
// count: the engine drives the nic behind it (stats_abi.h, mr_nic). A neighbour that the kernel
// does not know, or whose entry went stale, is asked for again and again while it is watched.
#pragma once

#include <array>
#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controlplane/model/model.h"
#include "controlplane/net/netlink.h"
#include "dataplane/core/result.h"

namespace millrace::control {

struct NextHopInfo {
  std::uint32_t twin_index = 0;       // 0 when the route leaves by no twin
  std::array<std::uint8_t, 6> mac{};  // valid when resolved
  bool resolved = false;
  std::uint16_t mtu = 0;            // of the route if it has one, else of its link; 0: not known
  std::optional<IpAddress> source;  // what the kernel would send from, unless that is link-local
  std::string text;  // "via 10.0.0.1 dev mr0 lladdr 02:00:00:00:00:01", or why there is no next hop

  friend bool operator==(const NextHopInfo&, const NextHopInfo&) = default;
};

// A MAC address that the node has on a twin, its own or that of a macvlan on it (VRRP).
struct LocalMac {
  std::uint32_t twin_index = 0;
  std::array<std::uint8_t, 6> mac{};

  friend bool operator==(const LocalMac&, const LocalMac&) = default;
};

enum class AddressFamily : std::uint8_t { ipv4, ipv6 };

class NextHops {
 public:
  // `on_change` is called on the io_context, never from within a call of this class, after anything
  // that find(), default_next_hop(), local_addresses() or local_macs() answer has changed;
  // several changes at once are one call. Fails when the kernel refuses a netlink socket or the
  // first look at its tables.
  using OnChange = std::function<void()>;
  [[nodiscard]] static Result<std::unique_ptr<NextHops>> open(boost::asio::io_context& io,
                                                              OnChange on_change);
  ~NextHops();
  NextHops(const NextHops&) = delete;
  NextHops& operator=(const NextHops&) = delete;

  // Kernel interfaces that stand for nics of the engine, by the kernel's numbers: their names may
  // change, and change hands.
  void set_twins(std::set<std::uint32_t> link_indices);

  // Makes `addresses` the whole watched set; find() answers for them from here on.
  void watch(std::vector<IpAddress> addresses);

  // nullopt when the address is not watched.
  [[nodiscard]] std::optional<NextHopInfo> find(const IpAddress& address) const;

  // The next hop of the default route, as long as it leaves by a twin and is resolved.
  [[nodiscard]] std::optional<NextHopInfo> default_next_hop(AddressFamily family) const;

  // Addresses that the kernel takes as its own when a packet for them comes in by a twin: those of
  // the twins first, then those of other interfaces, without loopback ones and without other
  // interfaces' link-local ones.
  [[nodiscard]] std::vector<IpAddress> local_addresses() const;

  // MAC addresses for which a frame that comes in by a twin is the node's.
  [[nodiscard]] std::vector<LocalMac> local_macs() const;

  // The interface that has this address as one of the node's own, "" when none has.
  [[nodiscard]] std::string interface_of(const IpAddress& address) const;

  // Of any interface, asked for now; nothing when there is none.
  [[nodiscard]] LinkState link_state(std::uint32_t link_index);

  // What keeps the tables from being followed, "" when nothing does.
  [[nodiscard]] std::string problem() const;

 private:
  class Impl;
  explicit NextHops(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace millrace::control
