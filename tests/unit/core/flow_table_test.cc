// SPDX-License-Identifier: Apache-2.0
//
// Taking over a flow table: what is impossible is dropped or refused, the rest goes on (fault 36,
// 37).
#include "dataplane/core/flow_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "tests/support/cc/image_builder.h"

namespace millrace::core {
namespace {

constexpr std::uint32_t kCapacity = 256;

class FlowTableTest : public testing::Test {
 protected:
  struct alignas(64) Line {
    std::byte bytes[64];
  };

  [[nodiscard]] std::span<std::byte> bytes() {
    return {memory_.front().bytes, memory_.size() * sizeof(Line)};
  }
  [[nodiscard]] mr_flow_table_header& header() {
    return *reinterpret_cast<mr_flow_table_header*>(bytes().data());
  }
  static ClientKey key(std::uint32_t i) {
    return ClientKey::of(words_of(v4_mapped(i)), static_cast<std::uint16_t>(i + 1),
                         MR_PROTOCOL_TCP);
  }
  static std::uint32_t find(const FlowTable& table, std::uint32_t i) {
    const std::uint64_t hash = table.hash(key(i));
    return table.find(hash, key(i), [](const mr_flow_record&) { return true; });
  }
  static std::uint32_t insert(FlowTable& table, std::uint32_t i) {
    const std::uint32_t index = table.insert(table.hash(key(i)), key(i), MR_FLOW_ESTABLISHED);
    if (index != MR_RECORD_NONE) {
      table.record(index).listener_id = 1;
      table.record(index).target_id = 1;
    }
    return index;
  }
  std::string refusal() {
    const Result<FlowTable> attached = FlowTable::attach(bytes(), layout_);
    return attached ? "" : attached.error().message;
  }

