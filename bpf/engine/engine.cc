// SPDX-License-Identifier: Apache-2.0
#include "bpf/engine/engine.h"

#include <bpf/libbpf.h>
#include <linux/capability.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "dataplane/core/counted.h"
#include "dataplane/os/clock.h"
#include "dataplane/os/interface.h"
#include "dataplane/os/privileges.h"
#include "dataplane/shm/renewal.h"

namespace millrace::xdp {

namespace {
// How often the daemon looks for a new config: a part of a change's way to the program.
constexpr long kTendNs = 1'000'000;
// The control plane must know of a link before two health checks (interval 100 ms) can fail.
constexpr std::uint64_t kLinkCheckNs = 20'000'000;
// What else there is to see of a nic: drops, and whether the program is still there.
constexpr std::uint64_t kNicCheckNs = 500'000'000;
// How long a nic whose MAC address changed is dead to the program.
constexpr std::uint64_t kMacCheckNs = 100'000'000;
// Soon enough that nobody takes this daemon for dead, who looks for its lock ten times a second.
constexpr std::uint64_t kFileCheckNs = 50'000'000;
constexpr std::uint64_t kConfigBytesMax = 16ull << 30;  // as --config-mib
constexpr std::array<unsigned, 3> kKeptCapabilities = {CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON};

std::uint64_t now_ns() { return clock_ns(CLOCK_MONOTONIC); }

std::uint32_t lines_of(std::uint64_t bytes) {
  return static_cast<std::uint32_t>(bytes / MR_CONFIG_LINE_BYTES);
}

template <typename Field>
void copy_name(Field& field, const std::string& text) {
  text.copy(field, sizeof(field) - 1);
}

void report(const Import& import, const char* source) {
  if (import.flows != 0) {
    spdlog::info("{} taken over from {}", core::counted(import.flows, "flow"), source);
  }
  if (import.refused != 0) {
    spdlog::warn("{} found no room", core::counted(import.refused, "flow"));
  }
}

}  // namespace

Engine::Engine(const EngineOptions& options)
    : options_(options), config_reader_(options.runtime_dir + "/config", options.control_user) {}

Result<os::ProcessLock> take_engine_lock(const std::string& runtime_dir) {
  if (::mkdir(runtime_dir.c_str(), 0750) != 0 && errno != EEXIST) {
    return os::os_error("cannot make the runtime directory " + runtime_dir);
  }
  return os::ProcessLock::acquire(runtime_dir + "/dataplane.lock");
}

Result<std::unique_ptr<Engine>> Engine::start(const EngineOptions& options) {
  std::unique_ptr<Engine> engine(new Engine(options));
  for (const auto step :
       {&Engine::take_lock, &Engine::find_nics, &Engine::lock_directories, &Engine::load_program,
        &Engine::prepare_control, &Engine::open_stats, &Engine::attach}) {
    if (Status done = (engine.get()->*step)(); !done) return done.error();
  }
  // An engine that keeps a privilege works as well, so that is worth a warning and no more. Those
  // that stay load the program again when the config outgrows its memory, and join groups.
  if (Status dropped = os::drop_privileges(kKeptCapabilities); !dropped) {
    spdlog::warn("{}", dropped.error().message);
  }
  return engine;
}

Status Engine::take_lock() {
  Result<os::ProcessLock> lock = take_engine_lock(options_.runtime_dir);
  if (!lock) return lock.error();
  lock_.emplace(std::move(*lock));
  return ok();
}

Status Engine::lock_directories() {
  Result<Pins> pins = Pins::open(options_.pin_dir);
  if (!pins) return pins.error();
  pins_.emplace(std::move(*pins));
  Result<shm::FlowSet> flow_set = shm::FlowSet::open(options_.flow_dir, options_.runtime_dir);
  if (!flow_set) return flow_set.error();
  flow_set_.emplace(std::move(*flow_set));
  return ok();
}

Status Engine::find_nics() {
  for (const std::string& name : options_.interfaces) {
    Result<Nic> nic = find_nic(name);
    if (!nic) return nic.error();
    const Result<std::vector<std::string>> changed = os::keep_vlan_tags(name);
    if (!changed) return changed.error().within("--interface " + name);
    for (const std::string& interface : *changed) {
      spdlog::info("interface {}: leaves VLAN tags in frames from now on (rxvlan off)", interface);
    }
    nics_.push_back(std::move(*nic));
  }
  Result<Memberships> memberships = Memberships::open(nics_);
  if (!memberships) return memberships.error();
  memberships_.emplace(std::move(*memberships));
  Result<Announcer> announcer = Announcer::open(nics_);
  if (!announcer) return announcer.error();
  announcer_.emplace(std::move(*announcer));
  if (options_.attachment.mode == Mode::generic) {
    spdlog::warn(
        "--mode generic: every packet passes the kernel's stack first; for drivers without "
        "native XDP only");
  }
  return ok();
}

Status Engine::load_program() {
  const int cpu_count = ::libbpf_num_possible_cpus();
  if (cpu_count < 1 || cpu_count > static_cast<int>(MR_WORKER_COUNT_MAX)) {
    return Error{"this machine may have " + std::to_string(cpu_count) + " CPUs, more than the " +
                 std::to_string(MR_WORKER_COUNT_MAX) +
                 " that are counted one by one (kernel option possible_cpus=)"};
  }
  Result<Program> program =
      Program::load({.config_lines = lines_of(options_.config_bytes),
                     .flows = options_.flows,
                     .cpu_count = static_cast<std::uint32_t>(cpu_count),
                     .listener_slots = options_.listener_slots,
                     .target_slots = options_.target_slots,
                     .is_for_chains = options_.attachment.chain_priority.has_value()},
                    *pins_);
  if (!program) return program.error();
  program_.emplace(std::move(*program));
  mr_xdp_control& control = *program_->maps().control;
  control.cpu_count = static_cast<std::uint32_t>(cpu_count);
  return ok();
}

Status Engine::prepare_control() {
  mr_xdp_control& control = *program_->maps().control;
  control.flow_mask = options_.flows - 1;
  control.listener_slots = options_.listener_slots;
  control.target_slots = options_.target_slots;
  control.flow_inserts_per_ms = options_.flow_inserts_per_ms;
  control.replies_per_ms = options_.replies_per_ms;
  if (Status set = program_->set_clock(); !set) return set;
  if (program_->has_kept_maps()) {
    spdlog::info("going on with the maps of an earlier daemon");
    return ok();
  }
  spdlog::info("new maps: {}", program_->why_new_maps());
  if (Status drawn = draw_secrets(); !drawn) return drawn;
  if (Status set = program_->set_nics(nics_); !set) return set;
  follow_members();
  import_flows_of_others();
  return ok();
}

Status Engine::open_mirror() {
  Result<ConfigMirror> mirror = ConfigMirror::open(program_->maps());
  if (!mirror) return mirror.error();
  mirror_.emplace(std::move(*mirror));
  return ok();
}

Status Engine::draw_secrets() {
  mr_xdp_control& control = *program_->maps().control;
  if (::getrandom(control.flow_secret, sizeof(control.flow_secret), 0) !=
          sizeof(control.flow_secret) ||
      ::getrandom(&control.flow_multiplier, sizeof(control.flow_multiplier), 0) !=
          sizeof(control.flow_multiplier)) {
    return os::os_error("no random numbers");
  }
  control.flow_multiplier |= 1;  // an even one loses bits
  return ok();
}

// Maps of another size are newer than their copy in the flow directory.
void Engine::import_flows_of_others() {
  if (Result<FormerFlows> former = pinned_flows(*pins_); former) {
    report(import_flows(former->flows, former->last_hops, program_->maps()),
           "maps of another size");
    return;
  }
  for (const std::string& problem : flow_set_->problems()) {
    spdlog::warn("flows are left out: {}", problem);
  }
  report(import_tables(flow_set_->left(), program_->maps()), options_.flow_dir.c_str());
}

Status Engine::open_stats() {
  // New maps have the flows of what was left, which stays as it is until this start has succeeded.
  Result<FlowCopy> copy = program_->has_kept_maps() ? FlowCopy::reuse(*flow_set_, options_.flows)
                                                    : FlowCopy::create(*flow_set_, options_.flows);
  if (!copy) return copy.error();
  flow_copy_.emplace(std::move(*copy));
  flow_copy_->set_all(program_->maps().flows, program_->maps().last_hops);
  sweep_.emplace(program_->maps(), &*flow_copy_);

  shm::StatsOptions stats{.engine_kind = MR_ENGINE_XDP,
                          .engine_start_ns = clock_ns(CLOCK_BOOTTIME),
                          .worker_count = program_->maps().control->cpu_count,
                          .listener_slots = options_.listener_slots,
                          .target_slots = options_.target_slots,
                          .nics = {},
                          .flow_table_dir = options_.flow_dir};
  for (const Nic& nic : nics_) {
    mr_nic shown{};
    copy_name(shown.name, nic.name);
    copy_name(shown.twin, nic.name);  // the kernel's part of the traffic is on the interface itself
    shown.twin_index = nic.ifindex;
    std::copy(nic.mac.bytes.begin(), nic.mac.bytes.end(), shown.mac);
    shown.link_up = link_is_up(nic) ? 1 : 0;
    stats.nics.push_back(shown);
    count_drops(nic, drops_before_.emplace_back());
    has_told_of_drops_.push_back(false);
  }
  Result<shm::StatsWriter> writer =
      shm::StatsWriter::create(options_.runtime_dir + "/stats", stats);
  if (!writer) return writer.error();
  stats_.emplace(std::move(*writer));
  stats_copy_.emplace(program_->maps(), *stats_);
  return ok();
}

// What an earlier daemon left is replaced from here on only. Attaching is what may well fail, and
// then is taken back; a kill in between leaves flows in pinned maps or in the old copy.
Status Engine::attach() {
  const std::vector<std::uint32_t> former = pins_->interfaces();
  if (Status put = put_on_nics(); !put) return put;
  Status entered =
      program_->has_kept_maps() ? program_->set_nics(nics_) : program_->pin_maps(*pins_);
  if (!entered) return entered;
  follow_members();
  for (const std::uint32_t ifindex : former) {
    const auto is_it = [&](const Nic& nic) { return nic.ifindex == ifindex; };
    if (std::ranges::none_of(nics_, is_it)) memberships_->leave_all(ifindex);
  }
  if (Status committed = flow_set_->commit(); !committed) return committed;
  if (Status published = stats_->publish(); !published) return published;
  sweep_->run_round(config_.view, now_ns());
  return ok();
}

// The program has the config before its first packet: without one it would leave replies of known
// flows to the kernel, which forwards them untranslated, and clients answer with RST.
Status Engine::put_on_nics() {
  // Of maps that an earlier daemon made for less.
  const std::uint32_t lines = lines_of(options_.config_bytes);
  if (program_->maps().config_lines.size() < lines) {
    Status grown = program_->grow_config(lines, nics_, options_.attachment.mode, *pins_);
    if (!grown) return grown;
  }
  if (Status opened = open_mirror(); !opened) return opened;
  watch_config(now_ns());
  return program_->attach(nics_, options_.attachment, *pins_);
}

void Engine::run(bool (*is_stop_asked)()) {
  const timespec pause{.tv_sec = 0, .tv_nsec = kTendNs};
  while (!is_stop_asked()) {
    tend(now_ns());
    (void)::clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);  // a signal may cut it short
  }
  sweep_->run_round(config_.view, now_ns());
  for (std::size_t cpu = 0; cpu < program_->maps().cpus.size(); ++cpu) {
    stats_copy_->publish(*sweep_, config_.view, now_ns());
  }
}

