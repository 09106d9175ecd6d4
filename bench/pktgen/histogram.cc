// SPDX-License-Identifier: Apache-2.0
#include "bench/pktgen/histogram.h"

#include <cmath>

namespace millrace::pktgen {

double Histogram::mean() const {
  return count_ == 0 ? 0 : static_cast<double>(sum_) / static_cast<double>(count_);
}

std::uint64_t Histogram::value_at(double quantile) const {
  if (count_ == 0) return 0;
  const double wanted = std::ceil(quantile * static_cast<double>(count_));
  const std::uint64_t rank = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(wanted));
  std::uint64_t seen = 0;
  for (const Bucket& bucket : buckets()) {
    seen += bucket.count;
    if (seen >= rank) return std::min(bucket.last_value, max_);
  }
  return max_;
}

std::vector<Histogram::Bucket> Histogram::buckets() const {
  std::vector<Bucket> held;
  for (std::uint32_t index = 0; index < counts_.size(); ++index) {
    if (counts_[index] == 0) continue;
    const std::uint64_t first = Buckets::first_value(index);
    held.push_back({.first_value = first,
                    .last_value = first + (Buckets::width(index) - 1),
                    .count = counts_[index]});
  }
  return held;
}

}  // namespace millrace::pktgen
