// SPDX-License-Identifier: Apache-2.0
//
// The XDP engine's daemon: puts the program into the kernel and keeps house for it. The program
// forwards without it: what is here may be killed and started anew at any time, and traffic takes
// no notice. Cold.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bpf/engine/announcer.h"
#include "bpf/engine/config_mirror.h"
#include "bpf/engine/flow_copy.h"
#include "bpf/engine/memberships.h"
#include "bpf/engine/nics.h"
#include "bpf/engine/pins.h"
#include "bpf/engine/program.h"
#include "bpf/engine/stats_copy.h"
#include "bpf/engine/sweep.h"
#include "dataplane/os/process_lock.h"
#include "dataplane/os/service_manager.h"
#include "dataplane/shm/config_reader.h"
#include "dataplane/shm/flow_set.h"
#include "dataplane/shm/stats_writer.h"

namespace millrace::xdp {

constexpr const char* kFlowDir = "/run/millrace/flows";  // unless another is given

struct EngineOptions {
  std::vector<std::string> interfaces;  // nic i of the config is the i-th
  Attachment attachment = {};
  std::uint32_t flows = shm::kFlowCapacityDefault;  // a power of two
  std::uint64_t config_bytes = 64ull << 20;         // to start with; it grows with the config
  std::uint32_t listener_slots = 1024;              // counted one by one; 64 bytes for each and CPU
  std::uint32_t target_slots = 16384;               // likewise
  std::uint32_t flow_inserts_per_ms = 2000;         // per CPU
  std::uint32_t replies_per_ms = 100;               // per CPU
  std::string runtime_dir;
  std::uint32_t control_user = 0;  // as shm::ConfigReader's
  std::string flow_dir;
  std::string pin_dir;
};

class Engine {
 public:
  // Returns when the program forwards on all interfaces.
  [[nodiscard]] static Result<std::unique_ptr<Engine>> start(const EngineOptions& options);

  // Until `is_stop_asked`, which it asks in each turn. The program stays where it is.
  void run(bool (*is_stop_asked)());

 private:
  explicit Engine(const EngineOptions& options);
  [[nodiscard]] Status take_lock();
  [[nodiscard]] Status find_nics();
  [[nodiscard]] Status lock_directories();
  [[nodiscard]] Status load_program();
  [[nodiscard]] Status prepare_control();
  [[nodiscard]] Status open_mirror();
  [[nodiscard]] Status draw_secrets();
  void import_flows_of_others();
  [[nodiscard]] Status open_stats();
  [[nodiscard]] Status attach();
  [[nodiscard]] Status put_on_nics();
  void tend(std::uint64_t now_ns);
  [[nodiscard]] bool keep_attached(std::uint32_t index);
  void check_files();
  [[nodiscard]] Status make_copy_again();
  void watch_config(std::uint64_t now_ns);
  void follow_names();
  void keep_tags();
  void follow_members();
  void watch_links(std::uint64_t now_ns);
  void watch_macs(std::uint64_t now_ns);
  void publish_drops(std::uint32_t nic);
  void adopt(shm::ConfigEvent event, std::uint64_t now_ns);
  [[nodiscard]] Status put_in_force(const core::ConfigView& view);
  [[nodiscard]] Status grow_config(std::uint64_t missing_bytes);

  EngineOptions options_;
  std::optional<os::ProcessLock> lock_;
  std::vector<Nic> nics_;
  std::optional<Pins> pins_;
  std::optional<Program> program_;
  std::optional<ConfigMirror> mirror_;  // of the program's config lines
  std::optional<shm::FlowSet> flow_set_;
  std::optional<FlowCopy> flow_copy_;
  std::optional<shm::StatsWriter> stats_;
  std::optional<StatsCopy> stats_copy_;
  std::optional<Sweep> sweep_;
  std::optional<Announcer> announcer_;
  std::optional<Memberships> memberships_;
  shm::ConfigReader config_reader_;
  shm::CheckedConfig config_;            // the one in force
  std::vector<mr_nic> drops_before_;     // what the nics had dropped when the daemon started
  std::vector<bool> has_told_of_drops_;  // by nic: that its driver dropped what it was to send
  std::uint64_t link_check_due_ns_ = 0;
  std::uint64_t mac_check_due_ns_ = 0;
  std::uint64_t nic_check_due_ns_ = 0;
  std::vector<bool> carriers_;          // by nic, as of the last check of links
  std::vector<bool> links_up_;          // by nic, as of the last check
  std::vector<std::uint64_t> members_;  // of nics that are bonds, as mr_xdp_control has them
  std::uint64_t file_check_due_ns_ = 0;
  std::vector<std::string> attach_problems_;  // by nic: what was said last
  std::string file_problem_;                  // likewise
  std::string tags_problem_;                  // likewise
  os::Watchdog watchdog_;
};

// The lock of whoever is the engine, or puts an end to it. Makes the directory if it is missing.
[[nodiscard]] Result<os::ProcessLock> take_engine_lock(const std::string& runtime_dir);

// Ends forwarding on all interfaces and removes everything from the kernel; flows stay in the flow
// directory, which is that of the last daemon when `flow_dir` is "". Fails while a daemon runs.
// Says in the log what it did and what it did not find.
[[nodiscard]] Status detach(const EngineOptions& options);

}  // namespace millrace::xdp
