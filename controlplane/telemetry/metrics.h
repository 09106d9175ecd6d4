// SPDX-License-Identifier: Apache-2.0
//
// What Prometheus is told: one table of metrics (metrics.cc), each with its type, help text, labels
// and how it follows from a Snapshot. Cold and pure. deploy/metrics.md lists the same for people.
//
// Every sample also carries the base labels `node` and, when the node has one, `zone`.
#pragma once

#include <prometheus/metric_family.h>

#include <cstdint>
#include <string>
#include <vector>

#include "controlplane/reconcile/snapshot.h"

namespace millrace::control {

enum class MetricKind : std::uint8_t { counter, gauge };

struct MetricInfo {
  const char* name;  // millrace_..., base units, counters end in _total
  MetricKind kind;
  const char* help;
  const char* labels;  // own label names, comma-separated
  const char* nlb;     // CloudWatch's metric of an NLB that means the same, "" if none
};

// All metrics, in the order in which they are exported.
[[nodiscard]] std::vector<MetricInfo> metric_catalogue();

// What the label `alarm` has for it; the runbook's table of alarms goes by that.
[[nodiscard]] const char* alarm_label(AlarmKind kind);

// What a scrape knows about time; read by the caller.
struct ScrapeTime {
  // CLOCK_REALTIME - CLOCK_BOOTTIME, read once per process: a moment that is told again and again
  // must not move with every adjustment of the clock.
  std::uint64_t boot_realtime_ns = 0;
};

// One family per metric that has a sample; families without one are left out.
[[nodiscard]] std::vector<prometheus::MetricFamily> collect_metrics(const Snapshot& snapshot,
                                                                    const ScrapeTime& time);

}  // namespace millrace::control
