// SPDX-License-Identifier: Apache-2.0
//
// The API's results as text for a person. Cold; pure functions.
#pragma once

#include <string>

#include "controlplane/cli/json_view.h"

namespace millrace::control {

[[nodiscard]] std::string render_status(JsonView status);
[[nodiscard]] std::string render_targets(JsonView targets);
[[nodiscard]] std::string render_listeners(JsonView listeners);
// `with_zeros`: also drop reasons that never happened.
[[nodiscard]] std::string render_counters(JsonView counters, bool with_zeros);
[[nodiscard]] std::string render_explain(JsonView explanation);
[[nodiscard]] std::string render_flows(JsonView flows);
[[nodiscard]] std::string render_applied(JsonView outcome, const std::string& file);
// What an apply would change, without a line end.
[[nodiscard]] std::string render_rehearsed(JsonView outcome);

// Of an engine that does not run: whether the node forwards nevertheless, and why it does not run.
[[nodiscard]] std::string absent_engine_text(JsonView engine);
// State, and health where the state does not tell it: "draining, unhealthy".
[[nodiscard]] std::string target_state(JsonView target);
// What the state of a target needs beside its name: reason, countdown, missing next hop.
[[nodiscard]] std::string target_note(JsonView target);

}  // namespace millrace::control
