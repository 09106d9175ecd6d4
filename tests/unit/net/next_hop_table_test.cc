// SPDX-License-Identifier: Apache-2.0
#include "controlplane/net/next_hop_table.h"
#include "tests/support/cc/address.h"

#include <gtest/gtest.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>

namespace millrace::control {
namespace {

using test::ip;

using std::chrono::seconds;

constexpr MacAddress kMac = {2, 0, 0, 0, 0, 0x11};
constexpr MacAddress kOtherMac = {2, 0, 0, 0, 0, 0x22};
constexpr std::uint32_t kTwin = 4;
constexpr std::uint32_t kOther = 5;

class NextHopTableTest : public ::testing::Test {
 protected:
  NextHopTableTest() {
    table_.set_twins({kTwin});
    link(kTwin, "mr0", true);
    link(kOther, "eth5", true);
    table_.set_route(target_, {.type = RTN_UNICAST, .link_index = kTwin, .gateway = {}});
  }

  void link(std::uint32_t index, const std::string& name, bool has_carrier) {
    (void)table_.apply(LinkEvent{.link_index = index, .name = name, .has_carrier = has_carrier},
                       now_);
  }
  void neighbour(std::uint16_t state, std::optional<MacAddress> mac, bool is_removed = false) {
    (void)table_.apply(NeighbourEvent{.link_index = kTwin,
                                      .address = target_,
                                      .is_removed = is_removed,
                                      .state = state,
                                      .mac = mac},
                       now_);
  }
  [[nodiscard]] NextHopInfo hop() const { return table_.next_hop(target_); }

