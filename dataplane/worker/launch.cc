// SPDX-License-Identifier: Apache-2.0
#include "dataplane/worker/launch.h"

#include <net/if.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "dataplane/core/counted.h"
#include "dataplane/core/nanoseconds.h"
#include "dataplane/dpdk/library_log.h"
#include "dataplane/dpdk/numa.h"
#include "dataplane/dpdk/pci_address.h"
#include "dataplane/os/clock.h"
#include "dataplane/os/file.h"
#include "dataplane/os/interface.h"
#include "dataplane/os/privileges.h"
#include "dataplane/shm/atomic.h"
#include "dataplane/shm/renewal.h"

namespace millrace::worker {

namespace {

// How often the main thread looks for a new config: the largest part of a change's way to the
// workers.
constexpr std::uint64_t kTendNs = kMillisecondNs;
// How often it looks at the nics: a queue that nobody serves shows within a second.
constexpr std::uint64_t kNicCheckNs = 500'000'000;
// Sooner than two health checks can fail (interval 100 ms): the control plane must know before that
// the link is to blame.
constexpr std::uint64_t kLinkCheckNs = 20'000'000;
// How long a nic whose MAC address changed is dead to the engine.
constexpr std::uint64_t kMacCheckNs = 100'000'000;
// Soon enough that nobody takes this engine for dead, who looks for its lock ten times a second.
constexpr std::uint64_t kFileCheckNs = 50'000'000;
// From when on the service manager hears of a worker that stands still: what takes its CPU for less
// (a starved machine, a pause of the virtual machine) costs less than a restart.
constexpr std::uint64_t kSilenceNs = 10'000'000'000;
constexpr std::uint32_t kAnnouncementRingSize = 1024;
// What DPDK itself wants besides packet buffers: rings, lcore and driver state.
constexpr std::uint64_t kEalBytes = 16u << 20;

template <typename Field>
void copy_name(Field& field, const std::string& text) {
  text.copy(field, sizeof(field) - 1);
}

// For what a host lacks that only this engine needs.
Error or_without_dpdk(Error error) {
  error.message += "; or set node.engine: xdp and start millrace-xdp";
  return error;
}

// An engine that keeps a privilege works as well, so that is worth a warning and no more.
void warn_if_failed(const Status& status) {
  if (!status) spdlog::warn("{}", status.error().message);
}

void warn_if_far(const std::string& nic, const std::vector<std::uint32_t>& worker_cpus) {
  const dpdk::NumaNodes nodes;
  const std::vector<std::uint32_t> far = nodes.far_from(nic, worker_cpus);
  if (far.empty()) return;
  const std::uint32_t node = nodes.of_device(nic).value_or(0);
  spdlog::warn(
      "nic {}: is on NUMA node {}, but {} on other nodes, where each packet costs more: name CPUs "
      "of node {} with --worker-cpus (lscpu shows them)",
      nic, node, far.size() == 1 ? "a worker is" : std::to_string(far.size()) + " workers are",
      node);
}

}  // namespace

Engine::Engine(const EngineOptions& options)
    : options_(options),
      configs_(options.worker_count),
      config_reader_(options.runtime_dir + "/config", options.control_user) {}

Engine::~Engine() { stop_workers(); }

Result<std::unique_ptr<Engine>> Engine::start(const EngineOptions& options) {
  std::unique_ptr<Engine> engine(new Engine(options));
  if (Status locked = engine->take_lock(); !locked) return locked.error();
  if (Status usable = engine->check_devices(); !usable) return usable.error();

  dpdk::EalOptions eal{.main_cpu = options.main_cpu,
                       .worker_cpus = options.worker_cpus,
                       .memory_bytes = kEalBytes + dpdk::MbufPool::bytes_for(engine->mbuf_count(),
                                                                             engine->frame_bytes()),
                       .extra = options.eal_arguments};
  const dpdk::NumaNodes nodes;
  for (const NicChoice& nic : options.nics) {
    for (const std::string& device : dpdk::parts_of(nic.device)) {
      if (!dpdk::is_pci_address(device) || dpdk::is_gone(device)) continue;
      eal.use_pci = true;
      eal.extra.insert(eal.extra.end(), {"--allow", device});
      if (!dpdk::is_bond(nic.device)) continue;
      eal.memory_bytes += dpdk::member_memory_bytes(options.worker_count);
      eal.kept_on_nodes.insert(
          nodes.of_device(device).value_or(nodes.of_cpu(options.main_cpu).value_or(0)));
    }
  }
  Result<dpdk::Eal> started = dpdk::Eal::init(eal);
  if (!started) return or_without_dpdk(started.error());
  engine->eal_.emplace(std::move(*started));

  if (Status open = engine->open_nics(); !open) return open.error();
  if (Status open = engine->open_flow_tables(); !open) return or_without_dpdk(open.error());
  if (Status open = engine->open_stats(); !open) return open.error();
  if (Status ready = engine->make_announcer(); !ready) return ready.error();
  // A restarted engine has the config before its first packet: without one it would punt the
  // replies of known flows, which the kernel forwards untranslated, and clients answer with RST.
  engine->watch_config(clock_ns(CLOCK_MONOTONIC));
  if (Status running = engine->start_workers(); !running) return running.error();
  dpdk::LibraryLog::instance().begin_to_warn();
  engine->give_up_privileges();
  return engine;
}

Status Engine::take_lock() {
  if (::mkdir(options_.runtime_dir.c_str(), 0750) != 0 && errno != EEXIST) {
    return os::os_error("cannot make the runtime directory " + options_.runtime_dir);
  }
  Result<os::ProcessLock> lock = os::ProcessLock::acquire(options_.runtime_dir + "/dataplane.lock");
  if (!lock) return lock.error();
  lock_.emplace(std::move(*lock));
  return ok();
}

// Before anything that costs memory: how much, follows from the devices.
Status Engine::check_devices() const {
  std::vector<std::string> devices;  // so far, members of bonds among them
  for (std::size_t nic = 0; nic < options_.nics.size(); ++nic) {
    const std::string& device = options_.nics[nic].device;
    if (dpdk::is_bond(device)) {
      if (const auto bond = dpdk::parse_bond(device); !bond) {
        return bond.error().within("nic " + device);
      }
    }
    if (dpdk::is_pci_address(device)) {
      if (Status right = dpdk::check_pci_address(device); !right) {
        return right.error().within("nic " + device);
      }
    }
    for (std::string part : dpdk::parts_of(device)) {
      part.resize(std::min(part.find(','), part.size()));  // what follows is for its driver
      if (std::ranges::count(devices, part) != 0) {
        return Error{"nic " + part + ": is named twice"};
      }
      devices.push_back(std::move(part));
    }
    const std::string& twin = options_.nics[nic].twin;
    const auto has_twin = [&](const NicChoice& other) { return other.twin == twin; };
    if (!twin.empty() && std::ranges::count_if(options_.nics, has_twin) > 1) {
      return Error{"twin " + twin + ": is named twice"};
    }
    // One that is not there gets its advice where it is opened.
    if (::if_nametoindex(twin.c_str()) != 0) {
      if (Status usable = os::check_interface(twin); !usable) {
        return Error{"twin " + usable.error().message};
      }
    }
    if (!dpdk::Nic::is_interface(device)) continue;
    if (Status usable = os::check_interface(device); !usable) {
      return Error{"nic " + usable.error().message};
    }
    if (const std::string why = dpdk::why_no_af_xdp(device); !why.empty()) {
      return Error{"nic " + device + ": " + why};
    }
  }
  return ok();
}

dpdk::NicOptions Engine::nic_options(std::size_t nic) const {
  const auto& [device, twin] = options_.nics[nic];
  const std::uint32_t mtu = dpdk::mtu_of(dpdk::Nic::is_interface(device) ? device : twin);
  const Result<core::MacAddr> twin_mac = os::mac_of_interface(twin);
  return {.device = device,
          .index = static_cast<std::uint8_t>(nic),
          .queue_count = options_.queue_count,
          .worker_count = options_.worker_count,
          .mtu = mtu != 0 ? mtu : dpdk::kMtuUsual,
          .known_mac = twin_mac ? std::optional(*twin_mac) : std::nullopt};
}

// What the nic with the largest MTU needs: a packet that came in on one may leave on any.
std::uint32_t Engine::frame_bytes() const {
  std::uint32_t bytes = dpdk::kFrameBytesUsual;
  for (std::size_t nic = 0; nic < options_.nics.size(); ++nic) {
    bytes = std::max(bytes, dpdk::Nic::frame_bytes(nic_options(nic)));
  }
  return bytes;
}

// Everything that can hold an mbuf at once; the pool works best one below a power of two.
std::uint32_t Engine::mbuf_count() const {
  std::uint32_t queues = 0;
  for (std::size_t nic = 0; nic < options_.nics.size(); ++nic) {
    const auto parts = static_cast<std::uint32_t>(dpdk::parts_of(options_.nics[nic].device).size());
    queues += parts * (dpdk::Nic::expected_queue_count(nic_options(nic)) + options_.worker_count);
  }
  // AF_XDP keeps twice its descriptors in the kernel's rings.
  const std::uint32_t in_queues = queues * 2 * dpdk::kQueueDescriptors;
  const std::uint32_t in_workers = (options_.worker_count + 1) * 2 * kHandoverRingSize;
  return std::bit_ceil(in_queues + in_workers + kAnnouncementRingSize) - 1;
}

Status Engine::open_nics() {
  Result<dpdk::MbufPool> pool = dpdk::MbufPool::create("packets", mbuf_count(), frame_bytes());
  if (!pool) return pool.error();
  pool_.emplace(std::move(*pool));
  for (const NicChoice& choice : options_.nics) {
    if (Status prepared = prepare_interface(choice.device); !prepared) return prepared;
    const auto index = static_cast<std::uint8_t>(nics_.size());
    const dpdk::NicOptions options = nic_options(index);
    Result<std::unique_ptr<dpdk::Nic>> nic = dpdk::Nic::open(options, *pool_);
    if (!nic) return nic.error();
    nics_.push_back(std::move(*nic));
    twins_.emplace_back();
    if (nics_.back()->bond()) {
      spdlog::info("nic {}: is {} from here on", choice.device, nics_.back()->name());
    }
    if (nics_.back()->filters_multicast()) {
      spdlog::warn(
          "nic {}: takes neither all multicast nor promiscuous mode, as virtual functions and "
          "clouds' NICs: neighbours do not find its IPv6 addresses by asking (runbook, \"PCI "
          "NICs\")",
          choice.device);
    }
    warn_if_far(choice.device, options_.worker_cpus);
    if (choice.twin.empty()) {
      spdlog::warn("nic {}: has no --twin; what is not for a VIP is dropped", choice.device);
      continue;
    }
    if (Status opened = open_twin(index, options.mtu); !opened) return opened;
  }
  return ok();
}

// The node is one machine for its neighbours: what it sends through the twin is as long as what the
// nic takes, and what the control plane tells clients of the way to a target holds for both.
Status Engine::open_twin(std::uint8_t nic, std::uint32_t mtu) {
  const std::string& name = options_.nics[nic].twin;
  Result<dpdk::ExceptionPath> twin = dpdk::ExceptionPath::open(name, nic, nics_[nic]->mac());
  if (!twin) return twin.error();
  twins_[nic].emplace(std::move(*twin));
  const std::uint32_t had = dpdk::mtu_of(name);
  if (had == mtu || !dpdk::Nic::is_interface(options_.nics[nic].device)) return ok();
  if (Status changed = dpdk::set_mtu(name, mtu); !changed) return changed.error().within("twin");
  spdlog::info("twin {}: has the MTU of nic {} now, {} instead of {}", name,
               options_.nics[nic].device, mtu, had);
  return ok();
}

Status Engine::open_flow_tables() {
  Result<shm::FlowSet> set = shm::FlowSet::open(options_.flow_dir, options_.runtime_dir);
  if (!set) return set.error();
  flow_set_.emplace(std::move(*set));
  for (const std::string& problem : flow_set_->problems()) {
    spdlog::warn("starting without its flows: {}", problem);
  }
  const std::size_t left = flow_set_->left().size();
  Result<shm::FlowSet::TakenOver> taken = flow_set_->take_over(
      {.worker_count = options_.worker_count, .capacity = options_.flow_capacity});
  if (!taken) return taken.error();
  if (!flow_set_->files().front().has_huge_pages()) {
    spdlog::warn("{}: not on hugetlbfs; lookups will miss the TLB", options_.flow_dir);
  }
  if (left != 0) {
    spdlog::info("{}: {} kept, from {} into {}", options_.flow_dir,
                 core::counted(taken->flows, "flow"), core::counted(left, "table"),
                 options_.worker_count);
  }
  if (taken->refused != 0) {
    spdlog::warn("{}: {} found no room (raise --flows)", options_.flow_dir,
                 core::counted(taken->refused, "flow"));
  }
  flow_tables_ = std::move(taken->tables);
  return ok();
}

Status Engine::open_stats() {
  shm::StatsOptions stats{.engine_kind = MR_ENGINE_DPDK,
                          .engine_start_ns = clock_ns(CLOCK_BOOTTIME),
                          .worker_count = options_.worker_count,
                          .nics = {},
                          .flow_table_dir = options_.flow_dir};
  for (std::size_t i = 0; i < nics_.size(); ++i) {
    mr_nic nic{};
    copy_name(nic.name, nics_[i]->name());
    copy_name(nic.twin, options_.nics[i].twin);
    nic.twin_index = ::if_nametoindex(options_.nics[i].twin.c_str());
    std::copy(nics_[i]->mac().bytes.begin(), nics_[i]->mac().bytes.end(), nic.mac);
    links_up_.push_back(nics_[i]->link_is_up());
    lost_programs_.push_back(false);
    idle_members_.emplace_back();
    carriers_.push_back(nics_[i]->bond() ? nics_[i]->bond()->carrier() : 0);
    nic.link_up = links_up_[i] ? 1 : 0;
    if (twins_[i]) twins_[i]->set_carrier(links_up_[i]);
    stats.nics.push_back(nic);
  }
  Result<shm::StatsWriter> writer =
      shm::StatsWriter::create(options_.runtime_dir + "/stats", stats);
  if (!writer) return writer.error();
  stats_.emplace(std::move(*writer));
  return ok();
}

std::vector<core::MacAddr> Engine::macs_at_start() const {
  std::vector<core::MacAddr> macs;
  for (const auto& nic : nics_) macs.push_back(nic->mac());
  return macs;
}

Status Engine::make_announcer() {
  Result<dpdk::MbufRing> announcements =
      dpdk::MbufRing::create("announcements", kAnnouncementRingSize);
  if (!announcements) return announcements.error();
  announcements_.emplace(std::move(*announcements));
  nic_macs_.reset(macs_at_start());
  announcer_.emplace(macs_at_start(), *pool_, *announcements_);
  std::vector<std::string> twins;
  for (const NicChoice& choice : options_.nics) twins.push_back(choice.twin);
  memberships_.emplace(twins);
  return ok();
}

Status Engine::start_workers() {
  if (options_.worker_count > 1) {
    Result<HandoverRings> rings = HandoverRings::create(options_.worker_count);
    if (!rings) return rings.error();
    handover_rings_.emplace(std::move(*rings));
  }
  for (std::uint32_t index = 0; index < options_.worker_count; ++index) {
    WorkerOptions worker{.index = index,
                         .rx_queues = {},
                         .exits = {},
                         .flow_table = flow_tables_[index],
                         .nic_macs = macs_at_start(),
                         .changing_macs = &nic_macs_,
                         .configs = &configs_,
                         .handover_rings = handover_rings_ ? &*handover_rings_ : nullptr,
                         .announcements = index == 0 ? &*announcements_ : nullptr,
                         .pool = &*pool_,
                         .published = &stats_->worker(index),
                         .listener_stats = stats_->listeners(index),
                         .target_stats = stats_->targets(index),
                         .spins = options_.spins};
    for (std::size_t nic = 0; nic < nics_.size(); ++nic) {
      const std::span<const dpdk::RxQueue> queues = nics_[nic]->rx_queues();
      std::vector<dpdk::RxQueue> own;
      for (std::size_t queue = index; queue < queues.size(); queue += options_.worker_count) {
        own.push_back(queues[queue]);
      }
      worker.rx_queues.insert(worker.rx_queues.end(), own.begin(), own.end());
      worker.exits.tx_queues.push_back(&nics_[nic]->tx_queue(index));
      if (const auto& bond = nics_[nic]->bond()) {
        worker.bond_turns.emplace_back(*bond, nics_[nic]->tx_queue(index), own);
      }
      worker.exits.twins.push_back(twins_[nic] ? &*twins_[nic] : nullptr);
    }
    stats_->worker(index).cpu = options_.worker_cpus[index];
    workers_.push_back(std::make_unique<Worker>(worker));
  }
  return launch_workers();
}

Status Engine::launch_workers() {
  if (Status committed = flow_set_->commit(); !committed) return committed;
  if (Status published = stats_->publish(); !published) return published;
  for (std::uint32_t index = 0; index < options_.worker_count; ++index) {
    work_.emplace_back([this, index] {
      warn_if_failed(os::drop_privileges());
      workers_[index]->run(workers_stop_);
    });
  }
  workers_run_ = true;
  for (std::uint32_t index = 0; index < options_.worker_count; ++index) {
    if (Status launched = eal_->launch(index, work_[index]); !launched) return launched;
  }
  return ok();
}

// On the two threads that are not workers'.
void Engine::give_up_privileges() {
  warn_if_failed(
      eal_->call_on_interrupt_thread([](void*) { warn_if_failed(os::drop_privileges()); }));
  warn_if_failed(os::drop_privileges());
}

void Engine::stop_workers() {
  workers_stop_.store(true, std::memory_order_relaxed);
  if (workers_run_) eal_->wait_for_workers();
  workers_run_ = false;
}

void Engine::run(bool (*is_stop_asked)()) {
  dpdk::Clock clock;
  const timespec pause{.tv_sec = 0, .tv_nsec = kTendNs};
  while (!is_stop_asked()) {
    tend(clock.now_ns());
    (void)::clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);  // a signal may cut it short
  }
  stop_workers();
}

