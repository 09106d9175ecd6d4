// SPDX-License-Identifier: Apache-2.0
//
// The kernel's links, addresses, neighbours and routes over netlink, as plain values. Cold; the
// only user of libmnl. Knows nothing of twins, targets or Asio (next_hop_table.h, next_hops.h).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "controlplane/model/model.h"
#include "dataplane/core/result.h"

struct mnl_socket;
struct nlmsghdr;

namespace millrace::control {

using MacAddress = std::array<std::uint8_t, 6>;

struct LinkEvent {
  std::uint32_t link_index = 0;
  std::string name;
  bool is_removed = false;
  bool has_carrier = false;
  std::uint32_t mtu = 0;  // 0: the kernel did not say
  std::optional<MacAddress> mac{};
  std::uint32_t lower_index = 0;  // the link that this one is on, in this namespace; 0: none
  bool is_macvlan = false;        // a machine of its own on that link: VRRP's virtual router, too
  bool is_up = false;             // set so, whatever its carrier
  // The number of a VLAN of IEEE 802.1Q that the link is on the one below; 0: it is none.
  std::uint16_t vlan_id = 0;
};

// How well an address stands for its interface, the best first.
enum class AddressStanding : std::uint8_t {
  first,    // of the link's network
  further,  // of that network, too
  alone,    // without a network: a /32 or /128, which VRRP moves about
  none,     // another host may have it (RFC 4862 section 5.4), or it is about to go
};

struct AddressEvent {
  std::uint32_t link_index = 0;
  IpAddress address;
  bool is_removed = false;
  AddressStanding standing = AddressStanding::first;
};

struct NeighbourEvent {
  std::uint32_t link_index = 0;
  IpAddress address;
  bool is_removed = false;
  std::uint16_t state = 0;  // NUD_* of linux/neighbour.h
  std::optional<MacAddress> mac;
};

// Some route changed; which one is not worth knowing, the kernel is asked again.
struct RouteEvent {};

using NetlinkEvent = std::variant<LinkEvent, AddressEvent, NeighbourEvent, RouteEvent>;
using NetlinkSink = std::function<void(const NetlinkEvent&)>;

// What the kernel answers for one destination.
struct RouteAnswer {
  int error = 0;          // errno of the kernel, e.g. ENETUNREACH; the rest is empty then
  std::uint8_t type = 0;  // RTN_* of linux/rtnetlink.h
  std::uint32_t link_index = 0;
  std::optional<IpAddress> gateway{};
  std::uint32_t mtu = 0;              // of the route itself; 0: the link's counts
  std::optional<IpAddress> source{};  // what the kernel would send from

  friend bool operator==(const RouteAnswer&, const RouteAnswer&) = default;
};

struct MnlClose {
  void operator()(mnl_socket* socket) const;
};

// Changes as they happen. Non-blocking; wait for fd() to become readable.
class NetlinkMonitor {
 public:
  [[nodiscard]] static Result<NetlinkMonitor> open();
  [[nodiscard]] int fd() const;

  enum class Drained : std::uint8_t {
    all,      // nothing is left to read
    more,     // there may be more; call again
    overrun,  // events were lost, and the waiting ones thrown away: dump again
  };
  // Gives waiting events to `sink`, in order; bounded work per call.
  [[nodiscard]] Result<Drained> drain(const NetlinkSink& sink);

 private:
  explicit NetlinkMonitor(mnl_socket* socket) : socket_(socket) {}
  [[nodiscard]] Result<Drained> discard();

  std::unique_ptr<mnl_socket, MnlClose> socket_;
};

// An interface at this moment. Of one that cannot be asked for nothing holds.
struct LinkState {
  bool is_gone = false;      // there is none of that number
  bool is_set_down = false;  // by somebody, whatever its carrier
  bool has_carrier = false;
  bool has_xdp_program = false;  // whoever's, alone or as a chain's dispatcher

  friend bool operator==(const LinkState&, const LinkState&) = default;
};

// Questions that the kernel answers at once (microseconds each).
class NetlinkQueries {
 public:
  [[nodiscard]] static Result<NetlinkQueries> open();

  // Everything there is at this moment: links, then addresses, then neighbours.
  [[nodiscard]] Status dump(const NetlinkSink& sink);

  // Where the kernel would send a packet for `destination`.
  [[nodiscard]] Result<RouteAnswer> route_to(const IpAddress& destination);

  // Asked, because events do not tell of programs that are attached by a link of their own. Needs
  // no privilege.
  [[nodiscard]] Result<LinkState> link_state(std::uint32_t link_index);

 private:
  NetlinkQueries() = default;
  [[nodiscard]] Status reopen();
  // `flags`: RTM_F_*.
  [[nodiscard]] Result<RouteAnswer> ask_route(const IpAddress& destination, std::uint32_t flags);
  // Sends `request`, gives the answer to `take`; 0 or the kernel's errno.
  [[nodiscard]] Result<int> ask(nlmsghdr* request, int (*take)(const nlmsghdr*, void*),
                                void* answer, const char* what);
  [[nodiscard]] bool dump_one(std::uint16_t type, std::size_t header_bytes,
                              const NetlinkSink& sink);

  std::unique_ptr<mnl_socket, MnlClose> socket_;
  std::uint32_t sequence_ = 0;
};

}  // namespace millrace::control
