// SPDX-License-Identifier: Apache-2.0
//
// NextHops against the real kernel: a node with a twin `mr0`, a second interface `other0` that no
// engine drives, and a peer behind each, in network namespaces of the test's own.
#include "controlplane/net/next_hops.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

#include "tests/support/cc/address.h"
#include "tests/unit/net/network.h"

namespace millrace::control {
namespace {

using test::ip;

using test::Host;
using test::OwnNamespace;
using MacBytes = std::array<std::uint8_t, 6>;

constexpr MacBytes kPeerMac = {0x02, 0, 0, 0, 0, 0x11};
constexpr MacBytes kMovedMac = {0x02, 0, 0, 0, 0, 0x22};
// For what the kernel does within a second or two; only a failing test waits this long.
constexpr std::chrono::seconds kPatience{10};

std::uint32_t index_of(const char* interface) { return ::if_nametoindex(interface); }

class NextHopsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = test::why_no_namespaces();
    if (!reason.empty()) GTEST_SKIP() << reason;
    node_.emplace();
    peer_.emplace();
    const std::string peer = std::to_string(peer_->pid());
    node_->run(
        "ip link set lo up\n"
        "ip link add mr0 type veth peer name up0 netns " +
        peer +
        "\n"
        "ip link add other0 type veth peer name up1 netns " +
        peer +
        "\n"
        "for i in mr0 other0; do echo 0 > /proc/sys/net/ipv6/conf/$i/accept_dad; done\n"
        // FAILED after 3 tries 200 ms apart, to be quick; the kernel's default is 1 s.
        "echo 200 > /proc/sys/net/ipv4/neigh/mr0/retrans_time_ms\n"
        "ip link set mr0 address 02:00:00:00:00:01 up\n"
        "ip link set other0 address 02:00:00:00:00:02 up\n"
        "ip address add 10.0.1.1/24 dev mr0\n"
        "ip address add 10.0.2.1/24 dev other0\n"
        "ip address add 2001:db8:1::1/64 dev mr0 nodad\n"
        "ip address add 192.0.2.7/32 dev lo\n");
    peer_->run(
        "for i in up0 up1; do echo 0 > /proc/sys/net/ipv6/conf/$i/accept_dad; done\n"
        "ip link set up0 address 02:00:00:00:00:11 up\n"
        "ip link set up1 up\n"
        "ip address add 10.0.1.11/24 dev up0\n"
        "ip address add 10.0.1.253/24 dev up0\n"
        "ip address add 10.0.1.254/24 dev up0\n"
        "ip address add 10.0.2.11/24 dev up1\n"
        "ip address add 2001:db8:1::11/64 dev up0 nodad\n"
        "ip address add 2001:db8:1::fe/64 dev up0 nodad\n"
        "ip address add 2001:db8:1::253/64 dev up0 nodad\n"
        "ip address add 2001:db8:1::254/64 dev up0 nodad\n"
        "ip address add fe80::fe/64 dev up0 nodad\n");
    auto opened = NextHops::open(io_, [this] { ++changes_; });
    ASSERT_TRUE(opened) << opened.error().message;
    next_hops_ = std::move(*opened);
    next_hops_->set_twins({index_of("mr0")});
  }

  // Runs the io_context until `is_true` or until patience ends; returns whether it became true.
  template <typename Predicate>
  [[nodiscard]] bool becomes_true(Predicate is_true, std::chrono::milliseconds limit = kPatience) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (!is_true()) {
      if (std::chrono::steady_clock::now() >= deadline) return false;
      io_.restart();
      io_.run_one_until(deadline);
    }
    return true;
  }

  NextHopInfo hop(const std::string& address) { return next_hops_->find(ip(address)).value(); }
  [[nodiscard]] bool resolves_to(const std::string& address, const MacBytes& mac) {
    return becomes_true([&] { return hop(address).resolved && hop(address).mac == mac; });
  }

  std::optional<OwnNamespace> node_;
  std::optional<Host> peer_;
  boost::asio::io_context io_;
  int changes_ = 0;
  std::unique_ptr<NextHops> next_hops_;
};

