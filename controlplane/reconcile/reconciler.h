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
// It composes: Publication and StateKeeper carry out, SurroundingsReader, OwnerCounters, EngineNews
// and HealthHolder each keep one matter of the world outside. That comes in through the interfaces
// in Parts, time included, so that tests decide it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "controlplane/config/config_source.h"
#include "controlplane/health/health_watch.h"
#include "controlplane/net/route_watch.h"
#include "controlplane/reconcile/clock.h"
#include "controlplane/reconcile/control_state.h"
#include "controlplane/reconcile/controller.h"
#include "controlplane/reconcile/engine_news.h"
#include "controlplane/reconcile/engine_watch.h"
#include "controlplane/reconcile/group_queue.h"
#include "controlplane/reconcile/health_holder.h"
#include "controlplane/reconcile/host.h"
#include "controlplane/reconcile/owner_counters.h"
#include "controlplane/reconcile/path_mtus.h"
#include "controlplane/reconcile/publication.h"
#include "controlplane/reconcile/state_keeper.h"
#include "controlplane/reconcile/surroundings.h"
#include "controlplane/store/store.h"

namespace millrace::control {

class Reconciler final : public Controller {
 public:
  struct Options {
    std::string runtime_dir;
    std::uint64_t segment_bytes = Publisher::Options{}.segment_bytes;
    std::string version;
    std::uint64_t start_ns = 0;  // CLOCK_BOOTTIME
  };
  // The world outside. All of it must outlive the reconciler.
  struct Parts {
    const Clock& clock;
    Host& host;
    HealthWatch& health;
    RouteWatch& routes;
    ConfigSource& source;
  };
  // Goes on from what the store and the config segment hold. Publishes nothing before apply().
  [[nodiscard]] static Result<std::unique_ptr<Reconciler>> open(Options options,
                                                                std::unique_ptr<Store> store,
                                                                const Parts& parts);

  [[nodiscard]] Result<ApplyOutcome> apply(Config config, std::string source) override;
  [[nodiscard]] Result<ApplyOutcome> rehearse(const Config& config) override;
  [[nodiscard]] Result<Warnings> drain(const TargetKey& key) override;
  [[nodiscard]] Result<Warnings> undrain(const TargetKey& key) override;
  [[nodiscard]] Snapshot snapshot() const override;
  [[nodiscard]] core::ConfigView published() const override { return publication_->in_force(); }
  [[nodiscard]] std::string own_interface(const IpAddress& address) const override {
    return parts_.routes.interface_of(address);
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
  void on_outer_error(const OuterError& error);
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
  Reconciler(Options options, const Parts& parts, ControlState state, StateKeeper keeper,
             std::unique_ptr<Publication> publication);

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
  void note_change();
  void wake(Haste haste);
  [[nodiscard]] Status settle_all(const Moment& now, OnFailure on_failure);
  [[nodiscard]] Status put_in_force(ImageContents contents, const Moment& now,
                                    OnFailure on_failure);
  void settle_groups(const std::vector<std::string>& names, const Moment& now);
  void advance_drains(std::uint64_t now_ns);
  void note_due(std::uint64_t now_ns);
  void poll_engine();
  void look_at_engine();
  void begin_counters();
  void choose_listener_ports();
  void watch_ways();
  void tell_health();
  [[nodiscard]] std::uint64_t now_ns() const { return parts_.clock.now().monotonic_ns; }
  [[nodiscard]] EngineSnapshot engine_snapshot(std::uint64_t now_ns) const;
  [[nodiscard]] Surroundings surroundings(std::uint64_t now_ns) const;
  [[nodiscard]] std::vector<Alarm> alarms(const EngineSnapshot& engine) const;
  [[nodiscard]] TargetRecord* find_target(const TargetKey& key);
  [[nodiscard]] std::optional<std::uint64_t> active_flows(std::uint32_t target_slot) const;
  // True when that changes who is probed.
  [[nodiscard]] bool note_all_flows(std::uint64_t now_ns);

  Options options_;
  Parts parts_;
  ControlState state_;
  StateKeeper keeper_;
  std::unique_ptr<Publication> publication_;
  EngineWatch engine_;
  EngineNews news_;
  HealthHolder holder_;
  OwnerCounters counters_;
  PathMtus path_mtus_;
  SurroundingsReader surroundings_;

  bool is_applied_ = false;
  bool is_grace_over_ = false;
  bool is_woken_ = false;
  bool is_dirty_ = false;               // anything may have changed
  GroupQueue stale_groups_;             // in these, health or the end of a window
  std::uint64_t flows_checked_ns_ = 0;  // CLOCK_MONOTONIC, as below
  std::uint64_t drain_due_ns_ = 0;      // when the next drain ends; kNever: none runs
  std::string config_error_;
  bool is_file_wrong_ = false;  // which is what config_error_ says
};

}  // namespace millrace::control
