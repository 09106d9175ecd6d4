// SPDX-License-Identifier: Apache-2.0
//
// A target group's attributes and health check as one text of the store, by their rows
// (controlplane/model/attribute.h). Cold and pure.
//
// It is JSON: {"attributes": {"millrace.gue.port": "6080", ...}, "health_check": {...}}, with names
// and values as in a config file. So an attribute that is new needs no step of the schema.
#pragma once

#include <string>

#include "controlplane/model/model.h"
#include "dataplane/core/result.h"

namespace millrace::control {

[[nodiscard]] std::string settings_text(const TargetGroup& group);

// Sets what the text names and leaves the rest. A name that this version does not know is a newer
// one's, and passed over: a release that is taken back must find its way.
// Fails when the text is none of settings_text(), or a value is wrong; the error names it.
[[nodiscard]] Status read_settings(const std::string& text, TargetGroup& group);

}  // namespace millrace::control
