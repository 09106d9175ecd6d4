// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/pci_address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "tests/support/cc/temp_dir.h"

namespace millrace::dpdk {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string wrong_in(const std::string& device) {
  const Status checked = check_pci_address(device);
  return checked ? "" : checked.error().message;
}

TEST(PciAddress, is_told_from_interfaces) {
  EXPECT_TRUE(is_pci_address("0000:03:00.0"));
  EXPECT_TRUE(is_pci_address("03:00.1"));
  EXPECT_FALSE(is_pci_address("eth0"));
  EXPECT_FALSE(is_pci_address("net_null0"));
  EXPECT_FALSE(is_pci_address("enp3s0f1"));
}

TEST(PciAddress, has_one_way_to_be_written) {
  EXPECT_EQ(wrong_in("0000:3b:00.0"), "");
  EXPECT_EQ(wrong_in("10000:3b:00.0"), "") << "a domain of Intel's volume management device";
  for (const std::string other :
       {"3b:00.0", "0000:3B:00.0", "0:3b:0.0", "0000:3b:00.0x", "0000:3b:00.0 0000:3b:00.1"}) {
    EXPECT_THAT(wrong_in(other), HasSubstr("as the kernel writes it, like 0000:3b:00.0")) << other;
  }
}

TEST(PciAddress, may_have_arguments_for_the_driver_and_no_second_nic) {
  EXPECT_EQ(wrong_in("0000:3b:00.0,mprq_en=1"), "");
  EXPECT_THAT(wrong_in("0000:3b:00.0,0000:3b:00.1"), HasSubstr("NICs of one bond have 'bond:'"));
}

TEST(PciAddress, what_has_the_device_is_named) {
  const test::TempDir dir;
  const std::filesystem::path device =
      std::filesystem::path(dir.path()) / "bus/pci/devices/0000:3b:00.0";
  const auto said = [&] { return why_not_taken("0000:3b:00.0", dir.path()).message; };
  EXPECT_THAT(said(), HasSubstr("there is no such PCI device"));
  std::filesystem::create_directories(device);
  EXPECT_THAT(said(), HasSubstr("no driver of the kernel's has it (host-setup bind 0000:3b:00.0)"));
  std::filesystem::create_directory_symlink("../../drivers/e1000e", device / "driver");
  EXPECT_THAT(said(), HasSubstr("the kernel's driver e1000e has it (host-setup bind "));
  std::filesystem::remove(device / "driver");
  std::filesystem::create_directory_symlink("../../drivers/vfio-pci", device / "driver");
  EXPECT_THAT(said(), HasSubstr("is bound to vfio-pci, but no driver of DPDK's took it"));
  EXPECT_THAT(said(), Not(HasSubstr("host-setup bind")));
  const auto group = device / "iommu_group/devices";
  const std::pair<std::string, std::string> others[] = {
      {"0000:3a:00.0", "0x060400"}, {"0000:3b:00.0", "0x020000"}, {"0000:3b:00.1", "0x020000"}};
  for (const auto& [address, device_class] : others) {
    std::filesystem::create_directories(group / address);
    std::ofstream(group / address / "class") << device_class << "\n";
    const std::string driver = address == "0000:3b:00.0" ? "vfio-pci" : "e1000e";
    std::filesystem::create_directory_symlink("../../drivers/" + driver,
                                              group / address / "driver");
  }
  EXPECT_THAT(said(), HasSubstr("is in one IOMMU group with 0000:3b:00.1 (e1000e), and"));
  EXPECT_THAT(why_not_taken("net_null0").message, HasSubstr("--eal=--vdev=net_null0"));
}

}  // namespace
}  // namespace millrace::dpdk
