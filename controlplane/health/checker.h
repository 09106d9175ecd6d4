// SPDX-License-Identifier: Apache-2.0
//
// Keeps the health of every target of every group: probes each at its own point of its interval and
// tells the reconciler what changed. Cold; one instance, on the control plane's io_context only.
//
// Scales by bounds, not by threads: hundreds to thousands of targets share one thread; at most
// probes_max connections are open at once, later probes wait their turn (probe_queue.h).
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
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
  // HTTP: the port in the Host header, 0 for the probed port. It is the listener's, as NLB has it
  // (deploy/nlb.md, "Health checks"). Not used when the check names a host.
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

class HealthChecker {
 public:
  // `on_change` is called on the io_context, never from within a call of this class, for every
  // change of a target's state, reason or description.
  using OnChange = std::function<void(const TargetKey&, const TargetHealth&)>;
  HealthChecker(boost::asio::io_context& io, OnChange on_change);
  ~HealthChecker();
  HealthChecker(const HealthChecker&) = delete;
  HealthChecker& operator=(const HealthChecker&) = delete;

  // Makes `targets` (unique keys) the whole set. A target that is in both sets with equal settings
  // is not touched; one whose settings changed keeps its health and is probed anew; probes of a
  // target that is gone are cancelled and its health is forgotten.
  void set_targets(std::vector<HealthTarget> targets);

  // Replaces the hold before. Probes go on and passes count; a probe that was under way during a
  // hold cannot fail.
  void set_hold(HealthHold hold);

  [[nodiscard]] std::optional<TargetHealth> find(const TargetKey& key) const;

  // What keeps this node from probing, e.g. "7 of 20 targets not probed: Too many open files
  // (web-80/10.0.1.11:80 for one)"; "" when nothing does. The health of a target that is not probed
  // stays what it was, however long: nothing is known against it.
  [[nodiscard]] std::string problem() const;
  // Nothing but a hold is that problem, which passes with what it is for.
  [[nodiscard]] bool is_held() const;

  // How late the last probe of any target started, or the next one is by now if that is more; the
  // worst of all. What was late counts no longer when probes are in time again. When probes are
  // later than ProbeLateness::kMax, and not just for a moment, lateness_problem() says which and
  // why; else it is "".
  [[nodiscard]] std::chrono::nanoseconds lateness() const;
  [[nodiscard]] std::string lateness_problem() const;

  // Connections open at once: half of the process's descriptor limit, at most 8192.
  [[nodiscard]] std::size_t probes_max() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace::control
