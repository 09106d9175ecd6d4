// SPDX-License-Identifier: Apache-2.0
//
// The form of the tables in metrics_node.cc and metrics_traffic.cc: a row per metric, a table per
// kind of subject, and the loop that turns table and subjects into families. Cold.
#pragma once

#include <prometheus/client_metric.h>
#include <prometheus/metric_family.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "controlplane/telemetry/metrics.h"

namespace millrace::control {

using Labels = std::vector<prometheus::ClientMetric::Label>;

// For a value function: this subject has no such sample now.
inline constexpr double kNoSample = std::numeric_limits<double>::quiet_NaN();

// Samples are doubles.
[[nodiscard]] constexpr double number(std::uint64_t value) { return static_cast<double>(value); }
[[nodiscard]] constexpr double claim(bool is_true) { return is_true ? 1 : 0; }

// The value of metrics that only carry labels.
template <typename Subject>
double always_one(const Subject&) {
  return 1;
}

// `Subject` is what one sample is about: the node, a worker, a target, ...
template <typename Subject>
struct MetricRow {
  MetricInfo info;
  double (*value)(const Subject&);
  Labels (*labels)(const Subject&) = nullptr;  // beyond the subject's own
};

template <typename Subject>
struct Labelled {
  Subject subject;
  Labels labels;  // base labels and the subject's own
};

// Appends a family for each row that has a sample.
template <typename Subject, std::size_t kRowCount>
void append_families(std::vector<prometheus::MetricFamily>& families,
                     const MetricRow<Subject> (&rows)[kRowCount],
                     const std::vector<Labelled<Subject>>& subjects) {
  for (const MetricRow<Subject>& row : rows) {
    const bool is_counter = row.info.kind == MetricKind::counter;
    prometheus::MetricFamily family{
        .name = row.info.name,
        .help = row.info.help,
        .type = is_counter ? prometheus::MetricType::Counter : prometheus::MetricType::Gauge,
        .metric = {}};
    for (const Labelled<Subject>& labelled : subjects) {
      const double value = row.value(labelled.subject);
      if (std::isnan(value)) continue;
      prometheus::ClientMetric sample;
      sample.label = labelled.labels;
      if (row.labels != nullptr) {
        for (auto& label : row.labels(labelled.subject)) sample.label.push_back(std::move(label));
      }
      (is_counter ? sample.counter.value : sample.gauge.value) = value;
      family.metric.push_back(std::move(sample));
    }
    if (!family.metric.empty()) families.push_back(std::move(family));
  }
}

template <typename Subject, std::size_t kRowCount>
void append_infos(std::vector<MetricInfo>& infos, const MetricRow<Subject> (&rows)[kRowCount]) {
  for (const MetricRow<Subject>& row : rows) infos.push_back(row.info);
}

// The two halves of the catalogue.
void append_node_infos(std::vector<MetricInfo>& infos);
void append_traffic_infos(std::vector<MetricInfo>& infos);
void append_node_families(std::vector<prometheus::MetricFamily>& families, const Snapshot& snapshot,
                          const ScrapeTime& time, const Labels& base);
void append_traffic_families(std::vector<prometheus::MetricFamily>& families,
                             const Snapshot& snapshot, const Labels& base);

// `base` and then `own`.
[[nodiscard]] Labels with(const Labels& base, Labels own);

}  // namespace millrace::control
