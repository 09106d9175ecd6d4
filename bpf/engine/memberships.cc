// SPDX-License-Identifier: Apache-2.0
#include "bpf/engine/memberships.h"

#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace millrace::xdp {
namespace {

constexpr std::uint64_t kCheckNs = 5'000'000'000;
constexpr std::size_t kAnswerBytes = 32 << 10;  // the largest that kernels send
// The kernel answers while it handles the request; this only guards against waiting for ever.
constexpr timeval kAnswerTimeout{.tv_sec = 1, .tv_usec = 0};

struct Request {
  nlmsghdr header;
  ifaddrmsg address;
  rtattr local_head;
  core::Ipv6Group local;
  rtattr flags_head;
  std::uint32_t flags;
};

constexpr std::array<std::uint8_t, 13> kPrefix = {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff};

// NLMSG_DATA() without its casts.
template <typename T>
const T* payload_of(const nlmsghdr& message) {
  return reinterpret_cast<const T*>(&message + 1);
}

// The group that this message about an address says the interface joined; null when it is another
// kind of address.
const std::uint8_t* group_in(const nlmsghdr& message) {
  const auto* address = payload_of<ifaddrmsg>(message);
  const std::uint8_t* group = nullptr;
  std::uint32_t flags = 0;
  auto left = static_cast<unsigned>(IFA_PAYLOAD(&message));
  for (const rtattr* at = IFA_RTA(address); RTA_OK(at, left); at = RTA_NEXT(at, left)) {
    const auto* payload = static_cast<const std::uint8_t*>(RTA_DATA(at));
    if (at->rta_type == IFA_ADDRESS && RTA_PAYLOAD(at) == 16) group = payload;
    if (at->rta_type == IFA_FLAGS && RTA_PAYLOAD(at) == 4) std::memcpy(&flags, payload, 4);
  }
  const bool is_joined = group != nullptr && (flags & IFA_F_MCAUTOJOIN) != 0;
  return is_joined && std::equal(kPrefix.begin(), kPrefix.end(), group) ? group : nullptr;
}

}  // namespace

Result<Memberships> Memberships::open(const std::vector<Nic>& nics) {
  os::File socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!socket.is_open()) return os::os_error("cannot open a netlink socket");
  if (::setsockopt(socket.fd(), SOL_SOCKET, SO_RCVTIMEO, &kAnswerTimeout, sizeof(kAnswerTimeout)) !=
      0) {
    return os::os_error("cannot bound a netlink socket's waiting");
  }
  return Memberships(nics, std::move(socket));
}

void Memberships::adopt(const core::ConfigView& view) {
  wanted_ = core::solicited_node_groups(view);
  vlans_.clear();
  for (const mr_vlan& vlan : core::present_vlans(view)) vlans_.insert(vlan.link_index);
  is_adopted_ = true;
  due_ns_ = 0;
}

std::string Memberships::run(std::uint64_t now_ns) {
  if (now_ns < due_ns_ || !is_adopted_) return "";
  due_ns_ = now_ns + kCheckNs;
  std::string problem;
  Result<std::map<std::uint32_t, Groups>> joined = read();
  if (!joined) problem = joined.error().message;
  for (const Nic& nic : nics_) {
    if (joined && problem.empty()) problem = bring_about(nic, (*joined)[nic.ifindex]);
  }
  for (const std::uint32_t index : vlans_) {
    std::array<char, IF_NAMESIZE> name{};
    if (::if_indextoname(index, name.data()) == nullptr) continue;  // the next config lacks it
    const Nic vlan{.name = name.data(), .ifindex = index, .mac = {}, .mtu = 0};
    if (joined && problem.empty()) problem = bring_about(vlan, (*joined)[index]);
  }
  if (problem == told_) return "";
  told_ = problem;
  return problem;
}

void Memberships::leave_all(std::uint32_t ifindex) {
  Result<std::map<std::uint32_t, Groups>> joined = read();
  if (!joined) return;
  for (const core::Ipv6Group& group : (*joined)[ifindex]) {
    (void)change(RTM_DELADDR, ifindex, group);  // an error means that it is gone
  }
}

