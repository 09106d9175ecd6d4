// SPDX-License-Identifier: Apache-2.0
//
// The control plane's one place of decision: joins the config that is wanted, the health that was
// observed, the next hops that the kernel knows and what the engine reports, and publishes the
// image that follows. Cold; everything runs on the thread of one boost::asio::io_context.
//
// api/ and telemetry/ see only this interface and the Snapshot.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "controlplane/model/model.h"
#include "controlplane/reconcile/snapshot.h"
#include "dataplane/core/config_view.h"
#include "dataplane/core/result.h"

namespace millrace::control {

// What an apply changed, for the operator.
struct ApplyOutcome {
  std::uint64_t generation = 0;  // unchanged when nothing differed that engines know
  std::uint32_t vips_added = 0;
  std::uint32_t vips_removed = 0;
  std::uint32_t vips_changed = 0;  // what their load balancer says of them
  std::uint32_t listeners_added = 0;
  std::uint32_t listeners_removed = 0;
  std::uint32_t listeners_changed = 0;
  std::uint32_t targets_added = 0;
  std::uint32_t targets_removed = 0;  // now draining
  std::uint32_t targets_changed = 0;
  std::uint32_t target_groups_added = 0;
  std::uint32_t target_groups_removed = 0;
  std::uint32_t target_groups_changed = 0;  // their settings
  bool is_node_changed = false;
  std::vector<std::string> warnings;  // sentences
};

class Controller {
 public:
  virtual ~Controller() = default;

  // Makes `config` (already checked by config/) the wanted state; only what differs is touched. It
  // is in force and stored when this returns. Fails without any effect when it does not fit the
  // contract's ceilings, cannot be published, or cannot be stored. `source`: the config file's
  // path, or who applied it.
  [[nodiscard]] virtual Result<ApplyOutcome> apply(Config config, std::string source) = 0;
  // What apply() would answer, without any effect.
  [[nodiscard]] virtual Result<ApplyOutcome> rehearse(const Config& config) = 0;

  // Starts or ends an operator's drain of one target. Returns what the operator should know, as
  // sentences. Fails without any effect, as apply() does; an error names what was not found.
  using Warnings = std::vector<std::string>;
  [[nodiscard]] virtual Result<Warnings> drain(const TargetKey& key) = 0;
  [[nodiscard]] virtual Result<Warnings> undrain(const TargetKey& key) = 0;

  [[nodiscard]] virtual Snapshot snapshot() const = 0;

  // The newest published image, for `explain`; valid until the next turn of the io_context.
  [[nodiscard]] virtual core::ConfigView published() const = 0;

  // The interface on which the node has this address itself, "" when it has not: no VIP may be one.
  [[nodiscard]] virtual std::string own_interface(const IpAddress& address) const = 0;

  // For the config source: the last attempt failed with this text ("" clears it). What runs stays.
  virtual void report_config_error(std::string error) = 0;
};

}  // namespace millrace::control