void Engine::tend(std::uint64_t now_ns) {
  watch_config(now_ns);
  configs_.collect();
  announcer_->run(now_ns);
  if (const std::string problem = memberships_->run(now_ns); !problem.empty()) {
    spdlog::warn("{}", problem);
  }
  if (now_ns >= link_check_ns_) {
    follow_names();
    watch_links(now_ns);
    link_check_ns_ = now_ns + kLinkCheckNs;
  }
  if (now_ns >= nic_check_ns_) {
    watch_queues();
    watch_tags();
    nic_check_ns_ = now_ns + kNicCheckNs;
  }
  if (now_ns >= mac_check_ns_) {
    watch_macs(now_ns);
    mac_check_ns_ = now_ns + kMacCheckNs;
  }
  if (now_ns >= file_check_ns_) {
    check_files();
    spdlog::default_logger_raw()->flush();  // tells of lines that were lost
    file_check_ns_ = now_ns + kFileCheckNs;
  }
  stats_->set_heartbeat(now_ns);
  if (workers_turn(now_ns)) watchdog_.turn(now_ns);
}

// A worker that stands still takes a share of the flows with it: no sign of life then, and after
// WatchdogSec= a restart, which keeps flows, brings it back.
bool Engine::workers_turn(std::uint64_t now_ns) const {
  for (std::uint32_t index = 0; index < options_.worker_count; ++index) {
    const std::uint64_t beat_ns = shm::load_relaxed(stats_->worker(index).heartbeat_ns);
    if (now_ns > beat_ns + kSilenceNs) return false;
  }
  return true;
}

