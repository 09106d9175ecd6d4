// SPDX-License-Identifier: Apache-2.0
//
// The Controller: joins config, health, next hops and what the engine reports into the state, and
// publishes what follows from it. Cold; one thread, no I/O of its own but the store and the
// segments.
//
//   apply, drain, health, next hops --> state --> store --> image --> publisher
//   tick (every 100 ms)             --> engine's counters, ended drains and windows, retirement,
//                                       reuse of config memory, what could not be done before
//
// A change of one target's health is worked out for its group alone: the other groups, which may
// have 10,000 targets, are not looked at.
//
// The world outside comes in through Hooks, time included, so that tests decide it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controlplane/health/checker.h"
#include "controlplane/net/next_hops.h"
#include "controlplane/publish/publisher.h"
#include "controlplane/reconcile/control_state.h"
#include "controlplane/reconcile/controller.h"
#include "controlplane/reconcile/engine_watch.h"
#include "controlplane/reconcile/group_queue.h"
#include "controlplane/reconcile/health_hold.h"
#include "controlplane/reconcile/image_plan.h"
#include "controlplane/reconcile/observations.h"
#include "controlplane/reconcile/restore.h"
#include "controlplane/store/state_store.h"
#include "dataplane/core/nanoseconds.h"

namespace millrace::control {

// As journald's priorities: what needs somebody, what somebody should know, what happens.
enum class LogLevel : std::uint8_t { error, warning, info };

struct ReconcilerHooks {
  std::function<Moment()> now;
  // A config as text from which main.cc can load it again.
  std::function<std::string(const Config&)> config_text;
  // health/
  std::function<void(std::vector<HealthTarget>)> set_health_targets;
  std::function<void(HealthHold)> set_health_hold;
  // net/
  std::function<void(std::set<std::uint32_t>)> set_twins;
  std::function<void(std::vector<IpAddress>)> watch_next_hops;
  std::function<std::optional<NextHopInfo>(const IpAddress&)> find_next_hop;
  std::function<std::optional<NextHopInfo>(AddressFamily)> default_next_hop;
  std::function<std::vector<IpAddress>()> local_addresses;
  std::function<std::vector<LocalMac>()> local_macs;
  std::function<std::string(const IpAddress&)> own_interface;
  // The state of an interface, by the kernel's number for it, asked for now.
  std::function<LinkState(std::uint32_t)> link_state;
  // The highest id of a listener or target in the first `table_count` flow tables in `directory`; 0
  // when there is none. Reads the tables whole, so it is asked only when no config is in force.
  std::function<std::uint32_t(const std::string& directory, std::uint32_t table_count)>
      highest_flow_id;
  // What the parts outside find wrong, for the operator.
  std::function<std::vector<Alarm>()> alarms;
  // How late health checks start, at worst.
  std::function<std::int64_t()> probe_lateness_ns;
  // Something changed: call settle() soon. Called once until then, so that changes gather.
  std::function<void()> wake;
  // config_file_text: the config file's bytes now, nullopt when it cannot be read.
  // is_said_by_config_file: whether the file says the same as `text`, however either is written.
  std::function<std::optional<std::string>()> config_file_text;
  std::function<bool(const std::string& text)> is_said_by_config_file;
  // A part of a long piece of work is done. The largest configs take seconds in all, and the loop
  // does not turn meanwhile. Whoever waits for a sign of life must not take that for a hang.
  std::function<void()> note_progress;
  // For the log: one line about what happened.
  std::function<void(LogLevel, const std::string&)> log;
};

class Reconciler final : public Controller {
 public:
  struct Options {
    std::string runtime_dir;
    std::string config_file;  // its path, for the operator
    std::uint64_t segment_bytes = Publisher::Options{}.segment_bytes;
    std::string version;
    std::uint64_t start_ns = 0;  // CLOCK_BOOTTIME
  };
  // Goes on from what the store and the config segment hold. Publishes nothing before apply().
  [[nodiscard]] static Result<std::unique_ptr<Reconciler>> open(Options options, StateStore store,
                                                                ReconcilerHooks hooks);