  std::vector<Line> memory_{FlowTable::bytes_for(kCapacity) / sizeof(Line)};
  FlowTable::Layout layout_{
      .capacity = kCapacity,
      .worker_index = 0,
      .worker_count = 2,
      .secret = {0x243f6a8885a308d3, 0x13198a2e03707344, 0xa4093822299f31d0, 0x082efa98ec4e6c89},
      .created_ns = 1,
      .creator_pid = 1};
  FlowTable table_ = FlowTable::format(bytes(), layout_);
};

TEST_F(FlowTableTest, holds_as_many_flows_as_it_promises_or_says_no) {
  std::uint32_t held = 0;
  for (std::uint32_t i = 0; i < kCapacity; ++i) held += insert(table_, i) != MR_RECORD_NONE;
  EXPECT_GE(held, kCapacity * 99 / 100);
  EXPECT_EQ(table_.used(), held);
  std::uint32_t found = 0;
  for (std::uint32_t i = 0; i < kCapacity; ++i) found += find(table_, i) != MR_RECORD_NONE;
  EXPECT_EQ(found, held);
}

TEST_F(FlowTableTest, attach_finds_every_flow_again) {
  for (std::uint32_t i = 0; i < 100; ++i) (void)insert(table_, i);
  for (std::uint32_t i = 0; i < 100; i += 3) table_.remove(table_.record(find(table_, i)));
  Result<FlowTable> attached = FlowTable::attach(bytes(), layout_);
  ASSERT_TRUE(attached) << attached.error().message;
  for (std::uint32_t i = 0; i < 100; ++i) {
    EXPECT_EQ(find(*attached, i) != MR_RECORD_NONE, i % 3 != 0) << i;
  }
  EXPECT_EQ(attached->used(), table_.used());
}

TEST_F(FlowTableTest, fault_36_attach_drops_impossible_records_and_keeps_the_rest) {
  for (std::uint32_t i = 0; i < 40; ++i) (void)insert(table_, i);
  table_.record(0).state = 200;
  table_.record(1).protocol = 99;
  table_.record(2).listener_id = 0;
  table_.record(3).target_id = 0;
  table_.record(4).last_hop = 0xffff;
  table_.record(5).state = MR_FLOW_UDP;
  // Buckets are rebuilt whatever they hold.
  auto* buckets = reinterpret_cast<std::uint8_t*>(bytes().data() + header().buckets_offset);
  std::memset(buckets, 0xa5, header().bucket_count * sizeof(mr_flow_bucket));
  Result<FlowTable> attached = FlowTable::attach(bytes(), layout_);
  ASSERT_TRUE(attached) << attached.error().message;
  EXPECT_EQ(attached->used(), 34u);
  for (std::uint32_t i = 6; i < 40; ++i) EXPECT_NE(find(*attached, i), MR_RECORD_NONE);
  for (std::uint32_t i = 0; i < 6; ++i) EXPECT_NE(insert(*attached, 100 + i), MR_RECORD_NONE);
}

TEST_F(FlowTableTest, fault_37_attach_refuses_another_build_and_names_both_values) {
  header().segment.abi_version = 99;
  EXPECT_EQ(refusal(), "flow table: ABI version is 99, expected " + std::to_string(MR_ABI_VERSION));
}

TEST_F(FlowTableTest, attach_refuses_another_shape) {
  layout_.worker_count = 3;
  EXPECT_EQ(refusal(), "flow table: worker count is 2, expected 3");
  layout_.worker_count = 2;
  layout_.capacity = 128;
  EXPECT_EQ(refusal(), "flow table: capacity is 256, expected 128");
}

TEST_F(FlowTableTest, attach_refuses_a_header_that_reaches_outside) {
  header().record_high = kCapacity + 1;
  EXPECT_NE(refusal(), "");
  header().record_high = 0;
  header().records_offset += 64;
  EXPECT_NE(refusal(), "");
}

TEST_F(FlowTableTest, attach_refuses_zeroed_and_short_memory) {
  std::memset(&header(), 0, sizeof(header()));
  EXPECT_NE(refusal(), "");
  EXPECT_FALSE(FlowTable::attach(bytes().first(100), layout_));
}

TEST_F(FlowTableTest, fault_36_attach_forgets_last_hops_that_are_damaged_or_not_needed) {
  const std::uint8_t mac[8] = {2, 0, 0, 0, 0, 7};
  const std::uint8_t gone[8] = {2, 0, 0, 0, 0, 8};
  const std::uint8_t later[8] = {2, 0, 0, 0, 0, 9};
  const std::uint16_t kept = table_.last_hops().learn(mac, 1);
  const std::uint16_t unneeded = table_.last_hops().learn(gone, 1);
  table_.record(insert(table_, 1)).last_hop = kept;
  auto* hops = reinterpret_cast<mr_last_hop*>(bytes().data() + header().last_hops_offset);
  for (std::uint32_t i = 0; i < MR_LAST_HOP_COUNT; ++i) {
    if (i != kept && i != unneeded) std::memset(&hops[i], 0xa5, sizeof(hops[i]));
  }
  ASSERT_EQ(table_.last_hops().learn(later, 0), 0);
  Result<FlowTable> attached = FlowTable::attach(bytes(), layout_);
  ASSERT_TRUE(attached) << attached.error().message;
  EXPECT_EQ(attached->last_hops().at(kept).nic, 1);
  EXPECT_EQ(attached->last_hops().at(unneeded).in_use, 0);
  EXPECT_NE(attached->last_hops().learn(later, 0), 0);
}

TEST_F(FlowTableTest, last_hops_are_learned_once) {
  const std::uint8_t mac[6] = {2, 0, 0, 0, 0, 7};
  const std::uint16_t index = table_.last_hops().learn(mac, 1);
  EXPECT_NE(index, 0);
  EXPECT_EQ(table_.last_hops().learn(mac, 1), index);
  EXPECT_NE(table_.last_hops().learn(mac, 0), index);
  EXPECT_EQ(table_.last_hops().at(index).nic, 1);
}

TEST_F(FlowTableTest, last_hop_table_that_is_full_says_unknown) {
  std::uint32_t unknown = 0;
  constexpr std::uint32_t kMany = 4 * MR_LAST_HOP_COUNT;
  for (std::uint32_t i = 0; i < kMany; ++i) {
    std::uint8_t mac[6] = {2, 0};
    std::memcpy(mac + 2, &i, 4);
    unknown += table_.last_hops().learn(mac, 0) == 0;
  }
  EXPECT_GE(unknown, kMany - MR_LAST_HOP_COUNT);
}

}  // namespace
}  // namespace millrace::core
