// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/numa.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/cc/temp_dir.h"

namespace millrace::dpdk {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Two nodes with the even and the odd CPUs, as many servers number them.
class NumaMachine : public ::testing::Test {
 protected:
  NumaMachine() {
    for (const std::string cpu : {"0", "2", "4", "10"}) make("/node0/cpu" + cpu);
    for (const std::string cpu : {"1", "3", "5", "11"}) make("/node1/cpu" + cpu);
    write("/bus/pci/devices/0000:3b:00.0", "0");
    write("/bus/pci/devices/0000:af:00.0", "1");
    write("/bus/pci/devices/0000:00:10.0", "-1");
    write("/class/net/eth1/device", "1");
  }

  void make(const std::string& folder) {
    std::filesystem::create_directories(dir_.path() + "/devices/system/node" + folder);
  }

  void write(const std::string& device, const std::string& node) {
    std::filesystem::create_directories(dir_.path() + device);
    std::ofstream(dir_.path() + device + "/numa_node") << node << "\n";
  }

  void free_pages(int node, const std::string& size, int count) {
    const std::string folder =
        "/devices/system/node/node" + std::to_string(node) + "/hugepages/hugepages-" + size;
    std::filesystem::create_directories(dir_.path() + folder);
    std::ofstream(dir_.path() + folder + "/free_hugepages") << count << "\n";
  }

  test::TempDir dir_;
  NumaNodes nodes_{dir_.path()};
};

TEST_F(NumaMachine, knows_the_node_of_pci_addresses_and_interfaces) {
  EXPECT_EQ(nodes_.of_device("0000:3b:00.0"), 0);
  EXPECT_EQ(nodes_.of_device("0000:af:00.0"), 1);
  EXPECT_EQ(nodes_.of_device("eth1"), 1);
}

TEST_F(NumaMachine, names_no_node_where_the_kernel_names_none) {
  EXPECT_EQ(nodes_.of_device("0000:00:10.0"), std::nullopt);
  EXPECT_EQ(nodes_.of_device("net_ring0"), std::nullopt);
}

TEST_F(NumaMachine, knows_the_node_of_a_cpu_and_its_free_huge_pages) {
  EXPECT_EQ(nodes_.of_cpu(10), 0);
  EXPECT_EQ(nodes_.of_cpu(11), 1);
  EXPECT_EQ(nodes_.of_cpu(12), std::nullopt);
  EXPECT_EQ(nodes_.free_huge_bytes(0), std::nullopt);
  free_pages(0, "2048kB", 3);
  free_pages(0, "1048576kB", 1);
  EXPECT_EQ(nodes_.free_huge_bytes(0), (3u << 21) + (1u << 30));
}

TEST_F(NumaMachine, cpus_of_a_node_without_huge_pages_come_last) {
  free_pages(0, "2048kB", 8);
  free_pages(1, "2048kB", 0);
  EXPECT_THAT(nodes_.near_first("0000:af:00.0", {1, 2, 3, 4}), ElementsAre(2, 4, 1, 3));
  EXPECT_THAT(nodes_.near_first("0000:00:10.0", {1, 2, 3, 4}), ElementsAre(2, 4, 1, 3));
  EXPECT_THAT(nodes_.near_first("0000:3b:00.0", {1, 2, 3, 4}), ElementsAre(2, 4, 1, 3));
  free_pages(1, "2048kB", 1);
  EXPECT_THAT(nodes_.near_first("0000:af:00.0", {1, 2, 3, 4}), ElementsAre(1, 3, 2, 4));
}

TEST_F(NumaMachine, cpus_of_the_device_come_first_in_their_order) {
  EXPECT_THAT(nodes_.near_first("0000:af:00.0", {0, 1, 2, 3, 11}), ElementsAre(1, 3, 11, 0, 2));
  EXPECT_THAT(nodes_.near_first("0000:3b:00.0", {1, 2, 10}), ElementsAre(2, 10, 1));
  EXPECT_THAT(nodes_.near_first("0000:00:10.0", {1, 0, 2}), ElementsAre(1, 0, 2));
}

TEST_F(NumaMachine, cpus_of_other_nodes_are_far) {
  EXPECT_THAT(nodes_.far_from("eth1", {1, 2, 3, 10}), ElementsAre(2, 10));
  EXPECT_THAT(nodes_.far_from("eth1", {1, 11}), IsEmpty());
  EXPECT_THAT(nodes_.far_from("net_ring0", {1, 2}), IsEmpty());
}

}  // namespace
}  // namespace millrace::dpdk
