// SPDX-License-Identifier: Apache-2.0
//
// Looks into the engine's live flow tables. Cold; reads only, and believes nothing.
//
// The engine writes while we read, and may replace, cut or format the file at any time. So the file
// is read with pread(2), not mapped (a map of a file that shrinks is a SIGBUS), offsets are checked
// against the size of the file, and a record that makes no sense is passed over.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "dataplane/contract/flow_abi.h"

namespace millrace::control {

// Where a scan stands, or goes on.
struct FlowPosition {
  std::uint32_t worker = 0;
  std::uint32_t record = 0;

  friend bool operator==(const FlowPosition&, const FlowPosition&) = default;
};

struct FlowFound {
  std::uint32_t worker = 0;
  mr_flow_record record{};
};

struct FlowScanRequest {
  std::string directory;          // EngineSnapshot::flow_table_dir
  std::uint32_t table_count = 0;  // likewise
  FlowPosition from;
  std::size_t found_max = 0;      // stops after so many
  std::uint64_t records_max = 0;  // looks at no more than so many: bounds the time
  std::function<bool(const mr_flow_record&)> matches;
};

struct FlowScan {
  std::vector<FlowFound> found;
  std::uint64_t records_seen = 0;
  std::optional<FlowPosition> next;   // where to go on; none when everything was seen
  std::vector<std::string> problems;  // tables that could not be read, and why
};

// About 60 ms for a million records. A table that cannot be read is a problem, not a failure.
[[nodiscard]] FlowScan scan_flows(const FlowScanRequest& request);

}  // namespace millrace::control
