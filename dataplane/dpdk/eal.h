// SPDX-License-Identifier: Apache-2.0
//
// DPDK's environment (EAL): memory, lcores, drivers. Cold; once per process.
//
// The EAL runs with --in-memory: its hugepages belong to no file and are free the moment the
// process dies, however it dies, and no lock or file prefix is shared with other instances. What
// must outlive the process (flow tables) is ours, in --flow-dir; what must be single (the instance)
// is dataplane.lock.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "dataplane/core/result.h"

namespace millrace::dpdk {

struct EalOptions {
  std::uint32_t main_cpu = 0;
  std::vector<std::uint32_t> worker_cpus;  // one lcore each; a CPU may appear more than once
  bool use_pci = false;                    // probe PCI devices; their addresses follow in `extra`
  std::uint64_t memory_bytes = 0;          // hugepage memory that start-up needs at least
  // NUMA nodes where that much is taken at once and kept, for drivers that take their own later:
  // the engine has given up by then what it would take to get more.
  std::set<std::uint32_t> kept_on_nodes = {};
  std::vector<std::string> extra;  // further EAL arguments, as on DPDK's command lines
};

class Eal {
 public:
  // Errors: too few free hugepages (with the command that reserves them), or what the EAL said
  // last.
  [[nodiscard]] static Result<Eal> init(const EalOptions& options);

  // There is no way back: rte_eal_cleanup() would close devices, which takes capabilities that the
  // engine has given up by then, and --in-memory leaves nothing that the end of the process does
  // not free.
  Eal(Eal&&) = default;
  Eal& operator=(Eal&&) = delete;
  Eal(const Eal&) = delete;
  Eal& operator=(const Eal&) = delete;

  // Runs `work` on the lcore of worker `index`, pinned to worker_cpus[index]. The caller keeps
  // `work` alive until wait_for_workers() has returned.
  [[nodiscard]] Status launch(std::uint32_t index, std::function<void()>& work);
  void wait_for_workers();

  // Runs `work` once, soon, on the EAL's own thread (interrupts and alarms).
  [[nodiscard]] Status call_on_interrupt_thread(void (*work)(void*));

 private:
  Eal() = default;
};

}  // namespace millrace::dpdk
