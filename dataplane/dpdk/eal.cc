// SPDX-License-Identifier: Apache-2.0
#include "dataplane/dpdk/eal.h"

#include <rte_alarm.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>

#include <cstdint>
#include <fstream>
#include <optional>
#include <string_view>

#include "dataplane/dpdk/library_log.h"
#include "dataplane/dpdk/numa.h"

namespace millrace::dpdk {

namespace {

constexpr std::uint64_t kPageBytes = 2u << 20;

std::uint64_t read_number(const std::string& path) {
  std::uint64_t number = 0;
  std::ifstream(path) >> number;
  return number;
}

Status check_hugepages(std::uint64_t needed_bytes) {
  const std::string pages = "/sys/kernel/mm/hugepages/hugepages-2048kB/";
  const std::uint64_t large_free =
      read_number("/sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages");
  const std::uint64_t free = read_number(pages + "free_hugepages");
  const std::uint64_t needed = (needed_bytes + kPageBytes - 1) / kPageBytes;
  if (free >= needed || large_free > 0) return ok();
  const std::uint64_t total = read_number(pages + "nr_hugepages");
  return Error{
      "hugepages: " + std::to_string(free) + " of 2 MiB are free, " + std::to_string(needed) +
      " are needed, and more for flow tables; reserve them: " + "host-setup hugepages " +
      std::to_string(total + needed - free) + " (\"Sizing\" in the runbook says how many in all)"};
}

// On nodes of which DPDK's libraries take memory without asking for another's: they end the process
// when there is none.
Status check_nodes(const EalOptions& options) {
  const NumaNodes nodes;
  const std::optional<std::uint32_t> main_node = nodes.of_cpu(options.main_cpu);
  if (main_node && nodes.free_huge_bytes(*main_node).value_or(1) == 0) {
    return Error{"hugepages: there are none free on NUMA node " + std::to_string(*main_node) +
                 ", where CPU " + std::to_string(options.main_cpu) +
                 " of the main thread is; --main-cpu names another (lscpu shows them)"};
  }
  for (const std::uint32_t node : options.kept_on_nodes) {
    const std::uint64_t free = nodes.free_huge_bytes(node).value_or(UINT64_MAX);
    if (free >= options.memory_bytes) continue;
    const std::uint64_t pages = (options.memory_bytes + kPageBytes - 1) / kPageBytes;
    return Error{"hugepages: NUMA node " + std::to_string(node) +
                 ", where a member of a bond is, has " + std::to_string(free / kPageBytes) +
                 " of 2 MiB free, " + std::to_string(pages) +
                 " are needed on each node of its members: host-setup hugepages COUNT BOND"};
  }
  return ok();
}

bool is_among(const std::vector<std::string>& arguments, std::string_view option) {
  for (const std::string& argument : arguments) {
    if (argument.rfind(option, 0) == 0) return true;
  }
  return false;
}

// "0,16": nothing on node 0, 16 MB on node 1.
std::string kept_megabytes(const EalOptions& options) {
  std::string list;
  for (std::uint32_t node = 0; node <= *options.kept_on_nodes.rbegin(); ++node) {
    const bool is_kept = options.kept_on_nodes.count(node) != 0;
    const std::uint64_t megabytes = is_kept ? (options.memory_bytes >> 20) + 1 : 0;
    if (node != 0) list.append(",");
    list.append(std::to_string(megabytes));
  }
  return list;
}

std::vector<std::string> arguments_of(const EalOptions& options) {
  // lcore ids are ours (0 is main, i + 1 is worker i) and mapped to CPUs, so that two workers may
  // share a CPU on a small machine.
  std::string lcores = "0@" + std::to_string(options.main_cpu);
  for (std::size_t i = 0; i < options.worker_cpus.size(); ++i) {
    lcores.append(",").append(std::to_string(i + 1)).append("@");
    lcores.append(std::to_string(options.worker_cpus[i]));
  }
  std::vector<std::string> arguments = {"millrace-dataplane", "--lcores", lcores,
                                        "--main-lcore",       "0",        "--no-telemetry"};
  // Without hugepages (tests) EAL refuses --in-memory; --no-shconf is the part of it that matters
  // then.
  const bool has_huge_pages = !is_among(options.extra, "--no-huge");
  arguments.emplace_back(has_huge_pages ? "--in-memory" : "--no-shconf");
  if (!options.use_pci) {
    // AF_XDP hands a packet pool to the kernel as one range of virtual addresses; with physical
    // addressing the pool may be cut at page borders instead.
    arguments.insert(arguments.end(), {"--no-pci", "--iova-mode=va"});
  }
  const bool is_told = is_among(options.extra, "--socket-mem") || is_among(options.extra, "-m");
  if (!options.kept_on_nodes.empty() && has_huge_pages && !is_told) {
    arguments.insert(arguments.end(), {"--socket-mem", kept_megabytes(options)});
  }
  if (!is_among(options.extra, "--log-level")) arguments.emplace_back("--log-level=warning");
  arguments.insert(arguments.end(), options.extra.begin(), options.extra.end());
  return arguments;
}

int run_work(void* work) {
  (*static_cast<std::function<void()>*>(work))();
  return 0;
}

}  // namespace

Result<Eal> Eal::init(const EalOptions& options) {
  if (!is_among(options.extra, "--no-huge")) {
    if (Status enough = check_hugepages(options.memory_bytes); !enough) return enough.error();
    if (Status enough = check_nodes(options); !enough) return enough.error();
  }
  std::vector<std::string> arguments = arguments_of(options);
  std::vector<char*> argv;
  argv.reserve(arguments.size());
  for (std::string& argument : arguments) argv.push_back(argument.data());
  LibraryLog::instance().attach_to_dpdk();
  if (::rte_eal_init(static_cast<int>(argv.size()), argv.data()) < 0) {
    const std::string& said = LibraryLog::instance().last_line();
    return Error{"DPDK does not start: " + std::string(::rte_strerror(rte_errno)) +
                 (said.empty() ? "" : " (" + said + ")")};
  }
  LibraryLog::attach_to_xdp_libraries();
  return Eal{};
}

Status Eal::launch(std::uint32_t index, std::function<void()>& work) {
  const int status = ::rte_eal_remote_launch(run_work, &work, index + 1);
  if (status == 0) return ok();
  return Error{"worker " + std::to_string(index) + " does not start: " + ::rte_strerror(-status)};
}

void Eal::wait_for_workers() { ::rte_eal_mp_wait_lcore(); }

Status Eal::call_on_interrupt_thread(void (*work)(void*)) {
  const int status = ::rte_eal_alarm_set(1, work, nullptr);
  if (status == 0) return ok();
  return Error{std::string("cannot reach DPDK's interrupt thread: ") + ::rte_strerror(-status)};
}

}  // namespace millrace::dpdk
