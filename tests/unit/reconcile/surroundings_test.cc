// SPDX-License-Identifier: Apache-2.0
#include "controlplane/reconcile/surroundings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "dataplane/core/wire.h"
#include "tests/support/cc/address.h"
#include "tests/support/cc/fake_node.h"
#include "tests/support/cc/temp_dir.h"
#include "tests/unit/reconcile/fake_engine.h"

namespace millrace::control {
namespace {

using test::FakeEngine;
using test::ip;

class SurroundingsTest : public ::testing::Test {
 protected:
  SurroundingsTest() {
    engine_.beat(kOpened);
    (void)watch_.poll(kOpened, [](std::uint32_t) { return LinkState{}; });
    target_.key = {.group = "web", .address = ip("10.0.1.11"), .port = 8080};
    target_.id = 5;
    before_target_.id = 5;
    before_target_.mtu = 1400;
    before_target_.next_hop.flags = MR_NEXT_HOP_RESOLVED;
    before_target_.next_hop.mac[5] = 1;
    image_.encap_source_v4.addr = ip("10.0.0.1").addr;
    in_force_.image = &image_;
    in_force_.targets = {&before_target_, 1};
    in_force_.local_addrs = {&before_addr_, 1};
  }
  void resolve(std::uint32_t twin_index) {
    node_.next_hops[target_.key.address] = {.twin_index = twin_index,
                                            .mac = {2, 0, 0, 0, 0, 9},
                                            .resolved = true,
                                            .mtu = 1500,
                                            .source = ip("10.0.0.2"),
                                            .text = ""};
  }
  WayToTarget way(std::uint64_t now_ns) const {
    return reader_.way_to_targets(in_force_, now_ns)(target_, group_);
  }