  NextHopTable table_;
  NetTime now_{seconds(1000)};
  IpAddress target_ = ip("10.0.1.11");
};

TEST_F(NextHopTableTest, every_valid_state_of_a_neighbour_resolves) {
  for (const int state : {NUD_REACHABLE, NUD_STALE, NUD_DELAY, NUD_PROBE, NUD_PERMANENT}) {
    neighbour(NUD_FAILED, {});
    ASSERT_FALSE(hop().resolved);
    neighbour(static_cast<std::uint16_t>(state), kMac);
    EXPECT_TRUE(hop().resolved) << state;
    EXPECT_EQ(hop().mac, kMac);
  }
}

TEST_F(NextHopTableTest, entry_that_is_gone_or_asked_for_again_keeps_its_mac) {
  neighbour(NUD_REACHABLE, kMac);
  neighbour(NUD_NOARP, kMac, true);
  EXPECT_TRUE(hop().resolved);
  neighbour(NUD_INCOMPLETE, {});
  EXPECT_TRUE(hop().resolved);
  neighbour(NUD_REACHABLE, kOtherMac);
  EXPECT_EQ(hop().mac, kOtherMac);
}

TEST_F(NextHopTableTest, failed_neighbour_is_unresolved_and_says_why) {
  neighbour(NUD_REACHABLE, kMac);
  neighbour(NUD_FAILED, {});
  EXPECT_FALSE(hop().resolved);
  EXPECT_EQ(hop().text, "dev mr0, no answer to ARP");
}

TEST_F(NextHopTableTest, failing_counts_only_once_the_carrier_has_settled) {
  neighbour(NUD_REACHABLE, kMac);
  link(kTwin, "mr0", false);
  neighbour(NUD_FAILED, {});
  EXPECT_TRUE(hop().resolved);
  link(kTwin, "mr0", true);
  now_ += kCarrierSettle - seconds(1);
  neighbour(NUD_FAILED, {});
  EXPECT_TRUE(hop().resolved);
  now_ += seconds(1);
  neighbour(NUD_FAILED, {});
  EXPECT_FALSE(hop().resolved);
}

// What a change of the neighbour's state makes the kernel be asked for again.
TEST_F(NextHopTableTest, gateway_that_stops_or_begins_to_answer_has_ways_by_gateways_asked_again) {
  const auto reasked = [&](int state) {
    return table_.apply(NeighbourEvent{.link_index = kTwin,
                                       .address = ip("10.0.1.254"),
                                       .is_removed = false,
                                       .state = static_cast<std::uint16_t>(state),
                                       .mac = kMac},
                        now_);
  };
  EXPECT_EQ(reasked(NUD_INCOMPLETE), Reasked::none) << "no way goes by it";
  EXPECT_EQ(reasked(NUD_REACHABLE), Reasked::none);
  table_.set_route(ip("10.9.0.1"),
                   {.type = RTN_UNICAST, .link_index = kTwin, .gateway = ip("10.0.1.254")});
  EXPECT_EQ(reasked(NUD_INCOMPLETE), Reasked::behind_gateways);
  EXPECT_EQ(reasked(NUD_FAILED), Reasked::behind_gateways);
  EXPECT_EQ(reasked(NUD_INCOMPLETE), Reasked::none) << "the kernel asks a failed one again";
  EXPECT_EQ(reasked(NUD_REACHABLE), Reasked::behind_gateways);
  for (const int state : {NUD_STALE, NUD_DELAY, NUD_PROBE, NUD_REACHABLE}) {
    EXPECT_EQ(reasked(state), Reasked::none) << state;
  }
  EXPECT_EQ(reasked(NUD_FAILED), Reasked::behind_gateways);
}

// The kernel takes a dead gateway again once it has forgotten that nobody answered there.
TEST_F(NextHopTableTest, way_that_works_is_left_only_for_a_neighbour_that_answers_or_has_failed) {
  const IpAddress gateway = ip("10.0.1.253");
  const IpAddress other = ip("10.0.1.254");
  const auto go_by = [&](const IpAddress& router) {
    table_.set_route(target_, {.type = RTN_UNICAST, .link_index = kTwin, .gateway = router});
  };
  const auto neighbour_is = [&](const IpAddress& address, int state,
                                std::optional<MacAddress> mac = {}, bool is_removed = false) {
    (void)table_.apply(NeighbourEvent{.link_index = kTwin,
                                      .address = address,
                                      .is_removed = is_removed,
                                      .state = static_cast<std::uint16_t>(state),
                                      .mac = mac},
                       now_);
  };
  const auto router_of = [&] { return hop().text.substr(0, sizeof("via 10.0.1.253") - 1); };
  neighbour_is(other, NUD_REACHABLE, kMac);
  go_by(other);
  ASSERT_TRUE(hop().resolved);

  go_by(gateway);
  go_by(gateway);  // the same answer again decides nothing
  EXPECT_EQ(hop().mac, kMac);
  EXPECT_EQ(table_.neighbours_to_ask(), (std::vector<NeighbourKey>{{kTwin, gateway}}));
  neighbour_is(gateway, NUD_INCOMPLETE);
  EXPECT_EQ(router_of(), "via 10.0.1.254");
  neighbour_is(gateway, NUD_REACHABLE, kOtherMac);
  EXPECT_EQ(router_of(), "via 10.0.1.253");
  EXPECT_EQ(hop().mac, kOtherMac);

  go_by(other);  // known: at once
  EXPECT_EQ(router_of(), "via 10.0.1.254");
  neighbour_is(gateway, NUD_FAILED);
  neighbour_is(gateway, NUD_FAILED, {}, true);
  go_by(gateway);
  EXPECT_EQ(router_of(), "via 10.0.1.254");
  neighbour_is(gateway, NUD_FAILED);
  EXPECT_EQ(hop().text, "via 10.0.1.253 dev mr0, no answer to ARP");
  neighbour_is(gateway, NUD_INCOMPLETE);
  EXPECT_FALSE(hop().resolved) << "the kernel has no other";

  // What stops working meanwhile is not stayed at, and one that is never asked is not waited for.
  go_by(other);
  neighbour_is(gateway, NUD_FAILED, {}, true);
  go_by(gateway);
  neighbour_is(other, NUD_FAILED);
  EXPECT_EQ(hop().text, "via 10.0.1.253 dev mr0, not resolved yet");
  neighbour_is(other, NUD_REACHABLE, kMac);
  go_by(other);
  table_.set_route(target_, {.type = RTN_UNICAST, .link_index = kOther, .gateway = gateway});
  EXPECT_EQ(hop().text, "route leaves by eth5, which no engine drives");

  table_.set_twins({kTwin, kOther});
  EXPECT_EQ(router_of(), "via 10.0.1.254");
  link(kOther, "eth5", false);
  EXPECT_EQ(hop().text, "via 10.0.1.253 dev eth5, not resolved yet");
}

TEST_F(NextHopTableTest, mtu_of_the_route_counts_before_that_of_the_link) {
  const auto mtu_of = [&](std::uint32_t link_mtu, std::uint32_t route_mtu) {
    (void)table_.apply(
        LinkEvent{.link_index = kTwin, .name = "mr0", .has_carrier = true, .mtu = link_mtu}, now_);
    table_.set_route(target_, {.type = RTN_UNICAST, .link_index = kTwin, .mtu = route_mtu});
    return hop().mtu;
  };
  EXPECT_EQ(mtu_of(0, 0), 0);
  EXPECT_EQ(mtu_of(1500, 0), 1500);
  EXPECT_EQ(mtu_of(1500, 1400), 1400);
  EXPECT_EQ(mtu_of(65536, 0), 65535);
}

TEST_F(NextHopTableTest, source_is_what_the_kernel_would_send_from_but_never_link_local) {
  const auto source_of = [&](const std::string& source) {
    table_.set_route(target_, {.type = RTN_UNICAST, .link_index = kTwin, .source = ip(source)});
    return hop().source;
  };
  EXPECT_EQ(source_of("10.0.1.1"), ip("10.0.1.1"));
  EXPECT_EQ(source_of("2001:db8:1::1"), ip("2001:db8:1::1"));
  EXPECT_EQ(source_of("fe80::1"), std::nullopt);
}

TEST_F(NextHopTableTest, neighbours_to_ask_are_those_in_use_that_the_kernel_does_not_vouch_for) {
  const std::vector<NeighbourKey> this_one = {{.link_index = kTwin, .address = target_}};
  EXPECT_EQ(table_.neighbours_to_ask(), this_one);
  for (const int state :
       {NUD_INCOMPLETE, NUD_REACHABLE, NUD_DELAY, NUD_PROBE, NUD_PERMANENT, NUD_NOARP}) {
    neighbour(static_cast<std::uint16_t>(state), kMac);
    EXPECT_TRUE(table_.neighbours_to_ask().empty()) << state;
  }
  for (const int state : {NUD_STALE, NUD_FAILED, NUD_NONE}) {
    neighbour(static_cast<std::uint16_t>(state), kMac);
    EXPECT_EQ(table_.neighbours_to_ask(), this_one) << state;
  }
  link(kTwin, "mr0", false);
  EXPECT_TRUE(table_.neighbours_to_ask().empty());
  link(kTwin, "mr0", true);
  table_.forget(target_);
  EXPECT_TRUE(table_.neighbours_to_ask().empty());
}

TEST_F(NextHopTableTest, gateway_shared_by_two_targets_is_asked_for_until_both_are_gone) {
  const RouteAnswer by_gateway{
      .type = RTN_UNICAST, .link_index = kTwin, .gateway = ip("10.0.1.254")};
  table_.forget(target_);
  table_.set_route(ip("10.9.0.1"), by_gateway);
  table_.set_route(ip("10.9.0.2"), by_gateway);
  table_.set_route(ip("10.9.0.2"), by_gateway);
  EXPECT_EQ(table_.neighbours_to_ask().size(), 1U);
  table_.forget(ip("10.9.0.1"));
  EXPECT_EQ(table_.neighbours_to_ask().size(), 1U);
  table_.forget(ip("10.9.0.2"));
  EXPECT_EQ(table_.neighbours_to_ask().size(), 0U);
  EXPECT_EQ(table_.next_hop(ip("10.9.0.2")).text, "not looked up yet");
}

TEST_F(NextHopTableTest, routes_that_are_no_way_out_name_their_kind) {
  const auto text_of = [&](RouteAnswer answer) {
    table_.set_route(target_, answer);
    EXPECT_FALSE(hop().resolved);
    return hop().text;
  };
  EXPECT_EQ(text_of({.error = ENETUNREACH}), "no route: Network is unreachable");
  EXPECT_EQ(text_of({.type = RTN_LOCAL, .link_index = 1}), "an address of this node");
  EXPECT_EQ(text_of({.type = RTN_BLACKHOLE}), "the route is a blackhole");
  EXPECT_EQ(text_of({.type = RTN_UNREACHABLE}), "the route says unreachable");
  EXPECT_EQ(text_of({.type = RTN_PROHIBIT}), "the route says prohibited");
  EXPECT_EQ(text_of({.type = RTN_MULTICAST}), "not a unicast address");
  EXPECT_EQ(text_of({.type = RTN_UNICAST, .link_index = kOther}),
            "route leaves by eth5, which no engine drives");
  EXPECT_EQ(text_of({.type = RTN_UNICAST, .link_index = 99}),
            "route leaves by interface 99, which no engine drives");
}

TEST_F(NextHopTableTest, resync_keeps_macs_in_use_and_drops_the_rest) {
  neighbour(NUD_REACHABLE, kMac);
  (void)table_.apply(AddressEvent{.link_index = kTwin, .address = ip("10.0.1.1")}, now_);
  const NeighbourEvent unused{
      .link_index = kTwin, .address = ip("10.0.1.99"), .state = NUD_REACHABLE, .mac = kOtherMac};
  (void)table_.apply(unused, now_);
  table_.begin_resync();
  EXPECT_TRUE(hop().resolved);
  EXPECT_EQ(table_.neighbours_to_ask().size(), 1U);
  EXPECT_TRUE(table_.local_addresses().empty());
  table_.set_route(unused.address, {.type = RTN_UNICAST, .link_index = kTwin, .gateway = {}});
  EXPECT_FALSE(table_.next_hop(unused.address).resolved);
}

TEST_F(NextHopTableTest, local_addresses_list_twins_first_each_once_and_no_loopback) {
  const auto own = [&](std::uint32_t index, const std::string& text) {
    (void)table_.apply(AddressEvent{.link_index = index, .address = ip(text)}, now_);
  };
  link(1, "lo", true);
  for (const char* text : {"127.0.0.1", "::1", "192.0.2.7", "10.0.1.1"}) own(1, text);
  for (const char* text : {"10.0.1.1", "fe80::1"}) own(kTwin, text);
  for (const char* text : {"172.16.0.1", "fe80::2"}) own(kOther, text);
  const std::vector<IpAddress> expected = {ip("10.0.1.1"), ip("fe80::1"), ip("192.0.2.7"),
                                           ip("172.16.0.1")};
  EXPECT_EQ(table_.local_addresses(), expected);
}

TEST_F(NextHopTableTest, fault_71_macs_of_twins_and_of_macvlans_on_them_are_the_nodes_own) {
  constexpr MacAddress kTwinMac = {2, 0, 0, 0, 0, 1};
  constexpr MacAddress kVrrpMac = {0, 0, 0x5e, 0, 1, 0x33};
  const auto add = [&](std::uint32_t index, const std::string& name, const MacAddress& mac,
                       std::uint32_t lower_index, bool is_macvlan) {
    (void)table_.apply(LinkEvent{.link_index = index,
                                 .name = name,
                                 .mac = mac,
                                 .lower_index = lower_index,
                                 .is_macvlan = is_macvlan},
                       now_);
  };
  add(kTwin, "mr0", kTwinMac, 0, false);
  add(kOther, "eth5", kOtherMac, 0, false);
  add(6, "vrrp.51", kVrrpMac, kTwin, true);
  add(7, "vrrp.52", kOtherMac, kOther, true);  // on an interface that no engine drives
  add(8, "mr0.100", kOtherMac, kTwin, false);  // a VLAN: what is for it has a tag
  const std::vector<LocalMac> both = {{.twin_index = kTwin, .mac = kTwinMac},
                                      {.twin_index = kTwin, .mac = kVrrpMac}};
  EXPECT_EQ(table_.local_macs(), both);
  (void)table_.apply(LinkEvent{.link_index = 6, .name = "vrrp.51", .is_removed = true}, now_);
  add(kTwin, "mr0", kOtherMac, 0, false);
  EXPECT_EQ(table_.local_macs(), (std::vector<LocalMac>{{.twin_index = kTwin, .mac = kOtherMac}}));
}

TEST_F(NextHopTableTest, vlan_interface_on_a_twin_is_a_way_of_its_own) {
  constexpr std::uint32_t kVlan = 9;
  LinkEvent vlan{.link_index = kVlan,
                 .name = "mr0.10",
                 .has_carrier = true,
                 .mtu = 1400,
                 .mac = kOtherMac,
                 .lower_index = kTwin,
                 .is_up = true,
                 .vlan_id = 10};
  (void)table_.apply(vlan, now_);
  const VlanLink told{.link_index = kVlan, .twin_index = kTwin, .vlan_id = 10, .mac = kOtherMac};
  EXPECT_EQ(table_.vlans(), std::vector<VlanLink>{told});
  EXPECT_TRUE(table_.local_macs().empty()) << "told by vlans()";
  table_.set_route(target_, {.type = RTN_UNICAST, .link_index = kVlan, .gateway = {}});
  EXPECT_EQ(table_.neighbours_to_ask(),
            (std::vector<NeighbourKey>{{.link_index = kVlan, .address = target_}}));
  (void)table_.apply(
      NeighbourEvent{.link_index = kVlan, .address = target_, .state = NUD_REACHABLE, .mac = kMac},
      now_);
  EXPECT_TRUE(hop().resolved);
  EXPECT_EQ(hop().twin_index, kVlan);
  EXPECT_EQ(hop().mtu, 1400);
  (void)table_.apply(AddressEvent{.link_index = kVlan, .address = ip("fe80::9")}, now_);
  EXPECT_EQ(table_.local_addresses(), std::vector<IpAddress>{ip("fe80::9")});
  (void)table_.apply(LinkEvent{.link_index = 10,
                               .name = "vrrp.10",
                               .mac = kMac,
                               .lower_index = kVlan,
                               .is_macvlan = true},
                     now_);
  EXPECT_EQ(table_.local_macs(), (std::vector<LocalMac>{{.twin_index = kVlan, .mac = kMac}}));

  vlan.is_up = false;
  (void)table_.apply(vlan, now_);
  EXPECT_TRUE(table_.vlans().empty()) << "set down";
  EXPECT_FALSE(hop().resolved);
  vlan.is_up = true;
  (void)table_.apply(vlan, now_);
  EXPECT_EQ(table_.vlans().size(), 1u);
  table_.begin_resync();
  EXPECT_TRUE(table_.vlans().empty()) << "the dump tells of it again";
  vlan.lower_index = kOther;
  (void)table_.apply(vlan, now_);
  EXPECT_TRUE(table_.vlans().empty()) << "on an interface that no engine drives";
}

TEST_F(NextHopTableTest, own_addresses_name_their_twin_and_leave_out_what_no_host_may_be_told) {
  for (const char* text : {"10.0.1.1", "fe80::1", "2001:db8::1"}) {
    (void)table_.apply(AddressEvent{.link_index = kTwin, .address = ip(text)}, now_);
  }
  (void)table_.apply(AddressEvent{.link_index = 1, .address = ip("127.0.0.1")}, now_);
  (void)table_.apply(AddressEvent{.link_index = 1, .address = ip("10.255.0.1")}, now_);
  const std::vector<OwnAddress> told = {{.twin_index = 0, .address = ip("10.255.0.1")},
                                        {.twin_index = kTwin, .address = ip("10.0.1.1")},
                                        {.twin_index = kTwin, .address = ip("2001:db8::1")}};
  EXPECT_EQ(table_.own_addresses(), told);
  const auto add = [&](const char* text, AddressStanding standing) {
    (void)table_.apply(AddressEvent{.link_index = kTwin, .address = ip(text), .standing = standing},
                       now_);
  };
  add("5.5.5.5", AddressStanding::alone);
  add("10.0.0.9", AddressStanding::further);
  add("2000::77", AddressStanding::none);
  const std::vector<OwnAddress> more = {told[0],
                                        told[1],
                                        told[2],
                                        {.twin_index = kTwin, .address = ip("10.0.0.9")},
                                        {.twin_index = kTwin, .address = ip("5.5.5.5")}};
  EXPECT_EQ(table_.own_addresses(), more);
  add("2000::77", AddressStanding::first);  // no other host has it
  EXPECT_EQ(table_.own_addresses().at(2).address, ip("2000::77"));
}

TEST_F(NextHopTableTest, multicast_group_that_an_address_joined_is_no_address_of_the_node) {
  (void)table_.apply(AddressEvent{.link_index = kTwin, .address = ip("ff02::1:ff00:10")}, now_);
  EXPECT_TRUE(table_.local_addresses().empty());
}

}  // namespace
}  // namespace millrace::control
