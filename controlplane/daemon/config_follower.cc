// SPDX-License-Identifier: Apache-2.0
#include "controlplane/daemon/config_follower.h"

#include <utility>

namespace millrace::control {

namespace {

std::string joined(const std::vector<ConfigError>& errors) {
  std::string text;
  for (const ConfigError& error : errors) text += (text.empty() ? "" : "\n") + to_string(error);
  return text;
}

}  // namespace

Status ConfigFollower::start() {
  if (reconciler_.is_stored_config_newer_than_file()) {
    const std::string from = reconciler_.stored_config().source;
    host_.log(LogLevel::warning, "the config in force is that of " + from + "; " + source_.name() +
                                     " has not changed since and is not used");
    const Status resumed = resume_stored();
    if (resumed) return ok();
    host_.log(LogLevel::error,
              "the config of " + from + " cannot go on: " + resumed.error().message);
  }
  const auto applied = apply_source();
  if (std::holds_alternative<ApplyOutcome>(applied)) return ok();
  const std::string errors = joined(std::get<std::vector<ConfigError>>(applied));
  if (reconciler_.stored_config().text.empty()) return Error{errors};
  host_.log(LogLevel::error,
            source_.name() + " is not used; the config applied last goes on:\n" + errors);
  if (Status resumed = resume_stored(); !resumed) return resumed;
  reconciler_.report_file_error(errors);
  return ok();
}

std::variant<ApplyOutcome, std::vector<ConfigError>> ConfigFollower::reload() {
  auto applied = apply_source();
  if (const auto* outcome = std::get_if<ApplyOutcome>(&applied)) {
    host_.log(LogLevel::info,
              "read " + source_.name() + ": generation " + std::to_string(outcome->generation));
    for (const std::string& warning : outcome->warnings) host_.log(LogLevel::warning, warning);
    return applied;
  }
  const std::string errors = joined(std::get<std::vector<ConfigError>>(applied));
  reconciler_.report_file_error(errors);
  host_.log(LogLevel::error, source_.name() + " is not used; what runs goes on:\n" + errors);
  return applied;
}

std::variant<ApplyOutcome, std::vector<ConfigError>> ConfigFollower::apply_source() {
  LoadResult loaded = load();
  if (auto* errors = std::get_if<std::vector<ConfigError>>(&loaded)) return std::move(*errors);
  auto applied = reconciler_.apply(std::get<Config>(std::move(loaded)), source_.name());
  if (!applied) return std::vector<ConfigError>{{source_.name(), applied.error().message}};
  return std::move(*applied);
}

LoadResult ConfigFollower::load() const {
  return source_.load(
      [this](const IpAddress& address) { return reconciler_.own_interface(address); });
}

Status ConfigFollower::resume_stored() {
  LoadResult stored = load_config(reconciler_.stored_config().text, "the config applied last");
  if (const auto* errors = std::get_if<std::vector<ConfigError>>(&stored)) {
    return Error{joined(*errors)};
  }
  return reconciler_.resume(std::get<Config>(stored));
}

}  // namespace millrace::control
