// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/pci_address.h"

#include <stdio.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <optional>
#include <system_error>

namespace millrace::dpdk {

namespace {

// DPDK takes a NIC from these, or shares it with them.
constexpr std::array kDpdkDrivers = {"vfio-pci",  "uio_pci_generic", "igb_uio",
                                     "mlx4_core", "mlx5_core",       "mana"};

// As the kernel writes it; nothing when the text does not begin like an address.
std::optional<std::string> written_by_kernel(const std::string& device) {
  unsigned domain = 0;
  unsigned bus = 0;
  unsigned slot = 0;
  unsigned function = 0;
  const char* text = device.c_str();
  if (::sscanf(text, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4) {
    domain = 0;
    if (::sscanf(text, "%x:%x.%x", &bus, &slot, &function) != 3) return std::nullopt;
  }
  std::array<char, 48> address{};
  (void)::snprintf(address.data(), address.size(), "%04x:%02x:%02x.%x", domain, bus, slot,
                   function);
  return address.data();
}

// Of the kernel's, "" without one.
std::string driver_at(const std::filesystem::path& folder) {
  std::error_code ignored;
  return std::filesystem::read_symlink(folder / "driver", ignored).filename().string();
}

// Others of the device's IOMMU group that a driver of the kernel's has: nobody gets a part of a
// group. Bridges are no reason.
std::string in_the_way(const std::filesystem::path& folder) {
  std::string others;
  std::error_code none;
  for (const auto& entry :
       std::filesystem::directory_iterator(folder / "iommu_group/devices", none)) {
    const std::string driver = driver_at(entry.path());
    std::string device_class;
    std::ifstream(entry.path() / "class") >> device_class;
    if (driver.empty() || driver == "vfio-pci" || device_class.rfind("0x06", 0) == 0) continue;
    others += (others.empty() ? "" : ", ") + entry.path().filename().string() + " (" + driver + ")";
  }
  return others;
}

}  // namespace

bool is_pci_address(const std::string& device) { return written_by_kernel(device).has_value(); }

Status check_pci_address(const std::string& device) {
  const std::string address = device.substr(0, device.find(','));
  const std::string right = written_by_kernel(address).value_or("0000:3b:00.0");
  if (address != right) {
    return Error{"is no PCI address as the kernel writes it, like " + right +
                 " (ls /sys/bus/pci/devices)"};
  }
  if (address == device || device.find('=') != std::string::npos) return ok();
  return Error{
      "has a comma behind its address: NICs of one bond have 'bond:' or "
      "'bond-active-backup:' in front of them all, others spaces between them"};
}

bool is_gone(const std::string& address) {
  std::error_code ignored;
  return is_pci_address(address) &&
         !std::filesystem::exists("/sys/bus/pci/devices/" + address, ignored);
}

Error why_not_taken(const std::string& address, const std::string& sysfs) {
  const std::string bind = " (host-setup bind " + address + ")";
  const std::string otherwise = "; or set node.engine: xdp and start millrace-xdp";
  if (!is_pci_address(address)) {
    return Error{"DPDK has no such device (--eal=--vdev=" + address + " makes one)"};
  }
  const std::filesystem::path folder = std::filesystem::path(sysfs) / "bus/pci/devices" / address;
  std::error_code ignored;
  if (!std::filesystem::exists(folder, ignored)) {
    return Error{"there is no such PCI device (ls /sys/bus/pci/devices)"};
  }
  const std::string driver = driver_at(folder);
  if (driver.empty()) return Error{"no driver of the kernel's has it" + bind + otherwise};
  if (std::ranges::count(kDpdkDrivers, driver) == 0) {
    return Error{"the kernel's driver " + driver + " has it" + bind + otherwise};
  }
  const std::string others = driver == "vfio-pci" ? in_the_way(folder) : "";
  if (!others.empty()) {
    return Error{
        "is in one IOMMU group with " + others +
        ", and vfio-pci gives none of a group of which the kernel has one: bind that, too" +
        otherwise};
  }
  return Error{"is bound to " + driver + ", but no driver of DPDK's took it" + otherwise};
}

}  // namespace millrace::dpdk
