// SPDX-License-Identifier: Apache-2.0
#include "controlplane/net/netlink.h"

#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <vector>

#include "controlplane/net/netlink_parse.h"

namespace millrace::control {
namespace {

// Largest netlink message that kernels send in a dump (they fill up to 32 KiB when offered).
constexpr std::size_t kReceiveBytes = 32 << 10;
// Room for a burst of events between two turns of the io_context, about 2,000 neighbour changes.
constexpr int kMonitorBufferBytes = 1 << 20;
// Messages per drain(), so that a storm of events does not starve the rest of the control plane.
constexpr int kReceivesPerDrain = 64;
// More than fit into the socket's buffer: emptying it takes fewer.
constexpr int kDiscardsMax = 1 << 16;
// Answers come from the kernel while it handles the request; this only guards against waiting for
// ever for one that got lost.
constexpr timeval kAnswerTimeout{.tv_sec = 1, .tv_usec = 0};
// A dump that changes under the reader is taken again this often before it is an error.
constexpr int kDumpTriesMax = 8;

// What is dumped, by a request with the header that the kernel expects for it: it complains in its
// log of one that is longer.
struct Table {
  std::uint16_t request;
  std::size_t header_bytes;
};
constexpr std::array<Table, 3> kTables = {{{RTM_GETLINK, sizeof(ifinfomsg)},
                                           {RTM_GETADDR, sizeof(ifaddrmsg)},
                                           {RTM_GETNEIGH, sizeof(ndmsg)}}};

constexpr std::array<unsigned, 9> kGroups = {
    RTNLGRP_LINK,        RTNLGRP_NEIGH,      RTNLGRP_IPV4_IFADDR,
    RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,
    RTNLGRP_IPV4_RULE,   RTNLGRP_IPV6_RULE,  RTNLGRP_NEXTHOP};

Error errno_error(const std::string& what) {
  return Error{what + ": " + std::generic_category().message(errno)};
}

Result<mnl_socket*> open_netlink(int flags) {
  mnl_socket* socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | flags);
  if (socket == nullptr) return errno_error("cannot open a netlink socket");
  if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) != 0) {
    const Error error = errno_error("cannot bind a netlink socket");
    mnl_socket_close(socket);
    return error;
  }
  return socket;
}

int give_to_sink(const nlmsghdr* message, void* sink) {
  const auto event = parse_event(*message);
  if (event) (*static_cast<const NetlinkSink*>(sink))(*event);
  return MNL_CB_OK;
}

int take_route(const nlmsghdr* message, void* answer) {
  const auto route = parse_route(*message);
  if (route) *static_cast<RouteAnswer*>(answer) = *route;
  return MNL_CB_STOP;
}

int take_link_state(const nlmsghdr* message, void* state) {
  const auto link = parse_link_state(*message);
  if (link) *static_cast<LinkState*>(state) = *link;
  return MNL_CB_STOP;
}

}  // namespace

void MnlClose::operator()(mnl_socket* socket) const { mnl_socket_close(socket); }

Result<NetlinkMonitor> NetlinkMonitor::open() {
  auto socket = open_netlink(SOCK_NONBLOCK);
  if (!socket) return socket.error();
  NetlinkMonitor monitor(*socket);
  // The privileged option first: the plain one is capped by net.core.rmem_max. Neither is needed
  // for correctness, an overrun is noticed.
  const int fd = mnl_socket_get_fd(*socket);
  const int bytes = kMonitorBufferBytes;
  if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) != 0) {
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
  }
  for (unsigned group : kGroups) {
    if (mnl_socket_setsockopt(*socket, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) != 0) {
      return errno_error("cannot follow netlink group " + std::to_string(group));
    }
  }
  return monitor;
}

int NetlinkMonitor::fd() const { return mnl_socket_get_fd(socket_.get()); }

Result<NetlinkMonitor::Drained> NetlinkMonitor::drain(const NetlinkSink& sink) {
  std::vector<char> buffer(kReceiveBytes);
  for (int i = 0; i < kReceivesPerDrain; ++i) {
    const ssize_t bytes = mnl_socket_recvfrom(socket_.get(), buffer.data(), buffer.size());
    if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) return Drained::all;
    if (bytes < 0 && errno == ENOBUFS) return discard();
    if (bytes < 0) return errno_error("cannot read netlink events");
    NetlinkSink copy = sink;
    const auto size = static_cast<std::size_t>(bytes);
    // Fails only for a message that is not well-formed, which the kernel does not send.
    if (mnl_cb_run(buffer.data(), size, 0, 0, give_to_sink, &copy) < 0) return discard();
  }
  return Drained::more;
}

// After an overrun the kernel goes on dropping events, without another error, until the socket has
// been read empty; and what is in it is older than the next dump.
Result<NetlinkMonitor::Drained> NetlinkMonitor::discard() {
  std::vector<char> buffer(kReceiveBytes);
  for (int i = 0; i < kDiscardsMax; ++i) {
    const ssize_t bytes = mnl_socket_recvfrom(socket_.get(), buffer.data(), buffer.size());
    if (bytes < 0 && errno == EAGAIN) return Drained::overrun;
  }
  return Error{"netlink events come faster than they can be read"};
}

Result<NetlinkQueries> NetlinkQueries::open() {
  NetlinkQueries queries;
  const Status opened = queries.reopen();
  if (!opened) return opened.error();
  return queries;
}

