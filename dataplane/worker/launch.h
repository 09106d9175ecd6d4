// SPDX-License-Identifier: Apache-2.0
//
// The engine: opens everything, starts the workers, and is then the main thread, which watches for
// configs, announces VIPs and beats the heart. Cold.
//
//   start()   lock -> EAL -> packet pool -> nics -> twins -> flow tables -> stats segment
//             -> workers
//   run()     every millisecond until told to stop; then the workers end and flow tables stay
//
// A failure on the way undoes what was opened: there is no partial start. What the last engine left
// in the flow directory is replaced when nothing but the workers' start is to come.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/core/flow_table.h"
#include "dataplane/core/result.h"
#include "dataplane/dpdk/clock.h"
#include "dataplane/dpdk/eal.h"
#include "dataplane/dpdk/exception_path.h"
#include "dataplane/dpdk/mbuf_pool.h"
#include "dataplane/dpdk/mbuf_ring.h"
#include "dataplane/dpdk/nic.h"
#include "dataplane/os/process_lock.h"
#include "dataplane/os/service_manager.h"
#include "dataplane/shm/config_reader.h"
#include "dataplane/shm/flow_set.h"
#include "dataplane/shm/stats_writer.h"
#include "dataplane/worker/announcer.h"
#include "dataplane/worker/config_exchange.h"
#include "dataplane/worker/handover.h"
#include "dataplane/worker/memberships.h"
#include "dataplane/worker/nic_macs.h"
#include "dataplane/worker/poll_loop.h"

namespace millrace::worker {

inline constexpr std::uint32_t kWorkersMax = 16;
static_assert(kWorkersMax <= MR_WORKER_COUNT_MAX);

struct NicChoice {
  std::string device;  // dpdk::NicOptions::device
  std::string twin;    // kernel TAP interface; empty: none
};

struct EngineOptions {
  std::vector<NicChoice> nics;
  std::uint32_t worker_count = 1;  // 1 to kWorkersMax
  std::uint32_t queue_count = 0;   // rx queues per nic; 0: all that it spreads frames over
  std::uint32_t main_cpu = 0;
  std::vector<std::uint32_t> worker_cpus;                   // one for each worker
  std::uint32_t flow_capacity = shm::kFlowCapacityDefault;  // per worker
  std::string flow_dir;
  std::string runtime_dir;
  std::uint32_t control_user = 0;  // as shm::ConfigReader's
  bool spins = false;
  std::vector<std::string> eal_arguments;
};

class Engine {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Engine>> start(const EngineOptions& options);

  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  ~Engine();

  // Asks `is_stop_asked` in each turn; returns after it said yes and the workers have ended.
  void run(bool (*is_stop_asked)());

 private:
  explicit Engine(const EngineOptions& options);

  [[nodiscard]] Status take_lock();
  [[nodiscard]] Status check_devices() const;
  [[nodiscard]] Status open_nics();
  [[nodiscard]] Status open_flow_tables();
  [[nodiscard]] Status open_stats();
  [[nodiscard]] Status make_announcer();
  [[nodiscard]] Status start_workers();
  [[nodiscard]] Status launch_workers();
  void give_up_privileges();
  void stop_workers();
  void tend(std::uint64_t now_ns);
  void watch_config(std::uint64_t now_ns);
  void follow_names();
  void watch_links(std::uint64_t now_ns);
  void watch_program(std::uint32_t nic);
  void watch_bond(std::uint32_t nic, std::uint64_t now_ns);
  void watch_queues();
  void watch_macs(std::uint64_t now_ns);
  void watch_tags();
  [[nodiscard]] std::optional<core::MacAddr> mac_now(std::size_t nic) const;
  void accept_local_macs(const core::ConfigView& view);
  [[nodiscard]] Status prepare_interface(const std::string& device) const;
  [[nodiscard]] dpdk::NicOptions nic_options(std::size_t nic) const;
  void check_files();
  [[nodiscard]] bool workers_turn(std::uint64_t now_ns) const;
  [[nodiscard]] std::uint32_t mbuf_count() const;
  [[nodiscard]] std::vector<core::MacAddr> macs_at_start() const;
  [[nodiscard]] std::uint32_t frame_bytes() const;
  [[nodiscard]] Status open_twin(std::uint8_t nic, std::uint32_t mtu);

  // In the order in which they are opened; the end undoes it backwards.
  EngineOptions options_;
  std::optional<os::ProcessLock> lock_;
  std::optional<dpdk::Eal> eal_;
  std::optional<dpdk::MbufPool> pool_;
  std::vector<std::unique_ptr<dpdk::Nic>> nics_;
  std::vector<std::optional<dpdk::ExceptionPath>> twins_;  // by nic
  std::optional<shm::FlowSet> flow_set_;
  std::vector<core::FlowTable> flow_tables_;
  std::optional<shm::StatsWriter> stats_;
  ConfigExchange configs_;
  std::optional<HandoverRings> handover_rings_;
  std::optional<dpdk::MbufRing> announcements_;
  std::optional<Announcer> announcer_;
  std::optional<Memberships> memberships_;
  NicMacs nic_macs_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::function<void()>> work_;  // what each worker's lcore runs
  std::atomic<bool> workers_stop_{false};
  bool workers_run_ = false;
  shm::ConfigReader config_reader_;
  std::uint64_t nic_check_ns_ = 0;
  std::uint64_t mac_check_ns_ = 0;
  std::vector<bool> links_up_;                               // by nic, as of the last check
  std::vector<bool> lost_programs_;                          // likewise
  std::vector<std::vector<dpdk::IdleMember>> idle_members_;  // of bonds, likewise
  std::vector<std::uint16_t> carriers_;                      // likewise
  std::uint64_t link_check_ns_ = 0;
  std::uint64_t file_check_ns_ = 0;
  std::string file_problem_;  // what was said last
  std::string tags_problem_;  // likewise
  os::Watchdog watchdog_;
};

}  // namespace millrace::worker
