// SPDX-License-Identifier: Apache-2.0
//
// millrace-xdp: the XDP engine. Reads the command line, puts the program into the kernel, keeps
// house for it until a signal. Cold. The only place that prints a start-up failure, in one line,
// and sets the exit status.
#include <spdlog/spdlog.h>

#include <bit>
#include <boost/program_options.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "bpf/engine/engine.h"
#include "dataplane/core/counted.h"
#include "dataplane/os/service_manager.h"
#include "dataplane/program/program.h"
#include "dataplane/shm/flow_set.h"

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
using millrace::xdp::Engine;
using millrace::xdp::EngineOptions;
using millrace::xdp::kFlowDir;
using millrace::xdp::Mode;

constexpr const char* kName = "millrace-xdp";
constexpr const char* kHelpHead = R"(Usage: millrace-xdp --interface IFACE... [option...]
       millrace-xdp detach [--runtime-dir DIR] [--flow-dir DIR] [--pin-dir DIR]

Forwards packets of VIPs inside the kernel as the control plane says (RUNTIME_DIR/config): an XDP
program on each interface sees every frame first and leaves to the kernel what is not for a VIP. The
interfaces keep their addresses and routes; no huge pages, no core of its own, no kernel twin.

The program stays attached when this daemon ends, however it ends, and goes on forwarding with the
config that it has. Started again, the daemon goes on with all flows and puts its own version of the
program in the place of the old one between two packets. `detach` removes everything and leaves the
flows in FLOW_DIR, where either engine finds them; `ip link set IFACE xdp off` removes nothing.

  millrace-xdp --interface eth1
)";

constexpr const char* kHelpTail = R"(
SIGTERM and SIGINT end the daemon, not the forwarding. SIGHUP is ignored.
)";

// Of BPF maps: their entries are counted in 32 bits, and this is far beyond any use.
constexpr std::uint32_t kFlowsMax = 1u << 26;
constexpr std::uint32_t kConfigMebibytesMax = 16384;

po::options_description describe_options() {
  po::options_description described("Options");
  auto add = described.add_options();
  add("help", "show this");
  add("version", "show the version");
  add("interface", po::value<std::vector<std::string>>()->multitoken()->value_name("IFACE..."),
      "interfaces to forward on");
  add("mode", po::value<std::string>()->value_name("MODE")->default_value("native"),
      "native: in the driver; generic: any driver, slow, a last resort");
  add("chain", po::value<std::uint32_t>()->value_name("PRIORITY"),
      "share the interface with other XDP programs through libxdp's dispatcher: those with a lower "
      "number see a packet first, those with a higher one what is left to the kernel");
  add("flows",
      po::value<std::uint32_t>()->value_name("N")->default_value(
          millrace::shm::kFlowCapacityDefault),
      "records of the flow table, rounded up to a power of two; about 150 bytes each");
  add("config-mib", po::value<std::uint32_t>()->value_name("MIB")->default_value(64),
      "kernel memory for configs to start with; it doubles when a config finds no room, but "
      "not with --chain. 64 hold about 100 target groups, in force and changed");
  add("listener-slots", po::value<std::uint32_t>()->value_name("N")->default_value(1024),
      "listener slots that are counted one by one");
  add("target-slots", po::value<std::uint32_t>()->value_name("N")->default_value(16384),
      "target slots that are counted one by one; 64 bytes for each and CPU");
  add("flow-dir", po::value<std::string>()->value_name("DIR")->default_value(kFlowDir),
      "where a copy of the flows is kept, for `millrace flows` and the other engine; detach takes "
      "the last daemon's");
  add("runtime-dir", po::value<std::string>()->value_name("DIR")->default_value("/run/millrace"),
      "where the config and stats segments are");
  add("pin-dir", po::value<std::string>()->value_name("DIR")->default_value("/sys/fs/bpf/millrace"),
      "folder of a bpf file system for what outlives the daemon");
  millrace::program::add_common_options(described);
  return described;
}

Result<std::uint32_t> number_in(const po::variables_map& values, const char* name,
                                std::uint32_t max) {
  const auto value = values[name].as<std::uint32_t>();
  if (value >= 1 && value <= max) return value;
  return Error{std::string("--") + name + ": " + std::to_string(value) + " is not 1 to " +
               std::to_string(max)};
}

