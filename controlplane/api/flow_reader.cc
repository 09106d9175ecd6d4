// SPDX-License-Identifier: Apache-2.0
#include "controlplane/api/flow_reader.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "dataplane/contract/flow_table_abi.h"
#include "dataplane/core/result.h"
#include "dataplane/os/file.h"

namespace millrace::control {
namespace {

// Records per read: 256 KiB, so that a read costs little beside the copy.
constexpr std::uint32_t kChunkRecords = 4096;

// One worker's table, open for reading.
class FlowTableReader {
 public:
  [[nodiscard]] static Result<FlowTableReader> open(const std::string& path);

  // Records in [0, record_high()) were used at some time.
  [[nodiscard]] std::uint32_t record_high() const { return record_high_; }

  // Copies records [first, first + into.size()) and returns how many there were.
  [[nodiscard]] std::size_t read(std::uint32_t first, std::span<mr_flow_record> into) const {
    const std::uint64_t offset = records_offset_ + std::uint64_t{first} * sizeof(mr_flow_record);
    const ssize_t got =
        pread(file_.fd(), into.data(), into.size_bytes(), static_cast<off_t>(offset));
    return got < 0 ? 0 : static_cast<std::size_t>(got) / sizeof(mr_flow_record);
  }

 private:
  os::File file_;
  std::uint64_t records_offset_ = 0;
  std::uint32_t record_high_ = 0;
};

Result<FlowTableReader> FlowTableReader::open(const std::string& path) {
  auto file = os::File::open(path, O_RDONLY);
  if (!file) return file.error();
  const auto size = file->size_bytes();
  if (!size) return size.error().within(path);

  mr_flow_table_header header{};
  const ssize_t got = pread(file->fd(), &header, sizeof(header), 0);
  if (got != static_cast<ssize_t>(sizeof(header))) return Error{path + ": too short for a header"};
  const mr_segment_header& segment = header.segment;
  if (segment.magic != MR_SEGMENT_MAGIC || segment.kind != MR_SEGMENT_FLOW_TABLE) {
    return Error{path + ": not a flow table (or not formatted yet)"};
  }
  if (segment.abi_version != MR_ABI_VERSION) {
    return Error{path + ": ABI version " + std::to_string(segment.abi_version) + ", this program " +
                 "reads " + std::to_string(MR_ABI_VERSION)};
  }
  const std::uint64_t records_bytes = std::uint64_t{header.capacity} * sizeof(mr_flow_record);
  if (header.capacity > MR_FLOW_CAPACITY_MAX || header.record_high > header.capacity ||
      header.records_offset > *size || records_bytes > *size - header.records_offset) {
    return Error{path + ": its header promises more records than the file has"};
  }
  FlowTableReader reader;
  reader.file_ = std::move(*file);
  reader.records_offset_ = header.records_offset;
  reader.record_high_ = header.record_high;
  return reader;
}

bool is_plausible(const mr_flow_record& record) {
  return record.state != MR_FLOW_FREE && record.state < MR_FLOW_STATE_COUNT &&
         (record.protocol == MR_PROTOCOL_TCP || record.protocol == MR_PROTOCOL_UDP);
}

// Scans one table from `at.record`; false when a bound of the request stopped it.
bool scan_table(const FlowTableReader& table, const FlowScanRequest& request, FlowPosition& at,
                FlowScan& scan) {
  std::vector<mr_flow_record> chunk(kChunkRecords);
  while (at.record < table.record_high()) {
    const std::uint64_t budget = request.records_max - scan.records_seen;
    if (budget == 0 || scan.found.size() >= request.found_max) return false;
    const std::uint64_t left = table.record_high() - at.record;
    const auto wanted =
        static_cast<std::size_t>(std::min({std::uint64_t{kChunkRecords}, budget, left}));
    const std::size_t count = table.read(at.record, std::span(chunk).first(wanted));
    if (count == 0) return true;  // the file shrank: the engine starts anew
    for (std::size_t i = 0; i < count; ++i) {
      ++at.record;
      ++scan.records_seen;
      if (!is_plausible(chunk[i]) || !request.matches(chunk[i])) continue;
      scan.found.push_back({at.worker, chunk[i]});
      if (scan.found.size() >= request.found_max) return at.record >= table.record_high();
    }
  }
  return true;
}

}  // namespace

FlowScan scan_flows(const FlowScanRequest& request) {
  FlowScan scan;
  FlowPosition at = request.from;
  for (; at.worker < request.table_count; at = {at.worker + 1, 0}) {
    const auto table =
        FlowTableReader::open(request.directory + "/flows." + std::to_string(at.worker));
    if (!table) {
      scan.problems.push_back(table.error().message);
      continue;
    }
    if (!scan_table(*table, request, at, scan)) {
      scan.next = at;
      return scan;
    }
  }
  return scan;
}

}  // namespace millrace::control
