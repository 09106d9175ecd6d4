// SPDX-License-Identifier: Apache-2.0
#include "controlplane/net/netlink_parse.h"

#include <gtest/gtest.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <cstring>
#include <random>

namespace millrace::control {
namespace {

// A message in a buffer of exactly its size on the heap, so that reads beyond it are found.
class Message {
 public:
  template <typename Header>
  Message(std::uint16_t type, const Header& header) : buffer_(512) {
    nlmsghdr* message = mnl_nlmsg_put_header(buffer_.data());
    message->nlmsg_type = type;
    std::memcpy(mnl_nlmsg_put_extra_header(message, sizeof(header)), &header, sizeof(header));
  }
  Message& put(std::uint16_t type, const std::vector<std::uint8_t>& bytes) {
    mnl_attr_put(head(), type, bytes.size(), bytes.data());
    return *this;
  }
  [[nodiscard]] std::vector<char> bytes() {
    return {buffer_.begin(), buffer_.begin() + head()->nlmsg_len};
  }
  nlmsghdr* head() { return reinterpret_cast<nlmsghdr*>(buffer_.data()); }

 private:
  std::vector<char> buffer_;
};

const nlmsghdr& as_message(const std::vector<char>& bytes) {
  return *reinterpret_cast<const nlmsghdr*>(bytes.data());
}

Message neighbour_message() {
  ndmsg header{};
  header.ndm_family = AF_INET;
  header.ndm_ifindex = 4;
  header.ndm_state = NUD_REACHABLE;
  Message message(RTM_NEWNEIGH, header);
  message.put(NDA_DST, {10, 0, 1, 11}).put(NDA_LLADDR, {2, 0, 0, 0, 0, 0x11});
  return message;
}

Message route_message() {
  rtmsg header{};
  header.rtm_family = AF_INET;
  header.rtm_type = RTN_UNICAST;
  Message message(RTM_NEWROUTE, header);
  message.put(RTA_OIF, {4, 0, 0, 0});
  return message;
}

TEST(NetlinkParse, neighbour_becomes_an_event) {
  const auto event = parse_event(as_message(neighbour_message().bytes()));
  ASSERT_TRUE(event);
  const auto& neighbour = std::get<NeighbourEvent>(*event);
  EXPECT_EQ(neighbour.address.to_string(), "10.0.1.11");
  EXPECT_EQ(neighbour.link_index, 4U);
  EXPECT_EQ(neighbour.state, NUD_REACHABLE);
  EXPECT_EQ(neighbour.mac, (MacAddress{2, 0, 0, 0, 0, 0x11}));
}

TEST(NetlinkParse, rules_and_next_hop_objects_change_ways_without_a_route) {
  Message message = route_message();
  for (const std::uint16_t type : {RTM_NEWROUTE, RTM_DELROUTE, RTM_NEWRULE, RTM_DELRULE,
                                   RTM_NEWNEXTHOP, RTM_DELNEXTHOP, RTM_NEWNEXTHOPBUCKET}) {
    message.head()->nlmsg_type = type;
    const auto event = parse_event(as_message(message.bytes()));
    ASSERT_TRUE(event) << type;
    EXPECT_TRUE(std::holds_alternative<RouteEvent>(*event)) << type;
  }
}

TEST(NetlinkParse, neighbours_of_bridges_and_proxies_are_not_ours) {
  Message bridge = neighbour_message();
  static_cast<ndmsg*>(mnl_nlmsg_get_payload(bridge.head()))->ndm_family = AF_BRIDGE;
  EXPECT_FALSE(parse_event(as_message(bridge.bytes())));
  Message proxy = neighbour_message();
  static_cast<ndmsg*>(mnl_nlmsg_get_payload(proxy.head()))->ndm_flags = NTF_PROXY;
  EXPECT_FALSE(parse_event(as_message(proxy.bytes())));
}

TEST(NetlinkParse, gateway_of_another_family_is_read) {
  std::vector<std::uint8_t> via = {AF_INET6, 0, 0xfe, 0x80, 0, 0, 0, 0, 0,
                                   0,        0, 0,    0,    0, 0, 0, 0, 1};
  const auto route = parse_route(as_message(route_message().put(RTA_VIA, via).bytes()));
  ASSERT_TRUE(route);
  EXPECT_EQ(route->gateway.value().to_string(), "fe80::1");
  EXPECT_EQ(route->link_index, 4U);
}

TEST(NetlinkParse, mtu_and_source_of_a_route_are_read) {
  Message message = route_message();
  message.put(RTA_PREFSRC, {10, 0, 1, 1});
  nlattr* metrics = mnl_attr_nest_start(message.head(), RTA_METRICS);
  mnl_attr_put_u32(message.head(), RTAX_MTU, 1400);
  mnl_attr_nest_end(message.head(), metrics);
  const auto route = parse_route(as_message(message.bytes()));
  ASSERT_TRUE(route);
  EXPECT_EQ(route->mtu, 1400U);
  EXPECT_EQ(route->source.value().to_string(), "10.0.1.1");
  EXPECT_EQ(parse_route(as_message(route_message().bytes()))->mtu, 0U);
}

TEST(NetlinkParse, mtu_of_a_link_is_read) {
  ifinfomsg header{};
  header.ifi_index = 4;
  Message message(RTM_NEWLINK, header);
  message.put(IFLA_IFNAME, {'m', 'r', '0', 0}).put(IFLA_MTU, {0xdc, 0x05, 0, 0});
  const auto event = parse_event(as_message(message.bytes()));
  ASSERT_TRUE(event);
  EXPECT_EQ(std::get<LinkEvent>(*event).mtu, 1500U);
}

// As rtnetlink(7) nests them: a header of four bytes, and values filled up to four.
std::vector<std::uint8_t> nested(std::uint8_t type, std::vector<std::uint8_t> value) {
  std::vector<std::uint8_t> bytes = {static_cast<std::uint8_t>(value.size() + 4), 0, type, 0};
  value.resize((value.size() + 3) / 4 * 4);
  bytes.insert(bytes.end(), value.begin(), value.end());
  return bytes;
}

LinkEvent link_of_kind(const std::string& kind, std::vector<std::uint8_t> data, bool is_here) {
  ifinfomsg header{};
  header.ifi_index = 9;
  header.ifi_flags = IFF_UP;
  Message message(RTM_NEWLINK, header);
  std::vector<std::uint8_t> info = nested(IFLA_INFO_KIND, {kind.begin(), kind.end()});
  const std::vector<std::uint8_t> nest = nested(IFLA_INFO_DATA, std::move(data));
  info.insert(info.end(), nest.begin(), nest.end());
  message.put(IFLA_IFNAME, {'v', 0}).put(IFLA_LINK, {4, 0, 0, 0}).put(IFLA_LINKINFO, info);
  if (!is_here) message.put(IFLA_LINK_NETNSID, {0, 0, 0, 0});
  return std::get<LinkEvent>(parse_event(as_message(message.bytes())).value());
}

TEST(NetlinkParse, number_of_a_vlan_is_read) {
  const std::vector<std::uint8_t> id = nested(IFLA_VLAN_ID, {0x0a, 0});
  const auto with = [&](std::uint8_t high, std::uint8_t low) {
    std::vector<std::uint8_t> data = id;
    const std::vector<std::uint8_t> protocol = nested(IFLA_VLAN_PROTOCOL, {high, low});
    data.insert(data.end(), protocol.begin(), protocol.end());
    return data;
  };
  const LinkEvent vlan = link_of_kind("vlan", with(0x81, 0x00), true);
  EXPECT_EQ(vlan.vlan_id, 10);
  EXPECT_EQ(vlan.lower_index, 4U);
  EXPECT_TRUE(vlan.is_up);
  EXPECT_EQ(link_of_kind("vlan", with(0x88, 0xa8), true).vlan_id, 0) << "802.1ad";
  EXPECT_EQ(link_of_kind("vlan", id, true).vlan_id, 0) << "of no protocol";
  EXPECT_EQ(link_of_kind("vlan", {}, true).vlan_id, 0);
  EXPECT_EQ(link_of_kind("macvlan", with(0x81, 0x00), true).vlan_id, 0);
  EXPECT_TRUE(link_of_kind("macvlan", {}, true).is_macvlan);
  EXPECT_EQ(link_of_kind("vlan", with(0x81, 0x00), false).lower_index, 0U) << "elsewhere";
}

TEST(NetlinkParse, address_of_wrong_length_is_not_believed) {
  for (const std::size_t bytes : {0U, 3U, 5U, 15U, 17U}) {
    const std::vector<std::uint8_t> address(bytes, 1);
    const auto route = parse_route(as_message(route_message().put(RTA_GATEWAY, address).bytes()));
    ASSERT_TRUE(route);
    EXPECT_EQ(route->gateway, std::nullopt) << bytes;
  }
}

// Run under AddressSanitizer by the sanitizer build, which sees a read beyond the end.
TEST(NetlinkParse, cut_and_corrupted_messages_are_read_within_their_bounds) {
  std::mt19937 random(20240607);
  const std::vector<char> whole[] = {neighbour_message().bytes(), route_message().bytes()};
  int parsed = 0;
  for (int i = 0; i < 20000; ++i) {
    std::vector<char> bytes = whole[random() % 2];
    bytes.resize(sizeof(nlmsghdr) + random() % (bytes.size() - sizeof(nlmsghdr) + 1));
    for (unsigned flips = random() % 4; flips > 0; --flips) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    auto* message = reinterpret_cast<nlmsghdr*>(bytes.data());
    message->nlmsg_len = static_cast<std::uint32_t>(bytes.size());  // checked before, by libmnl
    parsed += parse_event(*message).has_value() ? 1 : 0;
    parsed += parse_route(*message).has_value() ? 1 : 0;
  }
  EXPECT_GT(parsed, 0);
}

}  // namespace
}  // namespace millrace::control
