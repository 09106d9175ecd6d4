// SPDX-License-Identifier: Apache-2.0
//
// millrace-dataplane: the DPDK engine. Reads the command line, starts the engine, waits for a
// signal. Cold. The only place that prints a start-up failure, in one line, and sets the exit
// status.
#include <sched.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <boost/program_options.hpp>
#include <charconv>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "dataplane/core/counted.h"
#include "dataplane/dpdk/numa.h"
#include "dataplane/os/service_manager.h"
#include "dataplane/program/program.h"
#include "dataplane/shm/flow_set.h"
#include "dataplane/worker/launch.h"

namespace {

namespace po = boost::program_options;
using millrace::Error;
using millrace::Result;
using millrace::Status;
using millrace::core::counted;
using millrace::program::fail;
using millrace::program::print;
using millrace::program::start_log;
using millrace::program::stop_on_signals;
using millrace::worker::Engine;
using millrace::worker::EngineOptions;

constexpr const char* kName = "millrace-dataplane";
// Of one nic: more than workers can use.
constexpr std::uint32_t kQueuesMax = 256;
constexpr const char* kHelpHead =
    R"(Usage: millrace-dataplane --nic DEVICE... [--twin TAP...] [option...]

Forwards packets of VIPs between nics as the control plane says (RUNTIME_DIR/config), and hands all
other packets to the kernel through a twin TAP interface. Goes on without the control plane.

A DEVICE is a kernel interface (driven by AF_XDP: eth1), a PCI address (0000:03:00.0) bound to
vfio-pci or, where there is no IOMMU, to uio_pci_generic, a bond of these, or a DPDK virtual device
with its arguments (net_pcap0,rx_pcap=in.pcap). A kernel interface should carry no addresses of its
own: they belong to its twin, which gets its MAC address.

A bond is one nic of several, with the MAC address of the first:
  bond:0000:03:00.0,0000:03:00.1                 LACP (802.3ad), flows spread over all that carry
  bond-active-backup:0000:03:00.0,0000:03:00.1   one carries, the next when that has no link

Prepare a host (`host-setup --help`; addresses are the twin's from then on):
  host-setup hugepages 256
  host-setup twin twin0 eth1
  ip address flush dev eth1 scope global; ip address add 192.0.2.1/24 dev twin0
  host-setup twin twin0 eth1
Then:
  millrace-dataplane --nic eth1 --twin twin0 --workers 1
)";

constexpr const char* kHelpTail = R"(
SIGTERM and SIGINT end it; flow tables stay in --flow-dir, and a restart goes on with them. SIGHUP
is ignored.
)";

