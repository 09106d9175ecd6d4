// SPDX-License-Identifier: Apache-2.0
#include "controlplane/net/netlink_parse.h"

#include <libmnl/libmnl.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <string_view>

namespace millrace::control {
namespace {

constexpr std::uint8_t kV4MappedPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

// Attributes of interest of one message, by type; the last of a kind wins, as in the kernel.
template <std::size_t kCount>
using Attributes = std::array<const nlattr*, kCount>;

struct Collector {
  std::span<const nlattr*> found;
};

int collect(const nlattr* attribute, void* collector) {
  const std::span<const nlattr*> found = static_cast<Collector*>(collector)->found;
  const std::uint16_t type = mnl_attr_get_type(attribute);
  if (type < found.size()) found[type] = attribute;
  return MNL_CB_OK;
}

// The fixed header behind the netlink header, and the attributes behind that.
template <typename Header, std::size_t kCount>
const Header* read_message(const nlmsghdr& message, Attributes<kCount>& attributes) {
  attributes.fill(nullptr);
  if (mnl_nlmsg_get_payload_len(&message) < sizeof(Header)) return nullptr;
  Collector collector{.found = attributes};
  if (mnl_attr_parse(&message, sizeof(Header), collect, &collector) < 0) return nullptr;
  return static_cast<const Header*>(mnl_nlmsg_get_payload(&message));
}

std::optional<IpAddress> address_from(std::span<const std::uint8_t> bytes) {
  IpAddress address;
  if (bytes.size() == 4) {
    std::copy(std::begin(kV4MappedPrefix), std::end(kV4MappedPrefix), address.addr.bytes);
    std::copy(bytes.begin(), bytes.end(), address.addr.bytes + sizeof(kV4MappedPrefix));
    return address;
  }
  if (bytes.size() != sizeof(address.addr.bytes)) return std::nullopt;
  std::copy(bytes.begin(), bytes.end(), address.addr.bytes);
  return address;
}

std::span<const std::uint8_t> payload_of(const nlattr* attribute) {
  if (attribute == nullptr) return {};
  return {static_cast<const std::uint8_t*>(mnl_attr_get_payload(attribute)),
          mnl_attr_get_payload_len(attribute)};
}

std::uint32_t u32_of(const nlattr* attribute) {
  const auto bytes = payload_of(attribute);
  std::uint32_t value = 0;
  if (bytes.size() == sizeof(value)) std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

std::optional<MacAddress> mac_from(std::span<const std::uint8_t> bytes) {
  MacAddress mac;
  if (bytes.size() != mac.size()) return std::nullopt;
  std::copy(bytes.begin(), bytes.end(), mac.begin());
  return mac;
}

std::uint16_t u16_of(const nlattr* attribute) {
  const auto bytes = payload_of(attribute);
  std::uint16_t value = 0;
  if (bytes.size() == sizeof(value)) std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

// The attributes that another one nests.
template <std::size_t kCount>
Attributes<kCount> nested_in(const nlattr* attribute) {
  Attributes<kCount> attributes{};
  Collector collector{.found = attributes};
  if (attribute == nullptr || mnl_attr_parse_nested(attribute, collect, &collector) < 0) return {};
  return attributes;
}

// IFLA_LINKINFO nests what kind of a link it is. keepalived and FRR make macvlans for VRRP.
bool is_of_kind(const nlattr* link_info, std::string_view wanted) {
  const auto kind = payload_of(nested_in<IFLA_INFO_KIND + 1>(link_info)[IFLA_INFO_KIND]);
  return std::equal(kind.begin(), std::find(kind.begin(), kind.end(), 0), wanted.begin(),
                    wanted.end());
}

// 0 for any other link, and for one of 802.1ad: a tag of that kind is the kernel's.
std::uint16_t vlan_id_of(const nlattr* link_info) {
  if (!is_of_kind(link_info, "vlan")) return 0;
  const auto info = nested_in<IFLA_INFO_DATA + 1>(link_info);
  const auto data = nested_in<IFLA_VLAN_PROTOCOL + 1>(info[IFLA_INFO_DATA]);
  const bool is_dot1q = u16_of(data[IFLA_VLAN_PROTOCOL]) == htons(ETH_P_8021Q);
  return is_dot1q ? u16_of(data[IFLA_VLAN_ID]) : std::uint16_t{0};
}

// IFLA_XDP nests how a program is attached, XDP_ATTACHED_NONE when none is.
bool has_xdp_program(const nlattr* xdp) {
  const auto how = payload_of(nested_in<IFLA_XDP_ATTACHED + 1>(xdp)[IFLA_XDP_ATTACHED]);
  return how.size() == 1 && how[0] != XDP_ATTACHED_NONE;
}

std::optional<NetlinkEvent> parse_link(const nlmsghdr& message) {
  Attributes<IFLA_LINK_NETNSID + 1> attributes;
  const auto* header = read_message<ifinfomsg>(message, attributes);
  // Bridges send a link message per port under their own family.
  if (header == nullptr || header->ifi_family != AF_UNSPEC) return std::nullopt;
  const auto name = payload_of(attributes[IFLA_IFNAME]);
  const auto end = std::find(name.begin(), name.end(), 0);
  return LinkEvent{
      .link_index = static_cast<std::uint32_t>(header->ifi_index),
      .name = std::string(name.begin(), end),
      .is_removed = message.nlmsg_type == RTM_DELLINK,
      .has_carrier = (header->ifi_flags & IFF_LOWER_UP) != 0,
      .mtu = u32_of(attributes[IFLA_MTU]),
      .mac = mac_from(payload_of(attributes[IFLA_ADDRESS])),
      // With a namespace's id the number means a link over there.
      .lower_index = attributes[IFLA_LINK_NETNSID] == nullptr ? u32_of(attributes[IFLA_LINK]) : 0,
      .is_macvlan = is_of_kind(attributes[IFLA_LINKINFO], "macvlan"),
      .is_up = (header->ifi_flags & IFF_UP) != 0,
      .vlan_id = vlan_id_of(attributes[IFLA_LINKINFO])};
}

AddressStanding standing_of(const ifaddrmsg& header) {
  constexpr unsigned kNotSure = IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_DEPRECATED;
  if ((header.ifa_flags & kNotSure) != 0) return AddressStanding::none;
  const unsigned whole = header.ifa_family == AF_INET ? 32 : 128;
  if (header.ifa_prefixlen == whole) return AddressStanding::alone;
  const bool is_further = (header.ifa_flags & IFA_F_SECONDARY) != 0;
  return is_further ? AddressStanding::further : AddressStanding::first;
}

std::optional<NetlinkEvent> parse_address(const nlmsghdr& message) {
  Attributes<IFA_LOCAL + 1> attributes;
  const auto* header = read_message<ifaddrmsg>(message, attributes);
  if (header == nullptr) return std::nullopt;
  // On a point-to-point link IFA_ADDRESS is the peer; IFA_LOCAL is always our own where present.
  const nlattr* own = attributes[IFA_LOCAL] ? attributes[IFA_LOCAL] : attributes[IFA_ADDRESS];
  const auto address = address_from(payload_of(own));
  if (!address) return std::nullopt;
  return AddressEvent{.link_index = header->ifa_index,
                      .address = *address,
                      .is_removed = message.nlmsg_type == RTM_DELADDR,
                      .standing = standing_of(*header)};
}

std::optional<NetlinkEvent> parse_neighbour(const nlmsghdr& message) {
  Attributes<NDA_LLADDR + 1> attributes;
  const auto* header = read_message<ndmsg>(message, attributes);
  const bool is_ip =
      header != nullptr && (header->ndm_family == AF_INET || header->ndm_family == AF_INET6);
  if (!is_ip || (header->ndm_flags & NTF_PROXY) != 0) return std::nullopt;
  const auto address = address_from(payload_of(attributes[NDA_DST]));
  if (!address) return std::nullopt;
  NeighbourEvent event{.link_index = static_cast<std::uint32_t>(header->ndm_ifindex),
                       .address = *address,
                       .is_removed = message.nlmsg_type == RTM_DELNEIGH,
                       .state = header->ndm_state,
                       .mac = mac_from(payload_of(attributes[NDA_LLADDR]))};
  return event;
}

// RTA_VIA carries a gateway of another family than the route's: two bytes of family, then address.
std::optional<IpAddress> gateway_of(const nlattr* gateway, const nlattr* via) {
  if (gateway != nullptr) return address_from(payload_of(gateway));
  const auto bytes = payload_of(via);
  if (bytes.size() < sizeof(std::uint16_t)) return std::nullopt;
  return address_from(bytes.subspan(sizeof(std::uint16_t)));
}

// RTA_METRICS nests its own attributes, by RTAX_*.
std::uint32_t route_mtu(const nlattr* metrics) {
  return u32_of(nested_in<RTAX_MTU + 1>(metrics)[RTAX_MTU]);
}

}  // namespace

std::optional<NetlinkEvent> parse_event(const nlmsghdr& message) {
  switch (message.nlmsg_type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
      return parse_link(message);
    case RTM_NEWADDR:
    case RTM_DELADDR:
      return parse_address(message);
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH:
      return parse_neighbour(message);
    // Each of these changes by which way an address is reached, and tells of no other.
    case RTM_NEWROUTE:
    case RTM_DELROUTE:
    case RTM_NEWRULE:
    case RTM_DELRULE:
    case RTM_NEWNEXTHOP:
    case RTM_DELNEXTHOP:
    case RTM_NEWNEXTHOPBUCKET:  // of a resilient group, which moves them one by one
      return RouteEvent{};
    default:
      return std::nullopt;
  }
}

std::optional<LinkState> parse_link_state(const nlmsghdr& message) {
  Attributes<IFLA_XDP + 1> attributes;
  if (message.nlmsg_type != RTM_NEWLINK) return std::nullopt;
  const auto* header = read_message<ifinfomsg>(message, attributes);
  if (header == nullptr) return std::nullopt;
  return LinkState{.is_set_down = (header->ifi_flags & IFF_UP) == 0,
                   .has_carrier = (header->ifi_flags & IFF_LOWER_UP) != 0,
                   .has_xdp_program = has_xdp_program(attributes[IFLA_XDP])};
}

std::optional<RouteAnswer> parse_route(const nlmsghdr& message) {
  Attributes<RTA_VIA + 1> attributes;
  if (message.nlmsg_type != RTM_NEWROUTE) return std::nullopt;
  const auto* header = read_message<rtmsg>(message, attributes);
  if (header == nullptr) return std::nullopt;
  return RouteAnswer{.error = 0,
                     .type = header->rtm_type,
                     .link_index = u32_of(attributes[RTA_OIF]),
                     .gateway = gateway_of(attributes[RTA_GATEWAY], attributes[RTA_VIA]),
                     .mtu = route_mtu(attributes[RTA_METRICS]),
                     .source = address_from(payload_of(attributes[RTA_PREFSRC]))};
}

}  // namespace millrace::control
