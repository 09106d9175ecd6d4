// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/numa.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <system_error>
#include <utility>

#include "dataplane/dpdk/bond.h"

namespace millrace::dpdk {

NumaNodes::NumaNodes(std::string sysfs) : sysfs_(std::move(sysfs)) {}

std::optional<std::uint32_t> NumaNodes::of_device(const std::string& device) const {
  const std::vector<std::string> parts = parts_of(device);
  const std::string& name = parts.empty() ? device : parts.front();
  for (const std::string& folder : {"/bus/pci/devices/" + name, "/class/net/" + name + "/device"}) {
    std::int64_t node = -1;
    if (std::ifstream(sysfs_ + folder + "/numa_node") >> node && node >= 0) {
      return static_cast<std::uint32_t>(node);
    }
  }
  return std::nullopt;
}

std::vector<std::uint32_t> NumaNodes::near_first(const std::string& device,
                                                 std::vector<std::uint32_t> cpus) const {
  const std::optional<std::uint32_t> node = of_device(device);
  if (node) {
    std::stable_partition(cpus.begin(), cpus.end(),
                          [&](std::uint32_t cpu) { return is_on(*node, cpu); });
  }
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
