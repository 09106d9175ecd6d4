// SPDX-License-Identifier: Apache-2.0
//
// What the reconciler asks of the process that it is in: its log, what its other parts find wrong,
// what the engine's flows name. Cold.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "controlplane/api/flow_reader.h"
#include "controlplane/daemon/control_plane.h"

namespace millrace::control {

namespace {

spdlog::level::level_enum level_of(LogLevel level) {
  switch (level) {
    case LogLevel::error:
      return spdlog::level::err;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::info:
      break;
  }
  return spdlog::level::info;
}

}  // namespace

std::uint32_t ControlPlane::highest_flow_id(const std::string& directory,
                                            std::uint32_t table_count) const {
  std::uint32_t highest = 0;
  const FlowScan scan =
      scan_flows({.directory = directory,
                  .table_count = table_count,
                  .from = {},
                  .found_max = 1,  // none is kept
                  .records_max = std::numeric_limits<std::uint64_t>::max(),
                  .matches = [&](const mr_flow_record& record) {
                    highest = std::max({highest, record.listener_id, record.target_id});
                    return false;
                  }});
  for (const std::string& problem : scan.problems) {
    spdlog::warn("flows cannot be asked for the ids in use: {}", problem);
  }
  return highest;
}

void ControlPlane::log(LogLevel level, const std::string& line) {
  spdlog::log(level_of(level), "{}", line);
}

std::vector<Alarm> ControlPlane::alarms() const {
  std::vector<Alarm> alarms;
  const AlarmKind kind = health_->is_held() ? AlarmKind::hold : AlarmKind::probes;
  for (Alarm alarm :
       {Alarm{kind, health_->problem()}, Alarm{AlarmKind::late, health_->lateness_problem()},
        Alarm{AlarmKind::routes, next_hops_->problem()},
        Alarm{AlarmKind::metrics, exporter_ ? exporter_->problem() : ""},
        Alarm{AlarmKind::file, source_.alarm()}}) {
    if (!alarm.text.empty()) alarms.push_back(std::move(alarm));
  }
  return alarms;
}

}  // namespace millrace::control
