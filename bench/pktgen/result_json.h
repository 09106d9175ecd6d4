// SPDX-License-Identifier: Apache-2.0
//
// A result as JSON, for programs and for comparing runs. Cold. The keys are described in README.md
// and only ever added to.
#pragma once

#include <string>
#include <vector>

#include "bench/pktgen/machine.h"
#include "bench/pktgen/result.h"

namespace millrace::pktgen {

// How the run was started.
struct RunFacts {
  Machine machine;
  std::vector<std::string> command_line;
  std::vector<std::string> devices;
  std::string started_at;  // "2026-01-31T12:00:00Z"
};

// One object, with a line end.
[[nodiscard]] std::string to_json(const RunResult& result, const RunFacts& facts);

}  // namespace millrace::pktgen