EngineOptions with_directories(const po::variables_map& values) {
  EngineOptions options;
  options.flow_dir = values["flow-dir"].as<std::string>();
  options.runtime_dir = values["runtime-dir"].as<std::string>();
  options.pin_dir = values["pin-dir"].as<std::string>();
  return options;
}

Result<EngineOptions> to_engine_options(const po::variables_map& values) {
  EngineOptions options = with_directories(values);
  if (values.count("interface") == 0) return Error{"--interface is missing (see --help)"};
  options.interfaces = values["interface"].as<std::vector<std::string>>();
  if (options.interfaces.size() > MR_NIC_COUNT_MAX) {
    return Error{"--interface: at most " + std::to_string(MR_NIC_COUNT_MAX) + " are possible"};
  }
  const auto& mode = values["mode"].as<std::string>();
  if (mode != "native" && mode != "generic") {
    return Error{"--mode: '" + mode + "' is neither native nor generic"};
  }
  options.attachment.mode = mode == "native" ? Mode::native : Mode::generic;
  if (values.count("chain") != 0) {
    options.attachment.chain_priority = values["chain"].as<std::uint32_t>();
  }
  const Result<std::uint32_t> flows = number_in(values, "flows", kFlowsMax);
  const Result<std::uint32_t> mebibytes = number_in(values, "config-mib", kConfigMebibytesMax);
  const Result<std::uint32_t> listeners =
      number_in(values, "listener-slots", MR_LISTENER_SLOTS_MAX);
  const Result<std::uint32_t> targets = number_in(values, "target-slots", MR_TARGET_SLOTS_MAX);
  for (const auto* number : {&flows, &mebibytes, &listeners, &targets}) {
    if (!*number) return number->error();
  }
  options.flows = std::bit_ceil(*flows);
  options.config_bytes = std::uint64_t{*mebibytes} << 20;
  const Result<std::uint32_t> control_user = millrace::program::control_user(values);
  if (!control_user) return control_user.error();
  options.control_user = *control_user;
  options.listener_slots = *listeners;
  options.target_slots = *targets;
  return options;
}

int run(const EngineOptions& options) {
  const millrace::program::StopAsked is_stop_asked = stop_on_signals();
  Result<std::unique_ptr<Engine>> engine = Engine::start(options);
  if (!engine) return fail(kName, engine.error());
  spdlog::info("ready: {}, {}, runtime directory {}",
               counted(options.interfaces.size(), "interface"), counted(options.flows, "flow"),
               options.runtime_dir);
  millrace::os::tell_ready();
  (*engine)->run(is_stop_asked);
  spdlog::info("stopped; the program goes on forwarding (millrace-xdp detach ends that)");
  return 0;
}

}  // namespace

// NOLINTNEXTLINE(bugprone-exception-escape): only for want of memory or by a mistake in here
int main(int argc, char** argv) {
  po::options_description all = describe_options();
  all.add_options()("command", po::value<std::string>()->default_value("run"));
  po::positional_options_description positional;
  positional.add("command", 1);
  Result<po::variables_map> values = millrace::program::parse(argc, argv, all, positional);
  if (!values) return fail(kName, values.error());
  if (values->count("help") != 0) {
    std::ostringstream text;
    text << kHelpHead << '\n' << describe_options() << kHelpTail;
    return print(kName, text.str());
  }
  if (values->count("version") != 0) {
    return print(kName, "millrace-xdp " MILLRACE_VERSION "\n");
  }
  const Status logs = start_log(kName, (*values)["log-level"].as<std::string>());
  if (!logs) return fail(kName, logs.error());
  const auto& command = (*values)["command"].as<std::string>();
  if (command == "detach") {
    EngineOptions options = with_directories(*values);
    if ((*values)["flow-dir"].defaulted()) options.flow_dir.clear();  // then as the daemon's
    const Status detached = millrace::xdp::detach(options);
    return detached ? 0 : fail(kName, detached.error());
  }
  if (command != "run") return fail(kName, Error{"'" + command + "' is no command (see --help)"});
  Result<EngineOptions> options = to_engine_options(*values);
  if (!options) return fail(kName, options.error());
  return run(*options);
}
