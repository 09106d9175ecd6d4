// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/nic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "dataplane/dpdk/exception_path.h"
#include "dataplane/dpdk/mbuf_burst.h"
#include "dataplane/dpdk/queue_plan.h"
#include "tests/integration/dpdk/environment.h"

namespace millrace::dpdk {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(Nic, missing_interface_is_named) {
  const MbufPool pool = test::make_pool();
  const auto nic = Nic::open({.device = "no-such-if0"}, pool);
  ASSERT_FALSE(nic);
  EXPECT_EQ(nic.error().message,
            "nic no-such-if0: no such interface in this network namespace (ip link show)");
}

TEST(Nic, interface_with_too_few_queues_says_how_to_get_more) {
  const MbufPool pool = test::make_pool();
  const auto nic = Nic::open({.device = "lo", .queue_count = 2}, pool);  // has one
  ASSERT_FALSE(nic);
  EXPECT_EQ(nic.error().message,
            "nic lo: has 1 rx queue, 2 were asked for; leave --queues out, or, if its driver has "
            "so many: ethtool -L lo rx 2 "
            "tx 2");
}

TEST(Nic, missing_pci_device_says_what_to_look_at) {
  const MbufPool pool = test::make_pool();
  const auto nic = Nic::open({.device = "0000:ff:1f.7"}, pool);
  ASSERT_FALSE(nic);
  EXPECT_THAT(nic.error().message, StartsWith("nic 0000:ff:1f.7: there is no such PCI device"));
}

TEST(Nic, unknown_virtual_device_is_an_error_with_the_reason) {
  const MbufPool pool = test::make_pool();
  const auto nic = Nic::open({.device = "net_nonsense0"}, pool);
  ASSERT_FALSE(nic);
  EXPECT_THAT(nic.error().message,
              StartsWith("nic net_nonsense0: cannot make this virtual device"));
}

TEST(Nic, too_few_rx_queues_are_an_error) {
  const MbufPool pool = test::make_pool();
  const auto nic = Nic::open({.device = test::unique_name("net_null"), .queue_count = 5000}, pool);
  ASSERT_FALSE(nic);
  EXPECT_THAT(nic.error().message, HasSubstr("5000 were asked for"));
}

TEST(Nic, virtual_device_with_several_queues_opens) {
  const MbufPool pool = test::make_pool();
  const auto nic = Nic::open(
      {.device = test::unique_name("net_null"), .index = 3, .queue_count = 4, .worker_count = 4},
      pool);
  ASSERT_TRUE(nic) << nic.error().message;
  EXPECT_EQ((*nic)->rx_queues().size(), 4u);
  EXPECT_EQ((*nic)->tx_queue_count(), 4u);
  EXPECT_EQ((*nic)->driver(), "net_null");
  EXPECT_EQ((*nic)->rx_queues()[2].nic, 3);
  EXPECT_NE(&(*nic)->tx_queue(0), &(*nic)->tx_queue(1));
}

TEST(Nic, fault_63_device_gets_a_queue_for_each_worker_unless_told_otherwise) {
  const MbufPool pool = test::make_pool();
  const NicOptions options = {.device = test::unique_name("net_null"), .worker_count = 3};
  EXPECT_EQ(Nic::expected_queue_count(options), 3u);
  const auto nic = Nic::open(options, pool);
  ASSERT_TRUE(nic) << nic.error().message;
  EXPECT_EQ((*nic)->rx_queues().size(), 3u);
  EXPECT_EQ((*nic)->tx_queue_count(), 3u);
  EXPECT_EQ((*nic)->unserved_queues(), 0u);
}

TEST(QueuePlan, fault_63_paired_queues_are_never_more_for_sending_than_for_receiving) {
  const QueueLimits pairs = {.driver = "net_virtio", .rx_max = 4, .tx_max = 4};
  EXPECT_EQ(plan_queues({.rx = 0, .worker_count = 2}, pairs)->rx, 2u);
  EXPECT_EQ(plan_queues({.rx = 0, .worker_count = 2}, pairs)->tx, 2u);
  EXPECT_EQ(plan_queues({.rx = 1, .worker_count = 2}, pairs)->tx, 1u);
  EXPECT_EQ(plan_queues({.rx = 3, .worker_count = 2}, pairs)->rx, 3u);
  EXPECT_EQ(plan_queues({.rx = 0, .worker_count = 8}, pairs)->rx, 4u);
  const QueueLimits single = {.driver = "net_ixgbe", .rx_max = 64, .tx_max = 64};
  EXPECT_EQ(plan_queues({.rx = 1, .worker_count = 2}, single)->tx, 2u) << "spreads over rx alone";
}

TEST(Nic, fault_63_all_queues_of_a_vhost_device_are_served_or_it_is_refused) {
  const MbufPool pool = test::make_pool();
  const auto two_queues = [] {
    const std::string name = test::unique_name("net_vhost");
    return name + ",iface=" + testing::TempDir() + "/" + name + ".sock,queues=2";
  };
  const auto refused = Nic::open({.device = two_queues(), .queue_count = 1}, pool);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message,
              HasSubstr("was made with 2 queues, which its other side may all use, --queues asks "
                        "for 1: a part of the clients would get no service"));
  const NicOptions options = {.device = two_queues()};
  EXPECT_EQ(Nic::expected_queue_count(options), 2u);
  const auto nic = Nic::open(options, pool);
  ASSERT_TRUE(nic) << nic.error().message;
  EXPECT_EQ((*nic)->rx_queues().size(), 2u);
  EXPECT_EQ((*nic)->tx_queue_count(), 1u);
}

TEST(Nic, received_packets_carry_the_index_of_the_nic) {
  const MbufPool pool = test::make_pool();
  const auto nic = Nic::open({.device = test::unique_name("net_null"), .index = 7}, pool);
  ASSERT_TRUE(nic) << nic.error().message;
  std::array<Mbuf*, 4> mbufs;
  ASSERT_EQ((*nic)->rx_queues()[0].receive(mbufs), mbufs.size());
  for (const Mbuf* mbuf : mbufs) EXPECT_EQ(nic_of(mbuf), 7);
  free_mbufs(mbufs);
}

TEST(ExceptionPath, missing_twin_says_how_to_make_it) {
  const auto twin = ExceptionPath::open("no-such-tap0", 0, {});
  ASSERT_FALSE(twin);
  EXPECT_THAT(twin.error().message, HasSubstr("make it with: host-setup twin no-such-tap0 NIC"));
}

TEST(ExceptionPath, impossible_name_is_refused) {
  const auto twin = ExceptionPath::open("a-name-that-is-too-long", 0, {});
  ASSERT_FALSE(twin);
  EXPECT_THAT(twin.error().message, HasSubstr("1 to 15 characters"));
}

}  // namespace
}  // namespace millrace::dpdk
