// SPDX-License-Identifier: Apache-2.0
//
// What a reader needs to know of the machine to place a figure. Cold; reads /proc and /sys.
#pragma once

#include <cstdint>
#include <string>

namespace millrace::pktgen {

struct Machine {
  std::string processor;  // "unknown" where the machine does not say
  std::uint32_t cpu_count = 0;
  std::uint32_t cpu = 0;  // that the run was on
  double cpu_mhz = 0;     // as the kernel sees it now; 0 where it does not say
  std::uint64_t memory_bytes = 0;
  std::uint64_t huge_page_bytes = 0;  // reserved
  std::string kernel;
  std::string isolated_cpus;  // as in "2-7"; "" for none
  std::string governor;       // of the run's CPU; "" where there is none
  double load_average = 0;    // over the last minute: what else was running
  bool is_virtual = false;
};

[[nodiscard]] Machine machine_facts(std::uint32_t cpu);

}  // namespace millrace::pktgen