  static constexpr std::uint64_t kOpened = 1000 * kSecondNs;
  static constexpr std::uint64_t kLater = kOpened + SurroundingsReader::kGraceNs;
  test::TempDir dir_;
  test::FakeNode node_;
  FakeEngine engine_{dir_.path()};
  EngineWatch watch_{dir_.path()};
  PathMtus path_mtus_;
  SurroundingsReader reader_{node_, path_mtus_, watch_, kOpened};
  GroupState group_;
  TargetRecord target_;
  mr_target before_target_{};
  mr_addr before_addr_ = ip("10.0.0.1").addr;
  mr_image image_{};
  core::ConfigView in_force_;
};

TEST_F(SurroundingsTest, image_in_force_stands_in_until_the_kernel_has_had_time_to_answer) {
  EXPECT_EQ(way(kLater - 1).next_hop.mac[5], 1);
  EXPECT_EQ(way(kLater - 1).mtu, 1400);
  EXPECT_EQ(way(kLater).next_hop.flags & MR_NEXT_HOP_RESOLVED, 0);
  resolve(FakeEngine::kTwinIndex);
  EXPECT_EQ(way(kOpened).next_hop.mac[5], 9) << "the kernel's word is the newer one";
  EXPECT_EQ(way(kLater).mtu, 1500);
}

TEST_F(SurroundingsTest, slot_of_another_target_stands_in_for_nobody) {
  before_target_.id = 4;
  EXPECT_EQ(way(kOpened).next_hop.flags & MR_NEXT_HOP_RESOLVED, 0);
}

TEST_F(SurroundingsTest, way_by_an_interface_that_the_engine_does_not_drive_is_none) {
  resolve(FakeEngine::kTwinIndex + 1);
  EXPECT_EQ(way(kLater).next_hop.flags & MR_NEXT_HOP_RESOLVED, 0);
}

TEST_F(SurroundingsTest, own_addresses_are_the_kernels_as_soon_as_it_tells_some) {
  const ControlState state;
  EXPECT_EQ(IpAddress{reader_.read(state, in_force_, kOpened).local_addrs.at(0)}, ip("10.0.0.1"));
  EXPECT_TRUE(reader_.read(state, in_force_, kLater).local_addrs.empty());
  node_.local_addrs = {ip("10.0.0.7")};
  EXPECT_EQ(IpAddress{reader_.read(state, in_force_, kOpened).local_addrs.at(0)}, ip("10.0.0.7"));
  node_.own_macs = {{.twin_index = FakeEngine::kTwinIndex, .mac = {2, 1}}, {.twin_index = 99}};
  EXPECT_EQ(reader_.read(state, in_force_, kLater).local_macs.size(), 1u) << "of the engine's nics";
}

TEST_F(SurroundingsTest, vlan_keeps_its_slot_while_others_come_and_go) {
  ControlState state;
  std::vector<mr_vlan> vlans;
  const auto read = [&] {
    in_force_.vlans = vlans;
    Surroundings around = reader_.read(state, in_force_, kLater);
    vlans = around.vlans;
    return around;
  };
  const auto link = [](std::uint32_t index, std::uint16_t id) {
    return VlanLink{.link_index = index,
                    .twin_index = FakeEngine::kTwinIndex,
                    .vlan_id = id,
                    .mac = {2, 0, 0, 0, 0, 7}};
  };
  node_.vlan_links = {link(30, 10), link(31, 20), {.link_index = 32, .twin_index = 99}};
  node_.addresses = {{.twin_index = 31, .address = ip("10.0.20.1")}};
  resolve(31);
  Surroundings around = read();
  ASSERT_EQ(around.vlans.size(), 2u) << "on nics of the engine";
  EXPECT_EQ(around.vlans[1].tag, core::to_be32(0x81000014));
  EXPECT_EQ(around.vlans[1].nic, 0);
  EXPECT_EQ(IpAddress{around.vlans[1].addrs.v4}, ip("10.0.20.1"));
  EXPECT_EQ(around.way_to(target_, group_).next_hop.nic, MR_NIC_COUNT_MAX + 1);
  EXPECT_EQ(way(kLater).next_hop.flags, 0) << "not in force yet";
  in_force_.vlans = vlans;
  EXPECT_EQ(way(kLater).next_hop.nic, MR_NIC_COUNT_MAX + 1);

  node_.vlan_links = {link(33, 30), link(31, 20)};
  around = read();
  ASSERT_EQ(around.vlans.size(), 3u);
  EXPECT_EQ(around.vlans[0].flags, 0) << "gone, and its slot is nobody else's";
  EXPECT_EQ(around.vlans[2].tag, core::to_be32(0x8100001e));
  node_.vlan_links = {link(40, 10)};
  around = read();
  EXPECT_EQ(around.vlans[0].link_index, 40u) << "made again";
  EXPECT_EQ(around.vlans[0].flags, MR_VLAN_PRESENT);
  EXPECT_EQ(around.vlans[1].flags, 0);
  EXPECT_EQ(around.way_to(target_, group_).next_hop.flags, 0);
}

TEST_F(SurroundingsTest, slots_of_vlans_that_are_gone_are_used_again_when_no_other_is_left) {
  ControlState state;
  std::vector<mr_vlan> vlans;
  for (std::uint16_t id = 1; id <= MR_VLAN_COUNT_MAX + 2; ++id) {
    node_.vlan_links.push_back({.link_index = id + 100u,
                                .twin_index = FakeEngine::kTwinIndex,
                                .vlan_id = id,
                                .mac = {2, 0, 0, 0, 0, 7}});
  }
  vlans = reader_.read(state, in_force_, kLater).vlans;
  ASSERT_EQ(vlans.size(), MR_VLAN_COUNT_MAX);
  in_force_.vlans = vlans;
  node_.vlan_links.erase(node_.vlan_links.begin() + 4);
  const std::vector<mr_vlan> after = reader_.read(state, in_force_, kLater).vlans;
  EXPECT_EQ(after[3].tag, vlans[3].tag);
  EXPECT_EQ(after[4].tag, core::to_be32(0x81000000 | (MR_VLAN_COUNT_MAX + 1)));
}

TEST_F(SurroundingsTest, nic_has_an_address_of_its_twin_else_any_of_the_node_but_no_vip) {
  ControlState state;
  state.vips[ip("10.0.0.1")] = {};
  image_.nic_addrs[0].v4 = ip("10.9.9.9").addr;
  const auto addrs = [&](std::uint64_t now_ns, std::size_t nic) {
    return reader_.read(state, in_force_, now_ns).nic_addrs.at(nic);
  };
  EXPECT_EQ(IpAddress{addrs(kOpened, 0).v4}, ip("10.9.9.9")) << "as before";
  EXPECT_EQ(IpAddress{addrs(kLater, 0).v4}, IpAddress{}) << "none";
  node_.addresses = {{.twin_index = 0, .address = ip("10.0.5.1")},
                     {.twin_index = 0, .address = ip("2001:db8::5")},
                     {.twin_index = FakeEngine::kTwinIndex, .address = ip("10.0.0.1")},
                     {.twin_index = FakeEngine::kTwinIndex, .address = ip("10.0.0.7")},
                     {.twin_index = FakeEngine::kTwinIndex, .address = ip("10.0.0.8")}};
  EXPECT_EQ(IpAddress{addrs(kOpened, 0).v4}, ip("10.0.0.7"));
  EXPECT_EQ(IpAddress{addrs(kOpened, 0).v6}, ip("2001:db8::5"));
  EXPECT_EQ(IpAddress{addrs(kOpened, 1).v4}, ip("10.0.5.1")) << "a nic without a twin's address";
  node_.default_v4 = {.twin_index = FakeEngine::kTwinIndex,
                      .mac = {},
                      .resolved = true,
                      .mtu = 0,
                      .source = ip("10.0.0.8"),
                      .text = ""};
  EXPECT_EQ(IpAddress{addrs(kOpened, 0).v4}, ip("10.0.0.8")) << "what clients are answered from";
  EXPECT_EQ(IpAddress{addrs(kOpened, 1).v4}, ip("10.0.5.1"));
  node_.default_v4->source = ip("10.0.0.1");
  EXPECT_EQ(IpAddress{addrs(kOpened, 0).v4}, ip("10.0.0.7")) << "a VIP is none";
}

TEST_F(SurroundingsTest, addresses_in_force_stay_while_nobody_tells_which_nics_the_engine_has) {
  const test::TempDir unreadable;
  ASSERT_EQ(::mkdir(unreadable.file("stats").c_str(), 0700), 0);
  EngineWatch unseen(unreadable.path());
  (void)unseen.poll(kLater, [](std::uint32_t) { return LinkState{}; });
  ASSERT_TRUE(unseen.is_unseen());
  image_.nic_addrs[0].v4 = ip("10.9.9.9").addr;
  node_.addresses = {{.twin_index = FakeEngine::kTwinIndex, .address = ip("10.0.0.7")}};
  const SurroundingsReader reader(node_, path_mtus_, unseen, kOpened);
  const ControlState state;
  EXPECT_EQ(IpAddress{reader.read(state, in_force_, kLater).nic_addrs.at(0).v4}, ip("10.9.9.9"));
}

TEST_F(SurroundingsTest, encapsulated_packets_are_sent_from_what_is_named_or_the_kernel_would_use) {
  ControlState state;
  state.groups["web"].settings.forwarding = Forwarding::ipip;
  state.groups["web"].targets.emplace(target_.key, target_);
  const auto source = [&](std::uint64_t now_ns) {
    return IpAddress{reader_.read(state, in_force_, now_ns).encap_source_v4.addr};
  };
  EXPECT_EQ(source(kOpened), ip("10.0.0.1")) << "as before";
  EXPECT_EQ(source(kLater), IpAddress{}) << "none";
  resolve(FakeEngine::kTwinIndex);
  EXPECT_EQ(source(kOpened), ip("10.0.0.2"));
  state.node.encap_source_v4 = EncapSource::parse("10.0.0.3");
  EXPECT_EQ(source(kOpened), ip("10.0.0.3"));
}

}  // namespace
}  // namespace millrace::control