  [[nodiscard]] Result<ApplyOutcome> apply(Config config, std::string source) override;
  [[nodiscard]] Result<ApplyOutcome> rehearse(const Config& config) override;
  [[nodiscard]] Result<Warnings> drain(const TargetKey& key) override;
  [[nodiscard]] Result<Warnings> undrain(const TargetKey& key) override;
  [[nodiscard]] Snapshot snapshot() const override;
  [[nodiscard]] core::ConfigView published() const override { return publisher_->published(); }
  [[nodiscard]] std::string own_interface(const IpAddress& address) const override {
    return hooks_.own_interface(address);
  }
  void report_config_error(std::string error) override {
    config_error_ = std::move(error);
    is_file_wrong_ = false;
  }
  // Likewise for an error of the config file. It stays until somebody puts the file back to what is
  // in force.
  void report_file_error(std::string error) {
    config_error_ = std::move(error);
    is_file_wrong_ = true;
  }

  // The last config that was applied, by this process or one before it.
  [[nodiscard]] const AppliedConfig& stored_config() const { return state_.config; }
  // True when the stored config differs from the config file, and the file is as it was when that
  // config was applied. Then the stored config is newer, and goes on over a restart.
  [[nodiscard]] bool is_stored_config_newer_than_file() const;
  // Goes on with the stored config after a start; `config` is what its text says.
  [[nodiscard]] Status resume(const Config& config);

  void on_health(const TargetKey& key, const TargetHealth& health);
  void on_next_hops() { note_change(); }
  // Every 100 ms or so.
  void tick();
  // Carries out what changed since the last time; wakes for what is left.
  void settle();
  // How many groups with changes of their own go into one image. A change that comes while the
  // image is made waits for so many lookup tables at most, a millisecond each. With more groups,
  // their tables fall out of the caches. With fewer, the parts of an image that do not depend on
  // what changed (1 ms at 1,000 groups) would be a large share of the work.
  static constexpr std::size_t kGroupsPerImage = 32;

 private:
  // After a restart, the kernel has not been asked about all next hops yet. Meanwhile those of the
  // image in force stand in for them, because a restart of the control plane must not cost a
  // packet.
  static constexpr std::uint64_t kGraceNs = 5 * kSecondNs;

  Reconciler(Options options, StateStore store, ReconcilerHooks hooks, ControlState state,
             std::unique_ptr<Publisher> publisher);
  [[nodiscard]] static Result<std::unique_ptr<Publisher>> open_publisher(
      const Options& options, std::uint64_t generation_floor);

  // What to do when something that was decided cannot be published or stored.
  enum class OnFailure : std::uint8_t {
    refuse,  // leave no trace outside, and say why
    retry,   // bring what can be into force, with an alarm, and try the rest again
  };

