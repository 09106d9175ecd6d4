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

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controlplane/net/route_watch.h"
#include "dataplane/core/result.h"

namespace millrace::control {

class NextHops final : public RouteWatch {
 public:
  // `on_change` is called on the io_context, never from within a call of this class, after anything
  // that find(), default_next_hop(), local_addresses(), own_addresses(), local_macs() or vlans()
  // answer has changed; several changes at once are one call. Fails when the kernel refuses a
  // netlink socket or the first look at its tables.
  using OnChange = std::function<void()>;
  [[nodiscard]] static Result<std::unique_ptr<NextHops>> open(boost::asio::io_context& io,
                                                              OnChange on_change);
  ~NextHops() override;
  NextHops(const NextHops&) = delete;
  NextHops& operator=(const NextHops&) = delete;

  void set_twins(std::set<std::uint32_t> link_indices) override;
  void watch(std::vector<IpAddress> addresses) override;
  [[nodiscard]] std::optional<NextHopInfo> find(const IpAddress& address) const override;
  [[nodiscard]] std::optional<NextHopInfo> default_next_hop(AddressFamily family) const override;
  [[nodiscard]] std::vector<IpAddress> local_addresses() const override;
  [[nodiscard]] std::vector<OwnAddress> own_addresses() const override;
  [[nodiscard]] std::vector<LocalMac> local_macs() const override;
  [[nodiscard]] std::vector<VlanLink> vlans() const override;
  [[nodiscard]] std::string interface_of(const IpAddress& address) const override;
  [[nodiscard]] LinkState link_state(std::uint32_t link_index) override;

  // What keeps the tables from being followed, "" when nothing does.
  [[nodiscard]] std::string problem() const;

 private:
  class Impl;
  explicit NextHops(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace millrace::control