TEST_F(NextHopsTest, neighbour_on_the_link_is_asked_for_and_resolved) {
  next_hops_->watch({ip("10.0.1.11"), ip("2001:db8:1::11")});
  EXPECT_EQ(hop("10.0.1.11").text, "dev mr0, not resolved yet");
  EXPECT_EQ(changes_, 0);
  ASSERT_TRUE(resolves_to("10.0.1.11", kPeerMac));
  ASSERT_TRUE(resolves_to("2001:db8:1::11", kPeerMac));
  EXPECT_EQ(hop("10.0.1.11").text, "dev mr0 lladdr 02:00:00:00:00:11");
  EXPECT_EQ(hop("2001:db8:1::11").twin_index, index_of("mr0"));
  EXPECT_GT(changes_, 0);
}

TEST_F(NextHopsTest, interface_is_asked_for_by_number) {
  EXPECT_EQ(next_hops_->link_state(index_of("mr0")),
            (LinkState{.has_carrier = true, .has_xdp_program = false}));
  peer_->run("ip link set up0 down");
  EXPECT_FALSE(next_hops_->link_state(index_of("mr0")).has_carrier);
  EXPECT_EQ(next_hops_->link_state(0), LinkState{});
  EXPECT_EQ(next_hops_->link_state(99'999), LinkState{.is_gone = true});
  EXPECT_FALSE(next_hops_->link_state(index_of("mr0")).is_set_down);
  node_->run("ip link set mr0 down");
  EXPECT_TRUE(next_hops_->link_state(index_of("mr0")).is_set_down);
  EXPECT_EQ(next_hops_->problem(), "");
}

TEST_F(NextHopsTest, target_behind_a_gateway_gets_the_gateways_mac) {
  node_->run(
      "ip route add 10.9.0.0/16 via 10.0.1.254\n"
      "ip route add 2001:db8:9::/48 via fe80::fe dev mr0\n"
      "ip route add 10.8.0.0/16 via inet6 fe80::fe dev mr0\n");
  next_hops_->watch({ip("10.9.0.5"), ip("2001:db8:9::5"), ip("10.8.0.5")});
  ASSERT_TRUE(resolves_to("10.9.0.5", kPeerMac));
  ASSERT_TRUE(resolves_to("2001:db8:9::5", kPeerMac));
  ASSERT_TRUE(resolves_to("10.8.0.5", kPeerMac));
  EXPECT_EQ(hop("10.9.0.5").text, "via 10.0.1.254 dev mr0 lladdr 02:00:00:00:00:11");
  EXPECT_EQ(hop("10.8.0.5").text, "via fe80::fe dev mr0 lladdr 02:00:00:00:00:11");
}

TEST_F(NextHopsTest, neighbour_that_changes_its_mac_is_followed) {
  next_hops_->watch({ip("10.0.1.11")});
  ASSERT_TRUE(resolves_to("10.0.1.11", kPeerMac));
  // Announces itself, as a machine that took the address over does.
  peer_->run(
      "echo 1 > /proc/sys/net/ipv4/conf/up0/arp_notify\n"
      "ip link set up0 down\n"
      "ip link set up0 address 02:00:00:00:00:22 up\n");
  EXPECT_TRUE(resolves_to("10.0.1.11", kMovedMac));
}

TEST_F(NextHopsTest, neighbour_that_does_not_answer_stays_unresolved_until_it_does) {
  next_hops_->watch({ip("10.0.1.77")});
  ASSERT_TRUE(becomes_true([&] { return hop("10.0.1.77").text == "dev mr0, no answer to ARP"; }));
  EXPECT_FALSE(hop("10.0.1.77").resolved);
  peer_->run("ip address add 10.0.1.77/24 dev up0");
  EXPECT_TRUE(resolves_to("10.0.1.77", kPeerMac));
}

TEST_F(NextHopsTest, neighbour_that_dies_is_noticed_without_anybody_using_it) {
  // Entries go stale after 50-150 ms and are asked for while the peer has lost the address.
  node_->run(
      "echo 100 > /proc/sys/net/ipv4/neigh/mr0/base_reachable_time_ms\n"
      "echo 1 > /proc/sys/net/ipv4/neigh/mr0/delay_first_probe_time\n");
  next_hops_->watch({ip("10.0.1.11")});
  ASSERT_TRUE(resolves_to("10.0.1.11", kPeerMac));
  peer_->run("ip address del 10.0.1.11/24 dev up0");
  EXPECT_TRUE(becomes_true([&] { return !hop("10.0.1.11").resolved; }, std::chrono::seconds(20)));
}

TEST_F(NextHopsTest, route_by_another_interface_is_no_next_hop_and_says_so) {
  next_hops_->watch({ip("10.0.2.11"), ip("10.77.0.1"), ip("10.0.1.1")});
  EXPECT_EQ(hop("10.0.2.11").text, "route leaves by other0, which no engine drives");
  EXPECT_EQ(hop("10.77.0.1").text, "no route: Network is unreachable");
  EXPECT_EQ(hop("10.0.1.1").text, "an address of this node");
  EXPECT_FALSE(hop("10.0.2.11").resolved);
  next_hops_->set_twins({index_of("mr0"), index_of("other0")});
  EXPECT_TRUE(becomes_true([&] { return hop("10.0.2.11").resolved; }));
}

TEST_F(NextHopsTest, change_of_a_route_is_followed) {
  node_->run("ip route add 10.9.0.0/16 via 10.0.2.11\n");
  next_hops_->watch({ip("10.9.0.5")});
  EXPECT_EQ(hop("10.9.0.5").text, "route leaves by other0, which no engine drives");
  node_->run("ip route replace 10.9.0.0/16 via 10.0.1.254\n");
  ASSERT_TRUE(resolves_to("10.9.0.5", kPeerMac));
  node_->run("ip route replace blackhole 10.9.0.0/16\n");
  EXPECT_TRUE(becomes_true([&] { return !hop("10.9.0.5").resolved; }));
}

// The kernel passes over a gateway that does not answer, and tells of no change of a route.
struct Gateways {
  const char* what;
  const char* routes;  // to far destinations by two gateways, of which the peer has the addresses
  const char* prefix;  // of the destinations
  const char* near;    // of the gateways
};

class NextHopsOfGatewaysTest : public NextHopsTest,
                               public ::testing::WithParamInterface<Gateways> {};

TEST_P(NextHopsOfGatewaysTest, gateway_that_fails_is_passed_over_and_used_again_when_it_answers) {
  const auto [what, routes, prefix, near] = GetParam();
  node_->run(
      "echo 1 > /proc/sys/net/ipv4/fib_multipath_use_neigh\n"
      "echo 0 > /proc/sys/net/ipv6/conf/all/forwarding\n"
      "echo 200 > /proc/sys/net/ipv6/neigh/mr0/retrans_time_ms\n"
      "echo 100 > /proc/sys/net/ipv4/neigh/mr0/base_reachable_time_ms\n"
      "echo 100 > /proc/sys/net/ipv6/neigh/mr0/base_reachable_time_ms\n"
      "echo 1 > /proc/sys/net/ipv4/neigh/mr0/delay_first_probe_time\n"
      "echo 1 > /proc/sys/net/ipv6/neigh/mr0/delay_first_probe_time\n");
  node_->run(routes);
  const bool is_v4 = std::string(prefix).find(':') == std::string::npos;
  const std::string length = is_v4 ? "/24" : "/64";
  const auto gateway_in = [&](const std::string& text) {
    return text.substr(0, text.find(" dev")).substr(4);
  };
  std::vector<IpAddress> far;
  for (int i = 1; i <= 16; ++i) far.push_back(ip(prefix + std::to_string(i)));
  next_hops_->watch(far);
  const auto all_resolved = [&] {
    return std::ranges::all_of(far, [&](const auto& to) { return next_hops_->find(to)->resolved; });
  };
  const auto users_of = [&](const std::string& gateway) {
    return std::ranges::count_if(
        far, [&](const auto& to) { return gateway_in(next_hops_->find(to)->text) == gateway; });
  };
  ASSERT_TRUE(becomes_true(all_resolved)) << what;
  const std::string dying = near + std::string("253");
  const std::string other = near + std::string("254");
  const auto before = users_of(dying);
  ASSERT_GT(before, 0) << what;
  ASSERT_GT(users_of(other), 0) << what;

  peer_->run("ip address del " + dying + length + " dev up0");
  ASSERT_TRUE(becomes_true([&] { return users_of(dying) == 0 && all_resolved(); },
                           std::chrono::seconds(30)))
      << what;
  peer_->run("ip address add " + dying + length + " dev up0 " + (is_v4 ? "" : "nodad"));
  // As a router that is back does: it asks for whom it sends to.
  peer_->run("ping -c 1 -W 5 -I " + dying + " " + (is_v4 ? "10.0.1.1" : "2001:db8:1::1") +
             " > /dev/null");
  EXPECT_TRUE(becomes_true([&] { return users_of(dying) == before && all_resolved(); })) << what;
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, NextHopsOfGatewaysTest,
    ::testing::Values(
        Gateways{"IPv4", "ip route add 10.9.0.0/16 nexthop via 10.0.1.253 nexthop via 10.0.1.254\n",
                 "10.9.0.", "10.0.1."},
        Gateways{"IPv4, next hop objects",
                 "ip nexthop add id 1 via 10.0.1.253 dev mr0\n"
                 "ip nexthop add id 2 via 10.0.1.254 dev mr0\n"
                 "ip nexthop add id 3 group 1/2\n"
                 "ip route add 10.9.0.0/16 nhid 3\n",
                 "10.9.0.", "10.0.1."},
        Gateways{"IPv6",
                 "ip -6 route add 2001:db8:9::/48 nexthop via 2001:db8:1::253"
                 " nexthop via 2001:db8:1::254\n",
                 "2001:db8:9::", "2001:db8:1::"},
        Gateways{"IPv6, next hop objects",
                 "ip nexthop add id 1 via 2001:db8:1::253 dev mr0\n"
                 "ip nexthop add id 2 via 2001:db8:1::254 dev mr0\n"
                 "ip nexthop add id 3 group 1/2\n"
                 "ip -6 route add 2001:db8:9::/48 nhid 3\n",
                 "2001:db8:9::", "2001:db8:1::"}));

TEST_F(NextHopsTest, twin_that_loses_its_carrier_keeps_what_was_known) {
  next_hops_->watch({ip("10.0.1.11")});
  ASSERT_TRUE(resolves_to("10.0.1.11", kPeerMac));
  const int changes = changes_;
  peer_->run("ip link set up0 down\n");
  // The kernel flushes the neighbours of a link without carrier about a second later.
  EXPECT_FALSE(becomes_true([&] { return changes_ != changes; }, std::chrono::milliseconds(1800)));
  EXPECT_TRUE(hop("10.0.1.11").resolved);
  peer_->run("ip link set up0 up\n");
  EXPECT_FALSE(
      becomes_true([&] { return !hop("10.0.1.11").resolved; }, std::chrono::milliseconds(1800)));
}

TEST_F(NextHopsTest, twin_that_is_taken_down_has_no_next_hops) {
  next_hops_->watch({ip("10.0.1.11")});
  ASSERT_TRUE(resolves_to("10.0.1.11", kPeerMac));
  node_->run("ip link set mr0 down\n");
  EXPECT_TRUE(becomes_true([&] { return !hop("10.0.1.11").resolved; }));
  node_->run("ip link set mr0 up\n");
  EXPECT_TRUE(resolves_to("10.0.1.11", kPeerMac));
}

TEST_F(NextHopsTest, own_addresses_come_in_order_of_what_the_kernel_says_of_them) {
  node_->run(  // lower numbers, added later
      "ip address add 10.0.1.0/24 dev mr0; ip address add 5.5.5.5/32 dev mr0\n"
      "ip address add 2000::1/64 dev mr0 nodad preferred_lft 0\n"
      "ip address add 2000::2/64 dev mr0 nodad\n");
  const auto of_twin = [&] {
    std::vector<IpAddress> found;
    for (const OwnAddress& own : next_hops_->own_addresses()) {
      if (own.twin_index == index_of("mr0")) found.push_back(own.address);
    }
    return found;
  };
  const std::vector<IpAddress> wanted = {ip("10.0.1.1"), ip("2000::2"), ip("2001:db8:1::1"),
                                         ip("10.0.1.0"), ip("5.5.5.5")};
  EXPECT_TRUE(becomes_true([&] { return of_twin() == wanted; }));
}

TEST_F(NextHopsTest, renamed_twin_goes_on_whoever_gets_its_name) {
  next_hops_->watch({ip("10.0.1.11"), ip("10.0.2.11")});
  ASSERT_TRUE(resolves_to("10.0.1.11", kPeerMac));
  const std::uint32_t twin = index_of("mr0");
  const std::vector<LocalMac> own = {{.twin_index = twin, .mac = {2, 0, 0, 0, 0, 1}}};
  node_->run("ip link set mr0 name lan0 || (ip link set mr0 down; ip link set mr0 name lan0 up)\n");
  ASSERT_TRUE(
      becomes_true([&] { return hop("10.0.1.11").text == "dev lan0 lladdr 02:00:00:00:00:11"; }));
  EXPECT_EQ(hop("10.0.1.11").twin_index, twin);
  EXPECT_EQ(next_hops_->local_macs(), own);
  EXPECT_TRUE(next_hops_->link_state(twin).has_carrier);
  node_->run(
      "ip link set other0 name mr0 || (ip link set other0 down; ip link set other0 name mr0 up)\n");
  ASSERT_TRUE(becomes_true(
      [&] { return hop("10.0.2.11").text == "route leaves by mr0, which no engine drives"; }));
  EXPECT_TRUE(hop("10.0.1.11").resolved);
  EXPECT_EQ(next_hops_->local_macs(), own);
}

TEST_F(NextHopsTest, link_that_is_made_anew_is_not_the_twin_that_it_is_called_like) {
  next_hops_->watch({ip("10.0.1.11")});
  ASSERT_TRUE(resolves_to("10.0.1.11", kPeerMac));
  node_->run("ip link delete mr0\n");
  ASSERT_TRUE(becomes_true([&] { return !hop("10.0.1.11").resolved; }));
  node_->run("ip link add mr0 type veth peer name up0 netns " + std::to_string(peer_->pid()) +
             "\nip link set mr0 up\nip address add 10.0.1.1/24 dev mr0\n");
  peer_->run("ip link set up0 address 02:00:00:00:00:22 up\nip address add 10.0.1.11/24 dev up0\n");
  ASSERT_TRUE(becomes_true(
      [&] { return hop("10.0.1.11").text == "route leaves by mr0, which no engine drives"; }));
  next_hops_->set_twins({index_of("mr0")});
  EXPECT_TRUE(resolves_to("10.0.1.11", kMovedMac)) << "its engine says that it drives it";
}

TEST_F(NextHopsTest, mtu_and_source_are_the_kernels_and_followed) {
  node_->run("ip route add 10.9.0.0/16 via 10.0.1.254 mtu 1400\n");
  next_hops_->watch({ip("10.0.1.11"), ip("10.9.0.5"), ip("2001:db8:1::11")});
  EXPECT_EQ(hop("10.0.1.11").mtu, 1500);
  EXPECT_EQ(hop("10.9.0.5").mtu, 1400);
  EXPECT_EQ(hop("2001:db8:1::11").mtu, 1500);
  EXPECT_EQ(hop("10.0.1.11").source, ip("10.0.1.1"));
  EXPECT_EQ(hop("2001:db8:1::11").source, ip("2001:db8:1::1"));
  node_->run(
      "ip link set mr0 mtu 1450\n"
      "ip route replace 10.9.0.0/16 via 10.0.1.254 mtu 1300 src 192.0.2.7\n");
  EXPECT_TRUE(becomes_true([&] {
    return hop("10.0.1.11").mtu == 1450 && hop("2001:db8:1::11").mtu == 1450 &&
           hop("10.9.0.5").mtu == 1300 && hop("10.9.0.5").source == ip("192.0.2.7");
  }));
}

TEST_F(NextHopsTest, default_next_hop_follows_the_default_route_by_a_twin) {
  EXPECT_EQ(next_hops_->default_next_hop(AddressFamily::ipv4), std::nullopt);
  node_->run(
      "ip route add default via 10.0.1.254\n"
      "ip -6 route add default via 2001:db8:1::fe\n");
  ASSERT_TRUE(becomes_true([&] {
    return next_hops_->default_next_hop(AddressFamily::ipv4) &&
           next_hops_->default_next_hop(AddressFamily::ipv6);
  }));
  EXPECT_EQ(next_hops_->default_next_hop(AddressFamily::ipv4)->mac, kPeerMac);
  EXPECT_EQ(next_hops_->default_next_hop(AddressFamily::ipv6)->text,
            "via 2001:db8:1::fe dev mr0 lladdr 02:00:00:00:00:11");
  node_->run("ip route replace default via 10.0.2.11\n");
  EXPECT_TRUE(becomes_true([&] { return !next_hops_->default_next_hop(AddressFamily::ipv4); }));
}

TEST_F(NextHopsTest, local_addresses_are_those_that_the_kernel_takes_as_its_own) {
  const auto has = [&](const std::string& text) {
    const auto local = next_hops_->local_addresses();
    return std::find(local.begin(), local.end(), ip(text)) != local.end();
  };
  EXPECT_TRUE(has("10.0.1.1"));
  EXPECT_TRUE(has("2001:db8:1::1"));
  EXPECT_TRUE(has("fe80::ff:fe00:1"));
  EXPECT_TRUE(has("10.0.2.1"));
  EXPECT_TRUE(has("192.0.2.7"));
  EXPECT_FALSE(has("127.0.0.1"));
  EXPECT_FALSE(has("::1"));
  EXPECT_FALSE(has("fe80::ff:fe00:2"));
  node_->run("ip address add 10.0.1.2/24 dev mr0; ip address del 10.0.2.1/24 dev other0\n");
  EXPECT_TRUE(becomes_true([&] { return has("10.0.1.2") && !has("10.0.2.1"); }));
}

TEST_F(NextHopsTest, fault_71_macvlan_on_the_twin_and_a_changed_twin_are_learned_as_they_happen) {
  constexpr MacBytes kVrrpMac = {0, 0, 0x5e, 0, 1, 0x33};
  constexpr MacBytes kOwnMac = {2, 0, 0, 0, 0, 1};
  const std::vector<LocalMac> own = {{.twin_index = index_of("mr0"), .mac = kOwnMac}};
  EXPECT_EQ(next_hops_->local_macs(), own);
  node_->run("ip link add link mr0 name vrrp.51 address 00:00:5e:00:01:33 type macvlan\n");
  EXPECT_TRUE(becomes_true([&] {
    const auto macs = next_hops_->local_macs();
    return macs.size() == 2 && macs[1] == LocalMac{.twin_index = index_of("mr0"), .mac = kVrrpMac};
  }));
  node_->run("ip link delete vrrp.51; ip link set mr0 address 02:00:00:00:00:22\n");
  EXPECT_TRUE(becomes_true([&] {
    return next_hops_->local_macs() ==
           std::vector<LocalMac>{{.twin_index = index_of("mr0"), .mac = kMovedMac}};
  }));
}

TEST_F(NextHopsTest, fault_79_interface_of_an_own_address_is_named) {
  EXPECT_EQ(next_hops_->interface_of(ip("10.0.2.1")), "other0");
  EXPECT_EQ(next_hops_->interface_of(ip("2001:db8:1::1")), "mr0");
  EXPECT_EQ(next_hops_->interface_of(ip("192.0.2.7")), "lo");
  EXPECT_EQ(next_hops_->interface_of(ip("203.0.113.10")), "");
}

TEST_F(NextHopsTest, address_that_is_no_longer_watched_is_forgotten) {
  next_hops_->watch({ip("10.0.1.11"), ip("10.0.1.254")});
  next_hops_->watch({ip("10.0.1.254")});
  EXPECT_EQ(next_hops_->find(ip("10.0.1.11")), std::nullopt);
  EXPECT_TRUE(resolves_to("10.0.1.254", kPeerMac));
}

// Sum of the drop counts of this process's netlink route sockets.
long overruns() {
  std::ifstream table("/proc/self/net/netlink");
  std::string line;
  std::getline(table, line);
  long sum = 0;
  while (std::getline(table, line)) {
    std::istringstream fields(line);
    std::string ignored;
    long drops = 0;
    for (int i = 0; i < 8; ++i) fields >> ignored;
    fields >> drops;
    sum += drops;
  }
  return sum;
}

TEST_F(NextHopsTest, events_lost_to_an_overrun_are_made_up_for) {
  next_hops_->watch({ip("10.0.1.11"), ip("10.9.0.5")});
  ASSERT_TRUE(resolves_to("10.0.1.11", kPeerMac));
  // Far more events than the socket holds, unread; then the changes that would be missed.
  node_->run(
      "for i in $(seq 0 39); do for j in $(seq 0 249); do\n"
      "echo route add 10.100.$i.$j/32 via 10.0.1.254; done; done > /tmp/millrace-routes.$$\n"
      "ip -batch /tmp/millrace-routes.$$ || { rm /tmp/millrace-routes.$$; exit 1; }\n"
      "rm /tmp/millrace-routes.$$\n"
      "ip route add 10.9.0.0/16 via 10.0.1.254\n"
      "ip neigh replace 10.0.1.11 lladdr 02:00:00:00:00:22 nud permanent dev mr0\n"
      "ip address add 10.0.1.3/24 dev mr0\n");
  ASSERT_GT(overruns(), 0);
  ASSERT_TRUE(resolves_to("10.9.0.5", kPeerMac));
  ASSERT_TRUE(resolves_to("10.0.1.11", kMovedMac));
  const auto local = next_hops_->local_addresses();
  EXPECT_NE(std::find(local.begin(), local.end(), ip("10.0.1.3")), local.end());
  EXPECT_EQ(next_hops_->problem(), "");
}

// Whoever asks the kernel may find it without memory.
void break_socket_of_questions() {
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    const int fd = std::stoi(entry.path().filename());
    int protocol = -1;
    socklen_t bytes = sizeof(protocol);
    const bool is_route = ::getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &bytes) == 0 &&
                          protocol == NETLINK_ROUTE;
    int domain = -1;
    (void)::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes);
    const bool is_monitor = (::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0;
    if (!is_route || domain != AF_NETLINK || is_monitor) continue;
    const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    ASSERT_EQ(::dup2(nothing, fd), fd);
    (void)::close(nothing);
    return;
  }
  FAIL() << "no such socket";
}

TEST_F(NextHopsTest, question_that_failed_is_asked_again_and_is_a_problem_until_then) {
  break_socket_of_questions();
  next_hops_->watch({ip("10.0.1.11")});
  EXPECT_EQ(hop("10.0.1.11").text, "not looked up yet");
  EXPECT_NE(next_hops_->problem(), "");
  ASSERT_TRUE(resolves_to("10.0.1.11", kPeerMac));
  EXPECT_EQ(next_hops_->problem(), "");
}

TEST_F(NextHopsTest, interface_that_could_not_be_asked_for_is_a_problem_until_it_can) {
  break_socket_of_questions();
  (void)next_hops_->link_state(index_of("mr0"));
  EXPECT_NE(next_hops_->problem(), "");
  EXPECT_FALSE(next_hops_->link_state(index_of("mr0")).is_gone);
  EXPECT_EQ(next_hops_->problem(), "");
}

}  // namespace
}  // namespace millrace::control
