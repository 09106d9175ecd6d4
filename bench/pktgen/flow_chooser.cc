// SPDX-License-Identifier: Apache-2.0
//
// HOT from choose() on; building the cells of the alias method is cold.
#include "bench/pktgen/flow_chooser.h"

#include <cmath>

#include "bench/pktgen/log_buckets.h"

namespace millrace::pktgen {
namespace {

using Buckets = LogBuckets<6>;

// Sum of rank^-exponent over [first, first + width). Exact for narrow buckets; the others begin at
// 64 widths or more, where the midpoint rule errs by less than 1e-5 of the sum.
double weight_of(double first, double width, double exponent) {
  if (width == 1) return std::pow(first, -exponent);
  const double low = first - 0.5;
  const double high = first + width - 0.5;
  if (std::abs(exponent - 1) < 1e-9) return std::log(high / low);
  const double power = 1 - exponent;
  return (std::pow(high, power) - std::pow(low, power)) / power;
}

}  // namespace

FlowChooser::FlowChooser(const FlowChoice& choice, std::uint64_t seed)
    : order_(choice.order), count_(choice.count), random_(seed) {
  if (order_ == FlowOrder::zipf) build_cells(choice.zipf_exponent);
}

void FlowChooser::build_cells(double exponent) {
  std::vector<double> weights;
  double total = 0;
  for (std::uint32_t index = 1;; ++index) {  // ranks begin at 1
    const std::uint64_t first = Buckets::first_value(index);
    if (first > count_) break;
    const std::uint64_t left = std::uint64_t{count_} - first + 1;
    const auto width = static_cast<std::uint32_t>(std::min(Buckets::width(index), left));
    cells_.push_back({.threshold = 0xffffffffu,
                      .other = static_cast<std::uint32_t>(cells_.size()),
                      .first_flow = static_cast<std::uint32_t>(first - 1),
                      .width = width});
    weights.push_back(weight_of(static_cast<double>(first), width, exponent));
    total += weights.back();
  }
  // Cells below the average share get the rest of their chance from one that is above it.
  std::vector<std::uint32_t> small;
  std::vector<std::uint32_t> large;
  for (std::uint32_t i = 0; i < weights.size(); ++i) {
    weights[i] *= static_cast<double>(weights.size()) / total;
    (weights[i] < 1 ? small : large).push_back(i);
  }
  while (!small.empty() && !large.empty()) {
    const std::uint32_t lacking = small.back();
    const std::uint32_t giving = large.back();
    small.pop_back();
    cells_[lacking].threshold = static_cast<std::uint32_t>(weights[lacking] * 0x1p32);
    cells_[lacking].other = giving;
    weights[giving] -= 1 - weights[lacking];
    if (weights[giving] < 1) {
      large.pop_back();
      small.push_back(giving);
    }
  }
}

void FlowChooser::choose(std::span<std::uint32_t> flows) noexcept {
  switch (order_) {
    case FlowOrder::sequential:
      for (std::uint32_t& flow : flows) {
        flow = next_;
        next_ = next_ + 1 == count_ ? 0 : next_ + 1;
      }
      return;
    case FlowOrder::random:
      for (std::uint32_t& flow : flows) flow = random_.below(count_);
      return;
    case FlowOrder::zipf:
      break;
  }
  const auto cell_count = static_cast<std::uint32_t>(cells_.size());
  for (std::uint32_t& flow : flows) {
    const std::uint64_t chance = random_.next();
    const Cell* cell =
        &cells_[Random::scaled(static_cast<std::uint32_t>(chance >> 32), cell_count)];
    if (static_cast<std::uint32_t>(chance) > cell->threshold) cell = &cells_[cell->other];
    flow = cell->first_flow + (cell->width == 1 ? 0 : random_.below(cell->width));
  }
}

}  // namespace millrace::pktgen
