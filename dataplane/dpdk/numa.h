// SPDX-License-Identifier: Apache-2.0
//
// NUMA nodes: a machine with several sockets has memory and PCI slots at each, and what a CPU of
// another node wants of them crosses between the sockets. Cold; asked by sysfs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace millrace::dpdk {

class NumaNodes {
 public:
  explicit NumaNodes(std::string sysfs = "/sys");

  // Of an interface, a PCI address, or a bond's first member that has one; nothing when the kernel
  // names none, as on most machines with one node, and for devices that are none of the machine's.
  [[nodiscard]] std::optional<std::uint32_t> of_device(const std::string& device) const;

  // Of a CPU; nothing when the kernel names none.
  [[nodiscard]] std::optional<std::uint32_t> of_cpu(std::uint32_t cpu) const;

  // Huge pages of all sizes that are free on a node; nothing when the kernel does not tell.
  [[nodiscard]] std::optional<std::uint64_t> free_huge_bytes(std::uint32_t node) const;

  // The CPUs of the device's node first; otherwise in their order. When there are no huge pages on
  // that node, or it has none, those of nodes that have some: DPDK takes memory of the main
  // thread's node when it starts, and ends the process when there is none.
  [[nodiscard]] std::vector<std::uint32_t> near_first(const std::string& device,
                                                      std::vector<std::uint32_t> cpus) const;

  // Those of another node than the device's.
  [[nodiscard]] std::vector<std::uint32_t> far_from(const std::string& device,
                                                    std::vector<std::uint32_t> cpus) const;

 private:
  [[nodiscard]] bool is_on(std::uint32_t node, std::uint32_t cpu) const;
  [[nodiscard]] bool may_have_huge_pages(std::uint32_t node) const;

  std::string sysfs_;
};

}  // namespace millrace::dpdk
