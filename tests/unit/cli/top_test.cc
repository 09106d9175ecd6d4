// SPDX-License-Identifier: Apache-2.0
//
// Rates between two samples.
#include "controlplane/cli/top.h"

#include <gtest/gtest.h>

#include "controlplane/api/views.h"
#include "tests/unit/api/fake_controller.h"

namespace millrace::control {
namespace {

class TopTest : public testing::Test {
 protected:
  TopTest() { node_.controller.state.engine.workers.resize(1); }

  TopSample sample(double at_seconds) {
    const Snapshot& state = node_.controller.state;
    return {at_seconds, status_view(state, 0), listeners_view(state),
            targets_view(state, std::nullopt), counters_view(state)};
  }
  WorkerSnapshot& worker() { return node_.controller.state.engine.workers[0]; }
  static bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  }

  SmallNode node_;
};

TEST_F(TopTest, counters_become_rates_per_second) {
  const TopSample before = sample(10);
  worker().counters[MR_COUNTER_RX_PACKETS] = 3000;
  worker().counters[MR_COUNTER_RX_BYTES] = 2'000'000;
  worker().counters[MR_COUNTER_BUSY_NS] = 500'000'000;
  worker().drops[MR_DROP_NO_LISTENER] = 8;
  node_.target(0, 0).stats.bytes = 1'000'000;
  node_.controller.state.listeners[0].stats.new_flows = 84;
  const std::string screen = render_top(before, sample(12));
  EXPECT_TRUE(has(screen, "rx 1500 packets/s, 8.00 Mb/s")) << screen;
  EXPECT_TRUE(has(screen, "25.0 %"));     // busy
  EXPECT_TRUE(has(screen, "4.00 Mb/s"));  // the target
  EXPECT_TRUE(has(screen, "42"));         // new flows
  EXPECT_TRUE(has(screen, "Dropped: no_listener 4/s"));
}

TEST_F(TopTest, engine_that_cannot_be_seen_has_no_rates) {
  node_.controller.state.engine = unseen_engine("cannot open stats");
  node_.controller.state.alarms = {{AlarmKind::engine_unseen, "cannot open stats"}};
  const TopSample before = sample(10);
  EXPECT_EQ(render_top(before, sample(12)),
            "lb-1: generation 1, engine NOT TO BE SEEN\nALARM cannot open stats\n");
}

TEST_F(TopTest, restarted_engine_counts_from_zero) {
  worker().counters[MR_COUNTER_RX_PACKETS] = 1'000'000;
  const TopSample before = sample(10);
  worker().counters[MR_COUNTER_RX_PACKETS] = 700;
  EXPECT_TRUE(has(render_top(before, sample(11)), "rx 700 packets/s"));
}

TEST_F(TopTest, target_that_just_appeared_has_no_rate_yet) {
  TopSample before = sample(10);
  before.targets = nullptr;
  node_.target(0, 0).stats.new_flows = 5'000'000;
  EXPECT_FALSE(has(render_top(before, sample(11)), "5.00 M"));
}

TEST_F(TopTest, answers_of_another_shape_are_no_crash) {
  const TopSample nothing;
  TopSample odd;
  odd.status = "text";
  odd.targets = {{"target_groups", 5}};
  odd.listeners = {{"listeners", {1, "two", nullptr}}};
  odd.counters = {{"counters", {1, 2}}, {"drops", {{"martian", "many"}}}};
  EXPECT_FALSE(render_top(nothing, odd).empty());
  EXPECT_FALSE(render_top(odd, nothing).empty());
}

}  // namespace
}  // namespace millrace::control