  [[nodiscard]] Result<ApplyOutcome> bring_in(const Config& config, AppliedConfig applied);
  [[nodiscard]] Status carry_out(ControlState before, const Moment& now);
  // Adds to `warnings` what keeps the engine from carrying out a change.
  [[nodiscard]] Warnings with_engine(Warnings warnings) const;
  void take_over_what_is_in_force(const Config& config, const Moment& now);
  [[nodiscard]] std::uint32_t unseen_id_floor(const Moment& now) const;
  [[nodiscard]] Status reserve_ids(std::uint32_t count);
  void note_change();
  void wake();
  [[nodiscard]] Status settle_all(const Moment& now, OnFailure on_failure);
  [[nodiscard]] Status put_in_force(ImageContents contents, const Moment& now,
                                    OnFailure on_failure);
  void settle_groups(const std::vector<std::string>& names, const Moment& now);
  void poll_engine();
  void look_at_engine();
  void note_engine_state(const EngineSnapshot& engine);
  void observe_counters();
  void begin_counters();
  void hold_health(std::uint64_t now_ns);
  [[nodiscard]] std::set<TargetKey> targets_behind(NicMask nics) const;
  void note_nics();
  void note_ways(std::uint64_t now_ns);
  void note_nic_troubles(const EngineSnapshot& engine);
  [[nodiscard]] Status save(const Moment& now);
  void save_targets(const std::vector<StoredTarget>& rows, const Moment& now);
  [[nodiscard]] bool is_floor_reached() const {
    return publisher_->generation() + 1 >= generation_floor_;
  }
  void note_saved(const Status& saved);
  [[nodiscard]] Status commit(const Moment& now);
  void note_published(const Status& published, const Moment& now);
  // The last try failed, and the next one is not due yet.
  [[nodiscard]] bool waits_to_publish(std::uint64_t now_ns) const;
  [[nodiscard]] bool waits_to_save(std::uint64_t now_ns) const;
  void replace_lost_segment();
  [[nodiscard]] bool note_all_flows(std::uint64_t now_ns);
  void choose_listener_ports();
  void watch_ways();
  void tell_health();
  [[nodiscard]] core::ConfigView stand_in(std::uint64_t now_ns) const;
  [[nodiscard]] FindWay way_to_targets(std::uint64_t now_ns) const;
  [[nodiscard]] Surroundings surroundings(std::uint64_t now_ns) const;
  [[nodiscard]] mr_addr encap_source(AddressFamily family, const mr_image* before) const;
  void note_alarm(std::string& before, const std::string& now, const char* over) const;
  [[nodiscard]] std::vector<Alarm> alarms(const EngineSnapshot& engine) const;
  void add_own_vip_alarms(std::vector<Alarm>& alarms) const;
  void add_unreachable_alarm(const GroupState& group, const EngineSnapshot& engine,
                             std::vector<Alarm>& alarms) const;
  void add_encap_source_alarm(const GroupState& group, std::vector<Alarm>& alarms) const;
  void add_mtu_alarm(const GroupState& group, std::vector<Alarm>& alarms) const;
  [[nodiscard]] std::optional<mr_next_hop> resolved(const std::optional<NextHopInfo>& hop) const;
  [[nodiscard]] TargetRecord* find_target(const TargetKey& key);
  [[nodiscard]] std::optional<std::uint64_t> active_flows(std::uint32_t target_slot) const;

  Options options_;
  StateStore store_;
  ReconcilerHooks hooks_;
  ControlState state_;
  std::unique_ptr<Publisher> publisher_;
  EngineWatch engine_;
  CounterSums<mr_listener_stats> listener_sums_;
  CounterSums<mr_target_stats> target_sums_;

  std::uint64_t opened_at_ns_ = 0;  // CLOCK_MONOTONIC, as all below
  std::uint64_t published_at_ns_ = 0;
  std::uint64_t publish_failed_ns_ = 0;
  std::uint64_t saved_at_ns_ = 0;  // or tried to
  std::uint64_t flows_checked_ns_ = 0;
  bool is_applied_ = false;
  bool is_grace_over_ = false;
  bool is_woken_ = false;
  bool is_dirty_ = false;    // anything may have changed
  GroupQueue stale_groups_;  // in these, health or the end of a window
  HoldWatch hold_watch_;
  NicMask target_nics_ = 0;
  std::uint64_t probe_timeout_min_ns_ = 0;
  Alarm hold_alarm_;
  std::vector<Alarm> nic_alarms_;
  std::optional<EngineState> engine_state_;  // as told last
  std::uint64_t drain_due_ns_ = 0;           // when the next drain ends; kNever: none runs
  ImageContents contents_;                   // as published last, while has_contents_
  bool has_contents_ = false;
  std::uint64_t generation_floor_ = 0;  // as stored
  std::string config_error_;
  bool is_file_wrong_ = false;  // which is what config_error_ says
  std::string publish_alarm_;
  std::string store_alarm_;
};

}  // namespace millrace::control