// Whoever empties the runtime directory takes the control plane's view of this engine. Flow tables
// that are removed go on being used, but nobody can put them back.
void Engine::check_files() {
  Result<bool> made = shm::renew_lost(options_.runtime_dir, *lock_, *stats_);
  if (made && *made) spdlog::warn("somebody has removed or cut files of this engine: made again");
  std::string problem = made ? "" : made.error().message;
  const auto lost = std::ranges::find_if(
      flow_set_->files(), [](const shm::FlowFile& file) { return file.is_replaced(); });
  if (problem.empty() && lost != flow_set_->files().end()) {
    problem = lost->path() + " was removed: flows end with this process";
  }
  if (!problem.empty() && problem != file_problem_) {
    spdlog::error("somebody has removed files of this engine: {}", problem);
  }
  file_problem_ = problem;
}

void Engine::watch_config(std::uint64_t now_ns) {
  shm::ConfigEvent event = config_reader_.poll();
  switch (event.kind) {
    case shm::ConfigEvent::Kind::none:
      return;
    case shm::ConfigEvent::Kind::refused:
      spdlog::error("config generation {} refused, the one before stays: {}", event.generation,
                    event.reason);
      stats_->set_refused(event.generation, event.reason);
      return;
    case shm::ConfigEvent::Kind::adopted:
      spdlog::debug("config generation {} adopted", event.generation);
      announcer_->adopt(event.config.view, now_ns);
      memberships_->adopt(event.config.view);
      accept_local_macs(event.config.view);
      configs_.publish(std::move(event.config));
      stats_->set_adopted(event.generation);
      return;
  }
}

}  // namespace millrace::worker