// Also after every failure: what is left of a broken answer must not be taken for the next one.
Status NetlinkQueries::reopen() {
  auto socket = open_netlink(0);
  if (!socket) return socket.error();
  socket_.reset(*socket);
  const int fd = mnl_socket_get_fd(*socket);
  if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &kAnswerTimeout, sizeof(kAnswerTimeout)) != 0) {
    return errno_error("cannot bound a netlink socket's waiting");
  }
  return ok();
}

Status NetlinkQueries::dump(const NetlinkSink& sink) {
  for (const auto [request, header_bytes] : kTables) {
    for (int tries = 1; !dump_one(request, header_bytes, sink); ++tries) {
      const Error error = errno_error("cannot read the kernel's tables");
      if (Status opened = reopen(); !opened) return opened;
      if (tries == kDumpTriesMax) return error;
    }
  }
  return ok();
}

// False with errno set; EINTR when the table changed under the dump.
bool NetlinkQueries::dump_one(std::uint16_t type, std::size_t header_bytes,
                              const NetlinkSink& sink) {
  std::vector<char> buffer(kReceiveBytes);
  nlmsghdr* request = mnl_nlmsg_put_header(buffer.data());
  request->nlmsg_type = type;
  request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request->nlmsg_seq = ++sequence_;
  (void)mnl_nlmsg_put_extra_header(request, header_bytes);
  if (mnl_socket_sendto(socket_.get(), request, request->nlmsg_len) < 0) return false;

  NetlinkSink copy = sink;
  const unsigned port = mnl_socket_get_portid(socket_.get());
  int more = MNL_CB_OK;
  while (more == MNL_CB_OK) {
    const ssize_t bytes = mnl_socket_recvfrom(socket_.get(), buffer.data(), buffer.size());
    if (bytes < 0) return false;
    more = mnl_cb_run(buffer.data(), static_cast<std::size_t>(bytes), sequence_, port, give_to_sink,
                      &copy);
  }
  return more == MNL_CB_STOP;
}

// The kernel's answer has the MTU that it has learned of the path. Whoever forges an ICMP error to
// this node would set it for all clients, and no event tells of it; so the route's own is asked
// for.
Result<RouteAnswer> NetlinkQueries::route_to(const IpAddress& destination) {
  Result<RouteAnswer> answer = ask_route(destination, 0);
  if (!answer || answer->error != 0) return answer;
  const Result<RouteAnswer> configured = ask_route(destination, RTM_F_FIB_MATCH);
  if (!configured) return configured.error();
  answer->mtu = configured->mtu;
  return answer;
}

Result<RouteAnswer> NetlinkQueries::ask_route(const IpAddress& destination, std::uint32_t flags) {
  std::array<char, 256> request_bytes{};
  const bool is_v4 = destination.is_v4();
  const std::size_t address_bytes = is_v4 ? 4 : 16;
  nlmsghdr* request = mnl_nlmsg_put_header(request_bytes.data());
  request->nlmsg_type = RTM_GETROUTE;
  request->nlmsg_flags = NLM_F_REQUEST;
  request->nlmsg_seq = ++sequence_;
  auto* route = static_cast<rtmsg*>(mnl_nlmsg_put_extra_header(request, sizeof(rtmsg)));
  route->rtm_family = is_v4 ? AF_INET : AF_INET6;
  route->rtm_dst_len = static_cast<unsigned char>(8 * address_bytes);
  route->rtm_flags = flags;
  mnl_attr_put(request, RTA_DST, address_bytes, destination.addr.bytes + 16 - address_bytes);

  RouteAnswer answer;
  const Result<int> error = ask(request, take_route, &answer, "a route");
  if (!error) return error.error();
  answer.error = *error;
  return answer;
}

Result<LinkState> NetlinkQueries::link_state(std::uint32_t link_index) {
  std::array<char, 256> request_bytes{};
  LinkState state;
  if (link_index == 0) return state;
  nlmsghdr* request = mnl_nlmsg_put_header(request_bytes.data());
  request->nlmsg_type = RTM_GETLINK;
  request->nlmsg_flags = NLM_F_REQUEST;
  request->nlmsg_seq = ++sequence_;
  auto* link = static_cast<ifinfomsg*>(mnl_nlmsg_put_extra_header(request, sizeof(ifinfomsg)));
  link->ifi_index = static_cast<int>(link_index);
  const Result<int> error = ask(request, take_link_state, &state, "an interface");
  if (!error) return error.error();
  state.is_gone = *error == ENODEV;
  return state;
}

Result<int> NetlinkQueries::ask(nlmsghdr* request, int (*take)(const nlmsghdr*, void*),
                                void* answer, const char* what) {
  std::vector<char> buffer(kReceiveBytes);
  ssize_t bytes = mnl_socket_sendto(socket_.get(), request, request->nlmsg_len);
  if (bytes >= 0) bytes = mnl_socket_recvfrom(socket_.get(), buffer.data(), buffer.size());
  if (bytes < 0) {
    const Error error = errno_error(std::string("cannot ask the kernel for ") + what);
    const Status opened = reopen();
    return opened ? error : opened.error();
  }
  const int taken = mnl_cb_run(buffer.data(), static_cast<std::size_t>(bytes), sequence_,
                               mnl_socket_get_portid(socket_.get()), take, answer);
  return taken < 0 ? errno : 0;
}

}  // namespace millrace::control