std::string Memberships::bring_about(const Nic& nic, const Groups& has) {
  for (const core::Ipv6Group& group : has) {
    if (!wanted_.contains(group)) (void)change(RTM_DELADDR, nic.ifindex, group);  // as above
  }
  for (const core::Ipv6Group& group : wanted_) {
    if (has.contains(group)) continue;
    const int error = change(RTM_NEWADDR, nic.ifindex, group);
    // In use: by the membership that stays when an interface goes down. No device: told elsewhere.
    if (error == 0 || error == EEXIST || error == EADDRINUSE) continue;
    if (error == ENODEV) return "";
    const std::string remedy = error == EACCES
                                   ? "IPv6 is off there, as on a closed NIC (host-setup open)"
                                   : "with many VIPs raise net.core.optmem_max";
    return nic.name + ": cannot join the multicast groups of all IPv6 VIPs (" +
           std::generic_category().message(error) +
           "): switches that snoop on MLD do not deliver solicitations for them; " + remedy;
  }
  return "";
}

int Memberships::change(std::uint16_t type, std::uint32_t ifindex, const core::Ipv6Group& group) {
  Request request{};
  request.header = {.nlmsg_len = sizeof(request),
                    .nlmsg_type = type,
                    .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
                    .nlmsg_seq = ++sequence_,
                    .nlmsg_pid = 0};
  if (type == RTM_NEWADDR) request.header.nlmsg_flags |= NLM_F_CREATE | NLM_F_EXCL;
  request.address = {.ifa_family = AF_INET6,
                     .ifa_prefixlen = 128,
                     .ifa_flags = 0,
                     .ifa_scope = RT_SCOPE_LINK,
                     .ifa_index = ifindex};
  request.local_head = {.rta_len = RTA_LENGTH(sizeof(group)), .rta_type = IFA_LOCAL};
  request.local = group;
  request.flags_head = {.rta_len = RTA_LENGTH(sizeof(request.flags)), .rta_type = IFA_FLAGS};
  request.flags = IFA_F_MCAUTOJOIN | IFA_F_NODAD;
  if (::send(socket_.fd(), &request, sizeof(request), 0) != sizeof(request)) return errno;
  alignas(nlmsghdr) std::array<char, kAnswerBytes> answer;
  for (;;) {
    const ssize_t bytes = ::recv(socket_.fd(), answer.data(), answer.size(), 0);
    if (bytes < static_cast<ssize_t>(NLMSG_LENGTH(sizeof(nlmsgerr)))) {
      return bytes < 0 ? errno : EPROTO;
    }
    const auto* message = reinterpret_cast<const nlmsghdr*>(answer.data());
    if (message->nlmsg_seq != sequence_ || message->nlmsg_type != NLMSG_ERROR) continue;
    return -payload_of<nlmsgerr>(*message)->error;
  }
}

// By interface.
Result<std::map<std::uint32_t, Memberships::Groups>> Memberships::read() {
  struct {
    nlmsghdr header;
    ifaddrmsg address;
  } request{};
  request.header = {.nlmsg_len = sizeof(request),
                    .nlmsg_type = RTM_GETADDR,
                    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
                    .nlmsg_seq = ++sequence_,
                    .nlmsg_pid = 0};
  request.address.ifa_family = AF_INET6;
  if (::send(socket_.fd(), &request, sizeof(request), 0) != sizeof(request)) {
    return os::os_error("cannot ask for the interfaces' addresses");
  }
  std::map<std::uint32_t, Groups> found;
  alignas(nlmsghdr) std::array<char, kAnswerBytes> answer;
  for (;;) {
    const ssize_t bytes = ::recv(socket_.fd(), answer.data(), answer.size(), 0);
    if (bytes < 0) return os::os_error("cannot read the interfaces' addresses");
    auto left = static_cast<unsigned>(bytes);
    const auto* message = reinterpret_cast<const nlmsghdr*>(answer.data());
    for (; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
      if (message->nlmsg_seq != sequence_) continue;
      if (message->nlmsg_type == NLMSG_DONE) return found;
      if (message->nlmsg_type != RTM_NEWADDR) return Error{"the interfaces' addresses are refused"};
      core::Ipv6Group group;
      const std::uint8_t* bytes_of_group = group_in(*message);
      if (bytes_of_group == nullptr) continue;
      std::copy_n(bytes_of_group, group.size(), group.begin());
      found[payload_of<ifaddrmsg>(*message)->ifa_index].insert(group);
    }
  }
}

}  // namespace millrace::xdp
