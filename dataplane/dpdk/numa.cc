// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/numa.h"

#include <inttypes.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "dataplane/dpdk/bond.h"

namespace millrace::dpdk {

NumaNodes::NumaNodes(std::string sysfs) : sysfs_(std::move(sysfs)) {}

std::optional<std::uint32_t> NumaNodes::of_device(const std::string& device) const {
  for (const std::string& name : parts_of(device)) {
    for (const std::string& folder :
         {"/bus/pci/devices/" + name, "/class/net/" + name + "/device"}) {
      std::int64_t node = -1;
      if (std::ifstream(sysfs_ + folder + "/numa_node") >> node && node >= 0) {
        return static_cast<std::uint32_t>(node);
      }
    }
  }
  return std::nullopt;
}

std::optional<std::uint32_t> NumaNodes::of_cpu(std::uint32_t cpu) const {
  const std::string folder = sysfs_ + "/devices/system/node";
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
    unsigned node = 0;
    if (std::sscanf(entry.path().filename().c_str(), "node%u", &node) != 1) continue;
    if (is_on(node, cpu)) return node;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> NumaNodes::free_huge_bytes(std::uint32_t node) const {
  const std::string folder =
      sysfs_ + "/devices/system/node/node" + std::to_string(node) + "/hugepages";
  std::optional<std::uint64_t> bytes;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
    std::uint64_t kib = 0;
    std::uint64_t pages = 0;
    if (std::sscanf(entry.path().filename().c_str(), "hugepages-%" SCNu64 "kB", &kib) != 1) {
      continue;
    }
    if (!(std::ifstream(entry.path() / "free_hugepages") >> pages)) continue;
    bytes = bytes.value_or(0) + pages * kib * 1024;
  }
  return bytes;
}

bool NumaNodes::may_have_huge_pages(std::uint32_t node) const {
  return free_huge_bytes(node).value_or(1) > 0;
}

std::vector<std::uint32_t> NumaNodes::near_first(const std::string& device,
                                                 std::vector<std::uint32_t> cpus) const {
  const std::optional<std::uint32_t> near = of_device(device);
  std::stable_partition(cpus.begin(), cpus.end(), [&](std::uint32_t cpu) {
    if (near && may_have_huge_pages(*near)) return is_on(*near, cpu);
    const std::optional<std::uint32_t> node = of_cpu(cpu);
    return node && may_have_huge_pages(*node);
  });
  return cpus;
}

std::vector<std::uint32_t> NumaNodes::far_from(const std::string& device,
                                               std::vector<std::uint32_t> cpus) const {
  const std::optional<std::uint32_t> node = of_device(device);
  std::erase_if(cpus, [&](std::uint32_t cpu) { return !node || is_on(*node, cpu); });
  return cpus;
}

bool NumaNodes::is_on(std::uint32_t node, std::uint32_t cpu) const {
  const std::string path =
      sysfs_ + "/devices/system/node/node" + std::to_string(node) + "/cpu" + std::to_string(cpu);
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

}  // namespace millrace::dpdk