// The CPUs that this process may use.
std::vector<std::uint32_t> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<std::uint32_t> cpus;
  if (::sched_getaffinity(0, sizeof(set), &set) != 0) return {0};
  for (std::uint32_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

// "2,4-6" -> 2 4 5 6; nothing when it is no such list.
std::optional<std::vector<std::uint32_t>> parse_cpus(const std::string& text) {
  std::vector<std::uint32_t> cpus;
  const char* at = text.data();
  const char* end = at + text.size();
  while (at < end) {
    std::uint32_t first = 0;
    std::from_chars_result parsed = std::from_chars(at, end, first);
    if (parsed.ec != std::errc{}) return std::nullopt;
    std::uint32_t last = first;
    if (parsed.ptr < end && *parsed.ptr == '-') {
      parsed = std::from_chars(parsed.ptr + 1, end, last);
      if (parsed.ec != std::errc{} || last < first || last >= CPU_SETSIZE) return std::nullopt;
    }
    for (std::uint32_t cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
    if (parsed.ptr < end && *parsed.ptr != ',') return std::nullopt;
    at = parsed.ptr < end ? parsed.ptr + 1 : end;
  }
  return cpus;
}

po::options_description describe_options() {
  po::options_description described("Options");
  auto add = described.add_options();
  add("help", "show this");
  add("version", "show the version");
  add("nic", po::value<std::vector<std::string>>()->multitoken()->value_name("DEVICE..."),
      "devices to drive");
  add("twin",
      po::value<std::vector<std::string>>()->multitoken()->value_name("TAP...")->default_value(
          {}, "none"),
      "kernel twins of the nics, in the same order");
  add("workers", po::value<std::uint32_t>()->value_name("N")->default_value(1),
      "worker threads, 1 to 16");
  add("queues", po::value<std::uint32_t>()->value_name("N"),
      "rx queues per nic (default: all of an interface's, else one for each worker); a worker may "
      "have several, and one without gets its packets from the others");
  add("main-cpu", po::value<std::uint32_t>()->value_name("CPU"),
      "CPU of the main thread (default: the first allowed one, of the nic's NUMA node if there is "
      "one)");
  add("worker-cpus", po::value<std::string>()->value_name("LIST"),
      "CPU of each worker, as in 2,4-6 (default: the allowed ones after main's, those of the nic's "
      "NUMA node first)");
  add("spin", po::bool_switch(), "poll without ever sleeping; for dedicated CPUs");
  add("flows",
      po::value<std::uint32_t>()->value_name("N")->default_value(
          millrace::shm::kFlowCapacityDefault),
      "capacity of each worker's flow table, about 80 bytes each");
  add("flow-dir",
      po::value<std::string>()->value_name("DIR")->default_value("/dev/hugepages/millrace"),
      "where flow tables are kept; a hugetlbfs directory is best");
  add("runtime-dir", po::value<std::string>()->value_name("DIR")->default_value("/run/millrace"),
      "where the config and stats segments are");
  add("eal", po::value<std::vector<std::string>>()->value_name("ARG")->default_value({}, "none"),
      "one more argument for DPDK; repeat for more (--eal=--log-level=pmd:debug, which --log-level "
      "debug shows)");
  millrace::program::add_common_options(described);
  return described;
}

Result<EngineOptions> to_engine_options(const po::variables_map& values) {
  EngineOptions options;
  if (values.count("nic") == 0) return Error{"--nic is missing (see --help)"};
  const auto& devices = values["nic"].as<std::vector<std::string>>();
  const auto& twins = values["twin"].as<std::vector<std::string>>();
  if (devices.size() > MR_NIC_COUNT_MAX) {
    return Error{"--nic: at most " + std::to_string(MR_NIC_COUNT_MAX) + " are possible"};
  }
  if (twins.size() > devices.size()) {
    return Error{"--twin: there are " + std::to_string(twins.size()) + " twins for " +
                 std::to_string(devices.size()) + " nics"};
  }
  for (std::size_t i = 0; i < devices.size(); ++i) {
    options.nics.push_back(
        {.device = devices[i], .twin = i < twins.size() ? twins[i] : std::string()});
  }
  options.worker_count = values["workers"].as<std::uint32_t>();
  if (options.worker_count < 1 || options.worker_count > millrace::worker::kWorkersMax) {
    return Error{"--workers: " + std::to_string(options.worker_count) + " is not 1 to " +
                 std::to_string(millrace::worker::kWorkersMax)};
  }
  if (values.count("queues") != 0) {
    options.queue_count = values["queues"].as<std::uint32_t>();
    if (options.queue_count < 1 || options.queue_count > kQueuesMax) {
      return Error{"--queues: " + std::to_string(options.queue_count) + " is not 1 to " +
                   std::to_string(kQueuesMax)};
    }
  }
  options.flow_capacity = values["flows"].as<std::uint32_t>();
  if (options.flow_capacity < 1 || options.flow_capacity > MR_FLOW_CAPACITY_MAX) {
    return Error{"--flows: " + std::to_string(options.flow_capacity) + " is not 1 to " +
                 std::to_string(MR_FLOW_CAPACITY_MAX)};
  }
  options.flow_dir = values["flow-dir"].as<std::string>();
  options.runtime_dir = values["runtime-dir"].as<std::string>();
  options.spins = values["spin"].as<bool>();
  options.eal_arguments = values["eal"].as<std::vector<std::string>>();
  const Result<std::uint32_t> control_user = millrace::program::control_user(values);
  if (!control_user) return control_user.error();
  options.control_user = *control_user;
  return options;
}

// As DPDK asks. A CPU that is isolated from other work is not among allowed_cpus().
bool is_online(std::uint32_t cpu) {
  const std::string topology = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology";
  return ::access(topology.c_str(), F_OK) == 0;
}

Result<EngineOptions> with_cpus(EngineOptions options, const po::variables_map& values) {
  // Memory that the main thread makes, as packet buffers and flow tables, is its CPU's node's.
  const std::vector<std::uint32_t> allowed =
      millrace::dpdk::NumaNodes().near_first(options.nics.front().device, allowed_cpus());
  options.main_cpu =
      values.count("main-cpu") != 0 ? values["main-cpu"].as<std::uint32_t>() : allowed.front();
  if (values.count("worker-cpus") == 0) {
    for (std::uint32_t i = 1; i <= options.worker_count; ++i) {
      options.worker_cpus.push_back(allowed[i % allowed.size()]);
    }
    return options;
  }
  const auto& text = values["worker-cpus"].as<std::string>();
  std::optional<std::vector<std::uint32_t>> cpus = parse_cpus(text);
  if (!cpus) return Error{"--worker-cpus: '" + text + "' is no list of CPUs such as 2,4-6"};
  if (cpus->size() != options.worker_count) {
    return Error{"--worker-cpus: names " + std::to_string(cpus->size()) + " CPUs for " +
                 std::to_string(options.worker_count) + " workers"};
  }
  for (const std::uint32_t cpu : *cpus) {
    if (!is_online(cpu)) {
      return Error{"--worker-cpus: there is no CPU " + std::to_string(cpu) +
                   " that is online (lscpu shows them)"};
    }
  }
  options.worker_cpus = std::move(*cpus);
  return options;
}

int run(const EngineOptions& options) {
  const millrace::program::StopAsked is_stop_asked = stop_on_signals();
  Result<std::unique_ptr<Engine>> engine = Engine::start(options);
  if (!engine) return fail(kName, engine.error());
  spdlog::info("ready: {}, {}, {} each, runtime directory {}", counted(options.nics.size(), "nic"),
               counted(options.worker_count, "worker"), counted(options.flow_capacity, "flow"),
               options.runtime_dir);
  millrace::os::tell_ready();
  (*engine)->run(is_stop_asked);
  spdlog::info("stopped");
  return 0;
}

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): only for want of memory or by a mistake in here
int main(int argc, char** argv) {
  Result<po::variables_map> values = millrace::program::parse(argc, argv, describe_options(), {});
  if (!values) return fail(kName, values.error());
  if (values->count("help") != 0) {
    std::ostringstream text;
    text << kHelpHead << '\n' << describe_options() << kHelpTail;
    return print(kName, text.str());
  }
  if (values->count("version") != 0) {
    return print(kName, "millrace-dataplane " MILLRACE_VERSION "\n");
  }
  const Status logs = start_log(kName, (*values)["log-level"].as<std::string>());
  if (!logs) return fail(kName, logs.error());
  Result<EngineOptions> options = to_engine_options(*values);
  if (options) options = with_cpus(std::move(*options), *values);
  if (!options) return fail(kName, options.error());
  return run(*options);
}
