// SPDX-License-Identifier: Apache-2.0
//
// Laws of what the generator leaves to chance and of its arithmetic, with random input.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "bench/pktgen/flow_chooser.h"
#include "bench/pktgen/flow_map.h"
#include "bench/pktgen/histogram.h"
#include "bench/pktgen/log_buckets.h"

namespace millrace::pktgen {
namespace {

std::vector<std::uint32_t> draw(const FlowChoice& choice, std::uint64_t seed, std::size_t count) {
  FlowChooser chooser(choice, seed);
  std::vector<std::uint32_t> flows(count);
  chooser.choose(flows);
  return flows;
}

FlowOrder any_order() {
  return *rc::gen::element(FlowOrder::sequential, FlowOrder::random, FlowOrder::zipf);
}

RC_GTEST_PROP(flow_chooser, stays_below_the_count_and_repeats_for_a_seed, (std::uint64_t seed)) {
  const FlowChoice choice{.count = *rc::gen::inRange<std::uint32_t>(1, 100'000'001),
                          .order = any_order(),
                          .zipf_exponent = *rc::gen::inRange(0, 300) / 100.0};
  const auto flows = draw(choice, seed, 200);
  for (const std::uint32_t flow : flows) RC_ASSERT(flow < choice.count);
  RC_ASSERT(flows == draw(choice, seed, 200));
}

RC_GTEST_PROP(flow_chooser, sequential_takes_every_flow_once_a_round, ()) {
  const auto count = *rc::gen::inRange<std::uint32_t>(1, 300);
  auto flows = draw({.count = count, .order = FlowOrder::sequential}, 1, std::size_t{2} * count);
  std::sort(flows.begin(), flows.end());
  for (std::uint32_t i = 0; i < flows.size(); ++i) RC_ASSERT(flows[i] == i / 2);
}

TEST(flow_chooser, random_takes_all_flows_equally_often) {
  constexpr std::uint32_t kFlows = 1000;
  constexpr std::size_t kDraws = 1'000'000;
  std::vector<double> seen(kFlows);
  for (const std::uint32_t flow : draw({.count = kFlows, .order = FlowOrder::random}, 5, kDraws)) {
    ++seen[flow];
  }
  double chi_square = 0;
  for (const double count : seen) chi_square += (count - 1000) * (count - 1000) / 1000;
  // 999 degrees of freedom: mean 999, deviation 45. Six deviations.
  EXPECT_LT(chi_square, 1270);
}

class Zipf : public testing::TestWithParam<std::tuple<std::uint32_t, double>> {};

// Groups of flows by powers of two, against the sums of the definition.
TEST_P(Zipf, draws_flows_as_often_as_its_definition_says) {
  const auto [count, exponent] = GetParam();
  constexpr std::size_t kDraws = 2'000'000;
  std::vector<double> expected;
  double total = 0;
  for (std::uint32_t flow = 0; flow < count; ++flow) {
    const auto group = static_cast<std::size_t>(std::bit_width(flow));
    expected.resize(std::max(expected.size(), group + 1));
    const double weight = std::pow(flow + 1.0, -exponent);
    expected[group] += weight;
    total += weight;
  }
  std::vector<double> seen(expected.size());
  const FlowChoice choice{.count = count, .order = FlowOrder::zipf, .zipf_exponent = exponent};
  for (const std::uint32_t flow : draw(choice, 11, kDraws)) {
    ++seen[static_cast<std::size_t>(std::bit_width(flow))];
  }
  for (std::size_t group = 0; group < seen.size(); ++group) {
    const double wanted = expected[group] / total * kDraws;
    EXPECT_NEAR(seen[group], wanted, 6 * std::sqrt(wanted) + 0.002 * wanted) << "group " << group;
  }
}

TEST_P(Zipf, gives_each_of_the_first_flows_its_own_share) {
  const auto [count, exponent] = GetParam();
  constexpr std::size_t kDraws = 2'000'000;
  double total = 0;
  for (std::uint32_t flow = 0; flow < count; ++flow) total += std::pow(flow + 1.0, -exponent);
  std::vector<double> seen(std::min<std::size_t>(count, 64));
  const FlowChoice choice{.count = count, .order = FlowOrder::zipf, .zipf_exponent = exponent};
  for (const std::uint32_t flow : draw(choice, 12, kDraws)) {
    if (flow < seen.size()) ++seen[flow];
  }
  for (std::size_t flow = 0; flow < seen.size(); ++flow) {
    const double wanted = std::pow(static_cast<double>(flow) + 1, -exponent) / total * kDraws;
    EXPECT_NEAR(seen[flow], wanted, 6 * std::sqrt(wanted) + 0.002 * wanted + 1) << "flow " << flow;
  }
}

INSTANTIATE_TEST_SUITE_P(shapes, Zipf,
                         testing::Values(std::tuple{1u, 1.0}, std::tuple{50u, 0.9},
                                         std::tuple{1'000'000u, 1.0}, std::tuple{1'000'000u, 0.6},
                                         std::tuple{300'000u, 1.5}, std::tuple{1000u, 0.0}));

RC_GTEST_PROP(divider, divides_as_the_processor_does, (std::uint32_t dividend)) {
  const auto divisor = *rc::gen::oneOf(rc::gen::inRange<std::uint32_t>(1, 70000),
                                       rc::gen::suchThat(rc::gen::arbitrary<std::uint32_t>(),
                                                         [](std::uint32_t d) { return d > 0; }));
  const std::uint32_t multiple = dividend / divisor * divisor;
  for (const std::uint32_t n : {dividend, multiple, multiple - 1, ~dividend, 0u, ~0u}) {
    RC_ASSERT(Divider(divisor).quotient(n) == n / divisor);
  }
}

RC_GTEST_PROP(log_buckets, hold_each_value_and_are_narrow, ()) {
  using Buckets = LogBuckets<7>;
  const auto shift = *rc::gen::inRange(0, 64);
  const auto value = *rc::gen::arbitrary<std::uint64_t>() >> shift;
  const std::uint32_t index = Buckets::index_of(value);
  RC_ASSERT(index < Buckets::kCount);
  const std::uint64_t first = Buckets::first_value(index);
  RC_ASSERT((first <= value && value - first < Buckets::width(index)));
  RC_ASSERT((Buckets::width(index) == 1 || Buckets::width(index) <= value / 128));
}

RC_GTEST_PROP(histogram, quantiles_are_those_of_the_sorted_values_within_a_bucket, ()) {
  const auto values = *rc::gen::nonEmpty(rc::gen::container<std::vector<std::uint64_t>>(
      rc::gen::map(rc::gen::arbitrary<std::uint64_t>(), [](std::uint64_t v) { return v >> 20; })));
  Histogram histogram;
  for (const std::uint64_t value : values) histogram.record(value);
  auto sorted = values;
  std::sort(sorted.begin(), sorted.end());
  RC_ASSERT(histogram.count() == values.size());
  RC_ASSERT((histogram.min() == sorted.front() && histogram.max() == sorted.back()));
  for (const double quantile : {0.0, 0.01, 0.5, 0.9, 0.99, 1.0}) {
    const auto rank =
        static_cast<std::size_t>(std::ceil(quantile * static_cast<double>(sorted.size())));
    const std::uint64_t exact = sorted[std::max<std::size_t>(rank, 1) - 1];
    const std::uint64_t found = histogram.value_at(quantile);
    RC_ASSERT((found >= exact && found - exact <= exact / 128));
  }
}

}  // namespace
}  // namespace millrace::pktgen
