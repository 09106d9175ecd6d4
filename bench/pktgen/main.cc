// SPDX-License-Identifier: Apache-2.0
//
// millrace-pktgen: reads the command line and a profile, runs it, prints what was found. Cold. The
// only place that prints a failure and sets the exit status.
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <boost/program_options.hpp>
#include <cstdio>
#include <ctime>
#include <exception>
#include <fstream>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "bench/pktgen/generator.h"
#include "bench/pktgen/profile_load.h"
#include "bench/pktgen/result.h"
#include "bench/pktgen/result_json.h"
#include "dataplane/dpdk/eal.h"
#include "dataplane/dpdk/pci_address.h"

namespace {

namespace po = boost::program_options;
using namespace millrace::pktgen;
using millrace::Error;
using millrace::Result;
using millrace::dpdk::Eal;

constexpr const char* kHelpHead = R"(Usage: millrace-pktgen --nic DEVICE PROFILE [option...]

Sends packets as PROFILE (YAML) says, and measures what comes back: loss, order, latency.

A DEVICE is a kernel interface (driven by AF_XDP: eth1), a PCI address bound to vfio-pci
(0000:03:00.0), or a DPDK virtual device with its arguments:
  net_null0,no-rx=1           swallows everything: how fast can this machine generate?
  net_ring0                   gives back what it got, in this process
  net_tap0,iface=tap0         a kernel interface that it makes
  net_pcap0,tx_pcap=out.pcap  writes a capture
  net_memif0,role=client      net_virtio_user0,path=/run/vhost.sock     net_vhost0,iface=/run/v.sock
Streams leave by the first nic; all nics are listened to.
)";

constexpr const char* kHelpTail = R"(
Exit status: 0 when the run went to its end, 1 when it could not start, 2 when packets came back
with a wrong checksum.
)";

std::atomic<bool> stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set by a signal handler");

void request_stop(int) { stop_requested.store(true, std::memory_order_relaxed); }

// The CPU to run on: the first that this process may use, as taskset or a cgroup left it.
std::uint32_t first_allowed_cpu() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof(set), &set) != 0) return 0;
  for (std::uint32_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) return cpu;
  }
  return 0;
}

po::options_description describe_options() {
  po::options_description described("Options");
  auto add = described.add_options();
  add("help", "show this");
  add("nic", po::value<std::vector<std::string>>()->value_name("DEVICE"),
      "device to send by and listen to; repeat for more to listen to");
  add("seconds", po::value<double>()->value_name("N"), "how long, instead of the profile's");
  add("rate", po::value<std::string>()->value_name("RATE"),
      "of every stream, or of connections if there are no streams, instead of the profile's "
      "(1mpps, 10gbit, 300kcps, max)");
  add("seed", po::value<std::uint64_t>()->value_name("N"), "instead of the profile's");
  add("warm-up", po::value<double>()->value_name("SECONDS")->default_value(0, "0"),
      "how long to answer neighbours and health probes before the first packet");
  add("start-file", po::value<std::string>()->value_name("FILE")->default_value("", "none"),
      "send the first packet when this file is there, too");
  add("drain", po::value<double>()->value_name("SECONDS")->default_value(0.2, "0.2"),
      "how long to listen after the last packet");
  add("json", po::value<std::string>()->value_name("FILE"),
      "write the result there too, with the machine's facts and whole histograms");
  add("check", po::bool_switch(), "only say whether the profile is right");
  add("quiet", po::bool_switch(), "no progress");
  add("eal", po::value<std::vector<std::string>>()->value_name("ARG")->default_value({}, "none"),
      "one more argument for DPDK; repeat for more (--eal=--no-huge --eal=-m --eal=256)");
  return described;
}

Result<Profile> read_profile(const po::variables_map& values) {
  if (values.count("profile") == 0) return Error{"PROFILE is missing (see --help)"};
  ProfileResult loaded = load_profile_file(values["profile"].as<std::string>());
  if (const auto* errors = std::get_if<std::vector<millrace::control::ConfigError>>(&loaded)) {
    std::string all;
    for (const auto& error : *errors) all += (all.empty() ? "" : "\n") + to_string(error);
    return Error{all};
  }
  Profile profile = std::get<Profile>(std::move(loaded));
  if (values.count("seconds") != 0) profile.seconds = values["seconds"].as<double>();
  if (profile.seconds <= 0) return Error{"--seconds: must be above 0"};
  if (values.count("seed") != 0) profile.seed = values["seed"].as<std::uint64_t>();
  if (values.count("rate") != 0) {
    const Result<Rate> rate = parse_rate(values["rate"].as<std::string>());
    if (!rate) return rate.error().within("--rate");
    for (Stream& stream : profile.streams) stream.rate = *rate;
    if (profile.connections && profile.streams.empty()) profile.connections->rate = *rate;
  }
  return profile;
}

