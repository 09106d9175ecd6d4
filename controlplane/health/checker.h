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
#include <string>
#include <vector>

#include "controlplane/health/health_watch.h"

namespace millrace::control {

class HealthChecker final : public HealthWatch {
 public:
  // `on_change` is called on the io_context, never from within a call of this class, for every
  // change of a target's state, reason or description.
  using OnChange = std::function<void(const TargetKey&, const TargetHealth&)>;
  HealthChecker(boost::asio::io_context& io, OnChange on_change);
  ~HealthChecker() override;
  HealthChecker(const HealthChecker&) = delete;
  HealthChecker& operator=(const HealthChecker&) = delete;

  void set_targets(std::vector<HealthTarget> targets) override;
  void set_hold(HealthHold hold) override;

  [[nodiscard]] std::optional<TargetHealth> find(const TargetKey& key) const;

  // What keeps this node from probing, e.g. "7 of 20 targets not probed: Too many open files
  // (web-80/10.0.1.11:80 for one)"; "" when nothing does. The health of a target that is not probed
  // stays what it was, however long: nothing is known against it.
  [[nodiscard]] std::string problem() const;
  // Nothing but a hold is that problem, which passes with what it is for.
  [[nodiscard]] bool is_held() const;

  [[nodiscard]] std::chrono::nanoseconds lateness() const override;
  // When probes are later than ProbeLateness::kMax, and not just for a moment: which, and why; else
  // "".
  [[nodiscard]] std::string lateness_problem() const;

  // Connections open at once: half of the process's descriptor limit, at most 8192.
  [[nodiscard]] std::size_t probes_max() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace millrace::control