void Engine::tend(std::uint64_t now_ns) {
  watch_config(now_ns);
  if (!sweep_->has_counted()) sweep_->run_round(config_.view, now_ns);  // the first config has come
  sweep_->run(config_.view, now_ns);
  stats_copy_->add_announced(announcer_->run(now_ns));
  stats_copy_->publish(*sweep_, config_.view, now_ns);
  if (const std::string problem = memberships_->run(now_ns); !problem.empty()) {
    spdlog::warn("{}", problem);
  }
  if (now_ns >= link_check_due_ns_) {
    follow_names();
    if (note_links(nics_, carriers_)) nic_check_due_ns_ = now_ns;
    link_check_due_ns_ = now_ns + kLinkCheckNs;
  }
  if (now_ns >= nic_check_due_ns_) {
    watch_links(now_ns);
    nic_check_due_ns_ = now_ns + kNicCheckNs;
  }
  if (now_ns >= mac_check_due_ns_) {
    watch_macs(now_ns);
    mac_check_due_ns_ = now_ns + kMacCheckNs;
  }
  if (now_ns >= file_check_due_ns_) {
    check_files();
    spdlog::default_logger_raw()->flush();  // tells of lines that were lost
    file_check_due_ns_ = now_ns + kFileCheckNs;
  }
  stats_->set_heartbeat(now_ns);
  watchdog_.turn(now_ns);
}