millrace::Status start_eal(const po::variables_map& values, const GeneratorOptions& options) {
  bool use_pci = false;
  for (const std::string& device : options.devices) {
    use_pci = use_pci || millrace::dpdk::is_pci_address(device);
  }
  std::vector<std::string> extra = eal_arguments_for(options);
  for (const auto& word : values["eal"].as<std::vector<std::string>>()) extra.push_back(word);
  const auto eal = Eal::init({.main_cpu = first_allowed_cpu(),
                              .worker_cpus = {},
                              .use_pci = use_pci,
                              .memory_bytes = memory_bytes_for(options),
                              .extra = std::move(extra)});
  if (!eal) return eal.error();
  return millrace::ok();
}

// Overwritten in place on a terminal, a line a second otherwise.
void run_with_progress(Generator& generator, bool is_quiet) {
  const bool is_terminal = ::isatty(STDERR_FILENO) == 1;
  Progress before;
  generator.run([] { return stop_requested.load(std::memory_order_relaxed); },
                [&] {
                  if (is_quiet) return;
                  const Progress now = progress_of(generator);
                  std::fprintf(stderr, is_terminal ? "\r\033[K%s" : "%s\n",
                               progress_line(before, now).c_str());
                  before = now;
                });
  if (!is_quiet && is_terminal) std::fputs("\r\033[K", stderr);
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  char text[32] = "";
  if (::gmtime_r(&now, &parts) != nullptr) {
    (void)std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);  // 20 bytes
  }
  return text;
}

millrace::Status write_json(const std::string& path, const RunResult& result,
                            const RunFacts& facts) {
  std::ofstream file(path, std::ios::trunc);
  file << to_json(result, facts) << std::flush;
  if (!file) return Error{"--json: cannot write " + path};
  return millrace::ok();
}

Result<int> run(const po::variables_map& values, const std::vector<std::string>& words) {
  auto profile = read_profile(values);
  if (!profile) return profile.error();
  if (values["check"].as<bool>()) {
    std::printf("%s is right\n", values["profile"].as<std::string>().c_str());
    return 0;
  }
  if (values.count("nic") == 0) return Error{"--nic is missing (see --help)"};
  const GeneratorOptions options{.profile = std::move(profile).value(),
                                 .devices = values["nic"].as<std::vector<std::string>>(),
                                 .warm_up_seconds = values["warm-up"].as<double>(),
                                 .start_file = values["start-file"].as<std::string>(),
                                 .drain_seconds = values["drain"].as<double>()};
  const RunFacts facts{.machine = machine_facts(first_allowed_cpu()),
                       .command_line = words,
                       .devices = options.devices,
                       .started_at = utc_now()};
  if (auto started = start_eal(values, options); !started) return started.error();
  auto generator = Generator::make(options);
  if (!generator) return generator.error();
  struct sigaction action {};
  action.sa_handler = request_stop;
  (void)::sigaction(SIGINT, &action, nullptr);  // cannot fail with a valid signal
  (void)::sigaction(SIGTERM, &action, nullptr);
  run_with_progress(**generator, values["quiet"].as<bool>());
  const RunResult result = result_of(**generator);
  std::fputs(to_text(result).c_str(), stdout);
  if (values.count("json") != 0) {
    auto written = write_json(values["json"].as<std::string>(), result, facts);
    if (!written) return written.error();
  }
  return result.corrupt_packets > 0 ? 2 : 0;
}

Result<po::variables_map> parse(int argc, char** argv) {
  po::options_description all = describe_options();
  all.add_options()("profile", po::value<std::string>());
  po::variables_map values;
  try {  // the library's way to say what is wrong with the command line
    po::store(po::command_line_parser(argc, argv)
                  .options(all)
                  .positional(po::positional_options_description().add("profile", 1))
                  .run(),
              values);
    po::notify(values);
  } catch (const po::error& error) {
    return Error{error.what()};
  }
  return values;
}

int start(int argc, char** argv) {
  const Result<po::variables_map> values = parse(argc, argv);
  if (values && values->count("help") != 0) {
    std::cout << kHelpHead << '\n' << describe_options() << kHelpTail;
    return 0;
  }
  const Result<int> status = values ? run(*values, {argv, argv + argc}) : values.error();
  if (status) return *status;
  std::fprintf(stderr, "millrace-pktgen: %s\n", status.error().message.c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {  // memory that is not there for a million connections
    const int status = start(argc, argv);
    std::cout.flush();  // shares stdout's buffer
    if (std::cout && std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return status;
    std::fputs("millrace-pktgen: cannot write to standard output\n", stderr);
    return 1;
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "millrace-pktgen: %s\n", problem.what());
    return 1;
  }
}
