// SPDX-License-Identifier: Apache-2.0
#include "controlplane/telemetry/metrics.h"

#include "controlplane/telemetry/metric_rows.h"

namespace millrace::control {

Labels with(const Labels& base, Labels own) {
  Labels all = base;
  for (auto& label : own) all.push_back(std::move(label));
  return all;
}

std::vector<MetricInfo> metric_catalogue() {
  std::vector<MetricInfo> infos;
  append_node_infos(infos);
  append_traffic_infos(infos);
  return infos;
}

std::vector<prometheus::MetricFamily> collect_metrics(const Snapshot& snapshot,
                                                      const ScrapeTime& time) {
  Labels base = {{"node", snapshot.node}};
  if (!snapshot.zone.empty()) base.push_back({"zone", snapshot.zone});
  std::vector<prometheus::MetricFamily> families;
  append_node_families(families, snapshot, time, base);
  append_traffic_families(families, snapshot, base);
  return families;
}

}  // namespace millrace::control