// Whoever empties the runtime directory takes the control plane's view of this daemon, and from
// the flow directory what another engine would go on with.
void Engine::check_files() {
  Result<bool> made = shm::renew_lost(options_.runtime_dir, *lock_, *stats_);
  if (made && flow_set_->files().front().is_replaced()) {
    Status again = make_copy_again();
    made = again ? Result<bool>(true) : Result<bool>(again.error());
  }
  if (!made && made.error().message != file_problem_) {
    spdlog::error("somebody has removed files of this daemon: {}", made.error().message);
  }
  if (made && *made) spdlog::warn("somebody has removed or cut files of this daemon: made again");
  file_problem_ = made ? "" : made.error().message;
}

Status Engine::make_copy_again() {
  Result<shm::FlowSet> set = flow_set_->open_again();
  if (!set) return set.error();
  Result<FlowCopy> copy = FlowCopy::create(*set, options_.flows);
  if (!copy) return copy.error();
  copy->set_all(program_->maps().flows, program_->maps().last_hops);
  if (Status committed = set->commit(); !committed) return committed;
  *flow_copy_ = *copy;  // the sweep has its address
  *flow_set_ = std::move(*set);
  return ok();
}

void Engine::watch_config(std::uint64_t now_ns) {
  shm::ConfigEvent event = config_reader_.poll();
  if (event.kind == shm::ConfigEvent::Kind::none) return;
  if (event.kind == shm::ConfigEvent::Kind::adopted) return adopt(std::move(event), now_ns);
  spdlog::error("config generation {} refused, the one before stays: {}", event.generation,
                event.reason);
  stats_->set_refused(event.generation, event.reason);
}

