// SPDX-License-Identifier: Apache-2.0
//
// What ages flows between bursts, with far more flows than packets (fault 28): counted in records,
// so that no clock is asked.
#include "dataplane/worker/housekeeping.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

#include "dataplane/core/nanoseconds.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::worker {
namespace {

constexpr std::uint32_t kCapacity = 1'500'000;
constexpr std::uint32_t kFlows = 1'200'000;
// All were seen for the last time at one moment, and so time out at one moment.
constexpr std::uint64_t kSeenNs = 1000 * kSecondNs;
constexpr std::uint64_t kIdleNs = kSeenNs + 1000 * kSecondNs;
// Records that a turn is to look at when it is on time, with one for what is rounded.
constexpr std::uint64_t kShareMax = kFlows * kHousekeepingNs / kSecondNs + 1;

struct alignas(64) Line {
  std::byte bytes[64];
};

test::Image make_image(test::ImageBuilder& builder) {
  const std::uint32_t group = builder.add_group({});
  builder.add_target({.group_slot = group,
                      .addr = test::addr_of("10.0.1.11"),
                      .port = 8080,
                      .protocol = MR_PROTOCOL_TCP});
  builder.add_listener({.vip_addr = test::addr_of("203.0.113.10"),
                        .port = 80,
                        .protocol = MR_PROTOCOL_TCP,
                        .group_slot = group});
  return builder.build(1);
}

core::FlowTable table_of_flows(std::span<Line> memory, const core::ConfigView& view) {
  core::FlowTable table = core::FlowTable::format(
      {memory.front().bytes, memory.size_bytes()},
      {.capacity = kCapacity,
       .worker_index = 0,
       .worker_count = 1,
       .secret = {0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0, 0x082efa98ec4e6c89},
       .created_ns = 1,
       .creator_pid = 1});
  for (std::uint32_t i = 0; i < kFlows; ++i) {
    const auto port = static_cast<std::uint16_t>(1 + i % 256);
    const core::ClientKey key =
        core::ClientKey::of(core::words_of(core::v4_mapped(i / 256)), port, MR_PROTOCOL_TCP);
    const std::uint32_t index = table.insert(table.hash(key), key, MR_FLOW_ESTABLISHED);
    if (index == MR_RECORD_NONE) continue;  // few: both buckets were full
    mr_flow_record& flow = table.record(index);
    flow.listener_id = view.listeners[0].id;
    flow.target_id = view.targets[0].id;
    flow.last_seen_tick = static_cast<std::uint32_t>(kSeenNs >> MR_TICK_SHIFT);
  }
  return table;
}

class IdleFlows : public testing::Test {
 protected:
  IdleFlows() {
    configs_.publish({.view = image_.view(), .segment = nullptr});
    turn(kIdleNs - kHousekeepingNs);  // the first one takes the config and starts to count time
  }

  [[nodiscard]] std::uint64_t expired() const {
    return counters_.counters[MR_COUNTER_FLOW_EXPIRED];
  }

  // One turn of housekeeping; returns how many flows it ended.
  std::uint64_t turn(std::uint64_t now_ns) {
    const std::uint64_t before = expired();
    (void)housekeeping_.run(now_ns);
    return expired() - before;
  }

  test::ImageBuilder builder_;
  test::Image image_ = make_image(builder_);
  std::vector<Line> memory_{core::FlowTable::bytes_for(kCapacity) / sizeof(Line) + 1};
  core::FlowTable table_ = table_of_flows(memory_, image_.view());
  std::uint32_t flows_ = table_.used();
  std::array<core::MacAddr, 1> macs_{core::MacAddr{{2, 0, 0, 0, 0, 1}}};
  mr_worker_stats counters_{};
  mr_worker_stats published_{};
  std::vector<mr_listener_stats> listeners_{4};
  std::vector<mr_target_stats> targets_{4};
  core::Forwarder forwarder_{{
      .flow_table = table_,
      .nic_macs = macs_,
      .counters = {.worker = &counters_, .listeners = listeners_, .targets = targets_},
  }};
  ConfigExchange configs_{1};
  Housekeeping housekeeping_{{.worker = 0,
                              .forwarder = &forwarder_,
                              .configs = &configs_,
                              .local_traffic = nullptr,
                              .counters = &counters_,
                              .published = &published_}};
};

TEST_F(IdleFlows, fault_28_that_end_at_one_moment_cost_each_turn_its_share_and_no_more) {
  std::uint64_t most = 0;
  std::uint64_t now_ns = kIdleNs;
  for (; now_ns <= kIdleNs + kSecondNs; now_ns += kHousekeepingNs) {
    most = std::max(most, turn(now_ns));
  }
  EXPECT_LE(most, kShareMax);
  EXPECT_EQ(expired(), flows_) << "each within a second";
}

TEST_F(IdleFlows, fault_28_worker_that_stood_still_catches_up_in_bounded_steps) {
  std::uint64_t now_ns = kIdleNs + 60 * kSecondNs;
  std::uint64_t most = 0;
  std::uint32_t turns = 0;
  for (; expired() < flows_ && turns < 31'250; ++turns, now_ns += kHousekeepingNs) {
    most = std::max(most, turn(now_ns));
  }
  EXPECT_LE(most, kSweepStepMax);
  EXPECT_EQ(expired(), flows_);
  // One round is made up for, not sixty: from then on turns have their usual share again.
  EXPECT_LE(turns, kFlows / kSweepStepMax * 11 / 10);
}

}  // namespace
}  // namespace millrace::worker
