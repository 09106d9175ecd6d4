// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/bond.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rte_eal.h>
#include <rte_eth_bond_8023ad.h>
#include <rte_eth_ring.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "dataplane/dpdk/bond_turn.h"
#include "dataplane/dpdk/mbuf_burst.h"
#include "dataplane/dpdk/nic.h"
#include "tests/integration/dpdk/environment.h"

namespace millrace::dpdk {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

// A device that receives as many frames as are asked for, and sends without end.
std::string make_device(const std::string& stem = "net_null") {
  const std::string name = test::unique_name(stem);
  EXPECT_EQ(::rte_eal_hotplug_add("vdev", name.c_str(), ""), 0);
  return name;
}

std::string refusal(const std::string& device) {
  const MbufPool pool = test::make_pool();
  const auto nic = Nic::open({.device = device}, pool);
  return nic ? "" : nic.error().message;
}

TEST(Bond, name_says_its_mode_and_members) {
  EXPECT_FALSE(is_bond("bond0"));
  EXPECT_FALSE(is_bond("0000:03:00.0"));
  EXPECT_FALSE(Nic::is_interface("bond:0000:03:00.0"));
  const auto lacp = parse_bond("bond:0000:03:00.0,0000:03:00.1");
  ASSERT_TRUE(lacp);
  EXPECT_TRUE(lacp->has_lacp);
  EXPECT_THAT(lacp->members, ElementsAre("0000:03:00.0", "0000:03:00.1"));
  const auto backup = parse_bond("bond-active-backup:0000:03:00.0,0000:03:00.1,0000:04:00.0");
  ASSERT_TRUE(backup);
  EXPECT_FALSE(backup->has_lacp);
  EXPECT_EQ(backup->members.size(), 3u);
  EXPECT_THAT(parts_of("bond:0000:03:00.0,0000:03:00.1"),
              ElementsAre("0000:03:00.0", "0000:03:00.1"));
  EXPECT_THAT(parts_of("net_pcap0,rx_pcap=in.pcap"), ElementsAre("net_pcap0,rx_pcap=in.pcap"));
}

TEST(Bond, what_is_none_is_refused_with_the_reason) {
  EXPECT_THAT(refusal("bond:0000:03:00.0"), HasSubstr("has one member only"));
  EXPECT_THAT(refusal("bond:0000:03:00.0,0000:03:00.0"),
              HasSubstr("its member 0000:03:00.0 twice"));
  EXPECT_THAT(refusal("bond:eth1,eth2"), HasSubstr("its member 'eth1' is no PCI address"));
  EXPECT_THAT(refusal("bond:0000:03:00.0,"), HasSubstr("its member '' is no PCI address"));
  EXPECT_THAT(refusal("bond:0000:03:00.0,0000:03:0A.0"),
              HasSubstr("its member '0000:03:0A.0': is no PCI address as the kernel writes it"));
  EXPECT_THAT(refusal("bond:" + make_device() + ",net_none0"),
              HasSubstr("member net_none0: DPDK has no such device"));
  EXPECT_THAT(refusal("bond:ffff:03:00.0,ffff:03:00.1"),
              HasSubstr("member ffff:03:00.0: there is no such PCI device"));
  EXPECT_THAT(refusal("bond:" + make_device() + "," + make_device("net_ring")),
              HasSubstr("its members are of different kinds"));
}

TEST(Bond, member_of_one_bond_is_refused_by_another) {
  const MbufPool pool = test::make_pool();
  const std::string first = make_device();
  const auto nic = Nic::open({.device = "bond:" + first + "," + make_device(), .index = 1}, pool);
  ASSERT_TRUE(nic) << nic.error().message;
  const auto other = Nic::open({.device = "bond:" + make_device() + "," + first, .index = 2}, pool);
  ASSERT_FALSE(other);
  EXPECT_THAT(other.error().message, HasSubstr("DPDK does not take its member " + first));
}

TEST(Bond, goes_on_without_a_pci_device_that_is_gone_and_names_it) {
  const MbufPool pool = test::make_pool();
  const core::MacAddr known{{0x02, 0, 0, 0, 0, 0x55}};
  const auto nic = Nic::open({.device = "bond-active-backup:ffff:03:00.0," + make_device(),
                              .index = 6,
                              .known_mac = known},
                             pool);
  ASSERT_TRUE(nic) << nic.error().message;
  EXPECT_THAT((*nic)->bond()->idle_members(),
              Contains(AllOf(Field(&IdleMember::name, "ffff:03:00.0"),
                             Field(&IdleMember::why, HasSubstr("no such PCI device")))));
  EXPECT_EQ((*nic)->bond()->members().size(), 1u);
  EXPECT_EQ((*nic)->mac(), known) << "as the neighbours know it";
  for (int wait = 0; wait < 300 && !(*nic)->link_is_up(); ++wait) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE((*nic)->link_is_up());
}

TEST(Bond, has_a_queue_for_each_worker_and_the_driver_of_its_members) {
  const MbufPool pool = test::make_pool();
  const NicOptions options = {
      .device = "bond:" + make_device() + "," + make_device(), .index = 3, .worker_count = 2};
  EXPECT_EQ(Nic::expected_queue_count(options), 2u);
  const auto nic = Nic::open(options, pool);
  ASSERT_TRUE(nic) << nic.error().message;
  EXPECT_EQ((*nic)->name(), "bond:3");
  EXPECT_EQ((*nic)->driver(), "net_null");
  EXPECT_EQ((*nic)->rx_queues().size(), 2u);
  EXPECT_EQ((*nic)->tx_queue_count(), 2u);
  EXPECT_FALSE((*nic)->link_is_up()) << "no switch has agreed";
  EXPECT_EQ((*nic)->bond()->idle_members().size(), 2u);
}

TEST(Bond, frames_of_lacp_leave_though_there_is_nothing_to_send) {
  const MbufPool pool = test::make_pool();
  const auto nic =
      Nic::open({.device = "bond:" + make_device() + "," + make_device(), .index = 5}, pool);
  ASSERT_TRUE(nic) << nic.error().message;
  const Bond& bond = *(*nic)->bond();
  const auto sent = [&] {
    rte_eth_stats stats{};
    EXPECT_EQ(::rte_eth_stats_get(bond.device(), &stats), 0);
    return stats.opackets;
  };
  BondTurn turn(bond, (*nic)->tx_queue(0), {});
  // DPDK's own thread finds the members' link and has something to say, within 100 ms each.
  for (int wait = 0; wait < 300 && sent() < bond.members().size(); ++wait) {
    turn.run();
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_GE(sent(), bond.members().size());
}

// A member whose other end is a switch that agrees to all that LACP says.
class Cable {
 public:
  explicit Cable(std::uint8_t switch_number) : switch_number_(switch_number) {
    const int device = ::rte_eth_from_rings(test::unique_name("cable").c_str(), &towards_, 1,
                                            &away_, 1, static_cast<unsigned>(SOCKET_ID_ANY));
    std::array<char, RTE_ETH_NAME_MAX_LEN> name{};
    EXPECT_EQ(::rte_eth_dev_get_name_by_port(static_cast<std::uint16_t>(device), name.data()), 0);
    name_ = name.data();
  }

  [[nodiscard]] const std::string& name() const { return name_; }

  void answer() const {
    void* sent = nullptr;
    while (::rte_ring_dequeue(away_, &sent) == 0) {
      auto* mbuf = static_cast<rte_mbuf*>(sent);
      auto& lacp = rte_pktmbuf_mtod(mbuf, lacpdu_header*)->lacpdu;
      lacp.partner.port_params = lacp.actor.port_params;
      lacp.partner.state = lacp.actor.state;
      lacp.actor.port_params.system = {{0x02, 0, 0, 0, 0x99, switch_number_}};
      lacp.actor.state = STATE_LACP_ACTIVE | STATE_AGGREGATION | STATE_SYNCHRONIZATION |
                         STATE_COLLECTING | STATE_DISTRIBUTING;
      EXPECT_EQ(::rte_ring_enqueue(towards_, sent), 0);
    }
  }

 private:
  static rte_ring* make_ring() {
    rte_ring* ring = ::rte_ring_create(test::unique_name("wire").c_str(), 1024, SOCKET_ID_ANY, 0);
    EXPECT_NE(ring, nullptr);
    return ring;
  }

  std::uint8_t switch_number_;
  rte_ring* towards_ = make_ring();
  rte_ring* away_ = make_ring();
  std::string name_;
};

// What a bond of two cables says of its members, once both carry.
std::vector<IdleMember> idle_members_of(std::uint8_t index, const Cable& first,
                                        const Cable& second) {
  const MbufPool pool = test::make_pool();
  const auto nic =
      Nic::open({.device = "bond:" + first.name() + "," + second.name(), .index = index}, pool);
  EXPECT_TRUE(nic) << nic.error().message;
  const Bond& bond = *(*nic)->bond();
  BondTurn turn(bond, (*nic)->tx_queue(0), {});
  const auto carries = [&](std::uint16_t member) {
    struct rte_eth_bond_8023ad_slave_info lacp {};
    return ::rte_eth_bond_8023ad_slave_info(bond.device(), member, &lacp) == 0 &&
           (lacp.actor_state & STATE_DISTRIBUTING) != 0;
  };
  for (int wait = 0; wait < 3000 && !std::ranges::all_of(bond.members(), carries); ++wait) {
    turn.run();
    first.answer();
    second.answer();
    std::array<Mbuf*, 8> mbufs;
    free_mbufs(std::span(mbufs).first((*nic)->rx_queues()[0].receive(mbufs)));
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(std::ranges::all_of(bond.members(), carries));
  return bond.idle_members();
}

TEST(Bond, members_at_switches_that_do_not_act_as_one_are_named) {
  EXPECT_THAT(idle_members_of(7, Cable(1), Cable(1)), IsEmpty());
  const Cable first(1);
  const Cable other(2);
  EXPECT_THAT(idle_members_of(8, first, other),
              ElementsAre(AllOf(
                  Field(&IdleMember::name, other.name()),
                  Field(&IdleMember::why, HasSubstr("in another channel than " + first.name())))));
}

TEST(Bond, with_active_backup_the_first_member_carries_and_the_others_are_emptied) {
  const MbufPool pool = test::make_pool();
  const std::string first = make_device();
  const std::string second = make_device();
  const auto nic =
      Nic::open({.device = "bond-active-backup:" + first + "," + second, .index = 4}, pool);
  ASSERT_TRUE(nic) << nic.error().message;
  const Bond& bond = *(*nic)->bond();
  EXPECT_EQ(bond.carrier(), bond.members()[0]);

  const auto received_by = [&](std::size_t member) {
    rte_eth_stats stats{};
    EXPECT_EQ(::rte_eth_stats_get(bond.members()[member], &stats), 0);
    return stats.ipackets;
  };
  std::array<Mbuf*, 8> mbufs;
  ASSERT_EQ((*nic)->rx_queues()[0].receive(mbufs), mbufs.size());
  free_mbufs(mbufs);
  EXPECT_EQ(received_by(0), 8u);
  EXPECT_EQ(received_by(1), 0u);
  BondTurn turn(bond, (*nic)->tx_queue(0),
                {(*nic)->rx_queues().begin(), (*nic)->rx_queues().end()});
  const std::uint32_t free_before = pool.available();
  turn.run();
  EXPECT_EQ(received_by(0), 8u);
  EXPECT_EQ(received_by(1), core::kBurstMax);
  EXPECT_EQ(pool.available(), free_before);
}

}  // namespace
}  // namespace millrace::dpdk
