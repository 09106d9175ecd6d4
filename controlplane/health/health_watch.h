// SPDX-License-Identifier: Apache-2.0
//
// Whoever watches the targets' health, as the reconciler sees it. Cold. What is found comes back as
// a call of Reconciler::on_health().
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "controlplane/health/health_state.h"
#include "controlplane/model/model.h"

namespace millrace::control {

struct HealthTarget {
  TargetKey key;
  std::uint32_t id = 0;  // one with another is another target, of which nothing is known
  HealthCheck check;
  // HTTP: the port in the Host header, which in NLB is the listener's (0: the probed port). Of no
  // concern when the check names a host.
  std::uint16_t listener_port = 0;
  // Used only when the checker does not know the target yet; without it the target is `initial`.
  std::optional<TargetHealth> restored;
};

// Failures of probes are no evidence while the node itself cannot reach a target, as when the
// engine, which carries the probes, is down.
struct HealthHold {
  std::string reason;           // for the operator; "": nobody is held
  std::set<TargetKey> targets;  // only these are; empty: all
  // The probes that failed just before the hold may have failed for the same reason.
  bool forgets_failures = false;
};

class HealthWatch {
 public:
  virtual ~HealthWatch() = default;

  // Makes `targets` (unique keys) the whole set. A target that is in both sets with equal settings
  // is not touched; one whose settings changed keeps its health and is probed anew; probes of a
  // target that is gone are cancelled and its health is forgotten.
  virtual void set_targets(std::vector<HealthTarget> targets) = 0;

  // Replaces the hold before. Probes go on and passes count; a probe that was under way during a
  // hold cannot fail.
  virtual void set_hold(HealthHold hold) = 0;

  // How late the last probe of any target started, or the next one is by now if that is more; the
  // worst of all. What was late counts no longer when probes are in time again.
  [[nodiscard]] virtual std::chrono::nanoseconds lateness() const = 0;
};

}  // namespace millrace::control
