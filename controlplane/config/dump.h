// SPDX-License-Identifier: Apache-2.0
//
// A Config as YAML text in one canonical form: every default written out, keys in a fixed order, so
// that equal configs have equal texts and load_config() gives back what was dumped. Cold.
#pragma once

#include <string>

#include "controlplane/model/model.h"

namespace millrace::control {

// `config` must keep the promises of model.h, as what load_config() returns does.
[[nodiscard]] std::string dump_config(const Config& config);

}  // namespace millrace::control