void Engine::adopt(shm::ConfigEvent event, std::uint64_t now_ns) {
  if (Status adopted = put_in_force(event.config.view); !adopted) {
    const std::string& reason = adopted.error().message;
    spdlog::error("config generation {} refused, the one before stays: {}", event.generation,
                  reason);
    stats_->set_refused(event.generation, reason);
    return;
  }
  spdlog::debug("config generation {} adopted", event.generation);
  announcer_->adopt(event.config.view, now_ns);
  memberships_->adopt(event.config.view);
  config_ = std::move(event.config);
  stats_copy_->acknowledge(event.generation);
  stats_->set_adopted(event.generation);
}

Status Engine::put_in_force(const core::ConfigView& view) {
  if (!mirror_) {
    if (Status opened = open_mirror(); !opened) return opened;
  }
  Status adopted = mirror_->adopt(view);
  if (adopted || mirror_->missing_bytes() == 0) return adopted;
  if (Status grown = grow_config(mirror_->missing_bytes()); !grown) {
    return grown.error().within(adopted.error().message);
  }
  return mirror_->adopt(view);  // there is one, and room for it
}

// At least twice as much, so that a config that grows and grows is copied a few times only.
Status Engine::grow_config(std::uint64_t missing_bytes) {
  const std::uint64_t has = program_->maps().config_lines.size_bytes();
  const std::uint64_t wants = has + std::max(has, missing_bytes);
  if (wants > kConfigBytesMax) return Error{"it cannot grow beyond 16 GiB"};
  Status grown = program_->grow_config(lines_of(wants), nics_, options_.attachment.mode, *pins_);
  if (!grown) return grown;
  mirror_.reset();  // the memory that it knew is gone
  return open_mirror();
}

}  // namespace millrace::xdp
