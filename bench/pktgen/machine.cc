// SPDX-License-Identifier: Apache-2.0
#include "bench/pktgen/machine.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

namespace millrace::pktgen {
namespace {

std::string first_line(const std::string& path) {
  std::string line;
  std::getline(std::ifstream(path) >> std::ws, line);
  return line;
}

std::string trimmed(const std::string& text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// The first "KEY : VALUE" of a file in /proc with that key.
std::string value_of(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (colon != std::string::npos && trimmed(line.substr(0, colon)) == key) {
      return trimmed(line.substr(colon + 1));
    }
  }
  return "";
}

template <typename T>
T number_in(const std::string& text) {
  T number{};
  std::istringstream(text) >> number;
  return number;
}

}  // namespace

Machine machine_facts(std::uint32_t cpu) {
  Machine machine;
  machine.processor = value_of("/proc/cpuinfo", "model name");
  if (machine.processor.empty()) machine.processor = "unknown";
  const long online = ::sysconf(_SC_NPROCESSORS_ONLN);
  machine.cpu_count = online > 0 ? static_cast<std::uint32_t>(online) : 0;
  machine.cpu = cpu;
  machine.cpu_mhz = number_in<double>(value_of("/proc/cpuinfo", "cpu MHz"));
  const auto kilobytes = [](const char* key) {
    return number_in<std::uint64_t>(value_of("/proc/meminfo", key)) * 1024;
  };
  machine.memory_bytes = kilobytes("MemTotal");
  machine.huge_page_bytes = kilobytes("Hugetlb");
  utsname system{};
  if (::uname(&system) == 0) machine.kernel = system.release;
  const std::string cpus = "/sys/devices/system/cpu/";
  machine.isolated_cpus = first_line(cpus + "isolated");
  machine.governor = first_line(cpus + "cpu" + std::to_string(cpu) + "/cpufreq/scaling_governor");
  machine.load_average = number_in<double>(first_line("/proc/loadavg"));
  std::istringstream flags(value_of("/proc/cpuinfo", "flags"));
  for (std::string flag; flags >> flag;) machine.is_virtual |= flag == "hypervisor";
  return machine;
}

}  // namespace millrace::pktgen
