// SPDX-License-Identifier: Apache-2.0
//
// Which config is in force: the last word of the operator, which is that of the source, or what was
// applied past it. Cold.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "controlplane/config/config_source.h"
#include "controlplane/reconcile/host.h"
#include "controlplane/reconcile/reconciler.h"
#include "dataplane/core/result.h"

namespace millrace::control {

class ConfigFollower {
 public:
  // All of them must outlive this object.
  ConfigFollower(ConfigSource& source, Reconciler& reconciler, Host& host)
      : source_(source), reconciler_(reconciler), host_(host) {}

  // Brings the first config into force. A wrong source must not take down what runs: then what was
  // applied last goes on. Fails when there is nothing of the kind.
  [[nodiscard]] Status start();

  // Reads the source again. What is wrong with it changes nothing, and is told.
  std::variant<ApplyOutcome, std::vector<ConfigError>> reload();

 private:
  [[nodiscard]] LoadResult load() const;
  [[nodiscard]] std::variant<ApplyOutcome, std::vector<ConfigError>> apply_source();
  [[nodiscard]] Status resume_stored();

  ConfigSource& source_;
  Reconciler& reconciler_;
  Host& host_;
};

}  // namespace millrace::control
