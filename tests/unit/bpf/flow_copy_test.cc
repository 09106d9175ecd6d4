// SPDX-License-Identifier: Apache-2.0
//
// Flows on their way between the engines: what one leaves, the other finds.
#include "bpf/engine/flow_copy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>

#include "bpf/engine/sweep.h"
#include "dataplane/core/flow_table.h"
#include "dataplane/core/steering.h"
#include "dataplane/shm/flow_set.h"
#include "tests/support/cc/temp_dir.h"
#include "tests/unit/bpf/engine_maps.h"

namespace millrace::test {
namespace {

using xdp::FlowCopy;
using xdp::Import;

constexpr std::uint8_t kRouterMac[6] = {2, 0, 0, 0, 0, 9};

class Copy : public ::testing::Test {
 protected:
  Copy() : image_(config_.builder.build(1)) {}

  // As programs find it.
  [[nodiscard]] const mr_flow_record* find(std::uint16_t port) {
    const xdp::Maps maps = maps_.maps();
    const core::AddrWords addr = core::words_of(addr_of("192.0.2.100"));
    const std::uint32_t key = port | std::uint32_t{MR_PROTOCOL_TCP} << 16;
    const std::uint32_t first = mr_xdp_flow_hash(maps.control, addr.low, addr.high, key);
    for (std::uint32_t probe = 0; probe < MR_XDP_PROBE_MAX; ++probe) {
      const mr_flow_record& record = maps.flows[(first + probe) & maps.control->flow_mask];
      if (record.state == MR_FLOW_FREE) return nullptr;
      if (record.client_port_be == port) return &record;
    }
    return nullptr;
  }

  [[nodiscard]] shm::FlowSet open() {
    Result<shm::FlowSet> set = shm::FlowSet::open(dir_.path(), spare_.path());
    EXPECT_TRUE(set.has_value());
    return std::move(*set);
  }

  // What a DPDK engine leaves, with flows of the client ports [first, first + count).
  void leave_tables(std::uint32_t workers, std::uint16_t first, std::uint16_t count,
                    mr_flow_state state = MR_FLOW_ESTABLISHED) {
    shm::FlowSet set = open();
    Result<shm::FlowSet::TakenOver> engine =
        set.take_over({.worker_count = workers, .capacity = 300});
    ASSERT_TRUE(engine.has_value());
    for (std::uint16_t port = first; port < first + count; ++port) {
      const mr_flow_record flow = flow_of(image_.view(), port, kTcpListener, state);
      const core::ClientKey key = core::ClientKey::of(flow);
      core::FlowTable& table = engine->tables[core::owner_of(key, workers)];
      const std::uint32_t index = table.insert(table.hash(key), key, state);
      ASSERT_NE(index, MR_RECORD_NONE);
      table.record(index) = flow;
      // Eight bytes are read of a frame's source address.
      std::uint8_t mac[8] = {};
      std::copy(std::begin(kRouterMac), std::end(kRouterMac), mac);
      table.record(index).last_hop = table.last_hops().learn(mac, 1);
    }
    ASSERT_TRUE(set.commit());
  }

  Import import_into(EngineMaps& maps) { return xdp::import_tables(open().left(), maps.maps()); }

  EngineMaps maps_{MapsOptions{.flows = 256}};
  Config config_;
  Image image_;
  TempDir dir_;
  TempDir spare_;
};

TEST_F(Copy, fault_88_dpdk_engine_with_any_number_of_workers_takes_the_copy_over) {
  mr_flow_record& record = maps_.maps().flows[77];
  record = flow_of(image_.view(), 1234, kTcpListener, MR_FLOW_ESTABLISHED);
  record.packets = 9;
  record.last_hop = 5;
  maps_.maps().last_hops[5].word = 0x0101'0900'0000'0002;  // in use, nic 1, 02:00:00:00:00:09
  mr_flow_record& busy = maps_.maps().flows[78];
  busy = flow_of(image_.view(), 1235, kTcpListener, MR_FLOW_SYN);
  busy.state = MR_XDP_FLOW_BUSY;
  {
    shm::FlowSet set = open();
    Result<FlowCopy> copy = FlowCopy::create(set, 256);
    ASSERT_TRUE(copy.has_value());
    copy->set_all(maps_.maps().flows, maps_.maps().last_hops);
    ASSERT_TRUE(set.commit());
  }
  const core::ClientKey key = core::ClientKey::of(record);
  for (std::uint32_t workers = 1; workers <= 4; ++workers) {
    for (const std::uint32_t capacity : {256u, 1000u}) {
      shm::FlowSet set = open();
      Result<shm::FlowSet::TakenOver> engine =
          set.take_over({.worker_count = workers, .capacity = capacity});
      ASSERT_TRUE(engine.has_value());
      EXPECT_EQ(engine->flows, 1u);
      const core::FlowTable& table = engine->tables[core::owner_of(key, workers)];
      const std::uint32_t index =
          table.find(table.hash(key), key, [](const mr_flow_record&) { return true; });
      ASSERT_NE(index, MR_RECORD_NONE) << workers << " workers, " << capacity;
      const mr_flow_record& found = table.record(index);
      EXPECT_EQ(found.state, MR_FLOW_ESTABLISHED);
      EXPECT_EQ(found.target_id, record.target_id);
      EXPECT_EQ(found.packets, 0u) << "counted by the XDP engine";
      const mr_last_hop& hop = table.last_hops().at(found.last_hop);
      EXPECT_EQ(std::memcmp(hop.mac, kRouterMac, 6), 0);
      EXPECT_EQ(hop.nic, 1);
    }
  }
}

TEST_F(Copy, record_that_holds_no_flow_any_more_is_free_in_the_copy) {
  {
    shm::FlowSet set = open();
    Result<FlowCopy> copy = FlowCopy::create(set, 256);
    ASSERT_TRUE(copy.has_value());
    mr_flow_record& record = maps_.maps().flows[77];
    record = flow_of(image_.view(), 1234, kTcpListener, MR_FLOW_ESTABLISHED);
    copy->set(77, record);
    record.state = MR_XDP_FLOW_GONE;
    copy->set(77, record);
    ASSERT_TRUE(set.commit());
  }
  EXPECT_EQ(open().left().size(), 1u);
  EXPECT_EQ(import_into(maps_).flows, 0u);
}

TEST_F(Copy, fault_88_flows_of_every_worker_of_a_dpdk_engine_are_found_by_programs) {
  for (std::uint32_t workers = 1; workers <= 3; ++workers) {
    leave_tables(workers, 1000, workers == 1 ? 60 : 0);
    const Import import = import_into(maps_);
    EXPECT_EQ(import.flows, 60u);
    EXPECT_EQ(import.refused, 0u);
    for (std::uint16_t port = 1000; port < 1060; ++port) {
      const mr_flow_record* flow = find(port);
      ASSERT_NE(flow, nullptr) << port;
      EXPECT_EQ(maps_.maps().last_hops[flow->last_hop].word, 0x0101'0900'0000'0002u);
    }
    std::ranges::fill(maps_.maps().flows, mr_flow_record{});
  }
}

TEST_F(Copy, fault_88_tables_that_an_older_engine_left_are_not_taken) {
  leave_tables(2, 1000, 60);
  const std::string kept = spare_.file("kept");
  std::filesystem::copy_file(dir_.file("flows.1"), kept);
  leave_tables(1, 2000, 10);
  std::filesystem::copy_file(kept, dir_.file("flows.1"));
  EXPECT_EQ(import_into(maps_).flows, 70u) << "those of flows.0, which has them all";
}

// Where flows are in pinned maps: huge pages for a second copy there may not be.
TEST_F(Copy, copy_of_an_earlier_daemon_is_used_as_it_is) {
  mr_flow_record& record = maps_.maps().flows[77];
  record = flow_of(image_.view(), 1234, kTcpListener, MR_FLOW_ESTABLISHED);
  {
    shm::FlowSet set = open();
    Result<FlowCopy> copy = FlowCopy::create(set, 256);
    ASSERT_TRUE(copy.has_value());
    copy->set_all(maps_.maps().flows, maps_.maps().last_hops);
    ASSERT_TRUE(set.commit());
  }
  const std::string path = dir_.file("flows.0");
  const os::FileIdentity before = os::identity_of(path);
  mr_flow_record& later = maps_.maps().flows[78];
  later = flow_of(image_.view(), 1235, kTcpListener, MR_FLOW_ESTABLISHED);
  record.state = MR_FLOW_FREE;
  {
    shm::FlowSet set = open();
    Result<FlowCopy> copy = FlowCopy::reuse(set, 256);
    ASSERT_TRUE(copy.has_value());
    EXPECT_FALSE(std::filesystem::exists(path + ".new"));
    copy->set_all(maps_.maps().flows, maps_.maps().last_hops);
    ASSERT_TRUE(set.commit());
  }
  EXPECT_EQ(os::identity_of(path), before);
  EngineMaps next{MapsOptions{.flows = 256}};
  EXPECT_EQ(import_into(next).flows, 1u);
  EXPECT_TRUE(std::ranges::any_of(next.maps().flows, [&](const mr_flow_record& flow) {
    return flow.state != MR_FLOW_FREE && flow.client_port_be == later.client_port_be;
  }));

  shm::FlowSet set = open();
  ASSERT_TRUE(FlowCopy::reuse(set, 512).has_value()) << "of another size it is made";
  EXPECT_TRUE(std::filesystem::exists(path + ".new"));
}

TEST_F(Copy, fault_91_tables_that_were_taken_stay_until_the_copy_is_in_force) {
  leave_tables(2, 1000, 60);
  EXPECT_EQ(import_into(maps_).flows, 60u);
  {
    shm::FlowSet set = open();
    ASSERT_TRUE(FlowCopy::create(set, 256).has_value());
  }
  EXPECT_EQ(open().left().size(), 2u);
  {
    shm::FlowSet set = open();
    Result<FlowCopy> copy = FlowCopy::create(set, 256);
    ASSERT_TRUE(copy.has_value());
    copy->set_all(maps_.maps().flows, maps_.maps().last_hops);
    ASSERT_TRUE(set.commit());
  }
  EngineMaps again{MapsOptions{.flows = 256}};
  EXPECT_EQ(open().left().size(), 1u) << "nobody takes them over twice";
  EXPECT_EQ(import_into(again).flows, 60u);
}

TEST_F(Copy, closed_flows_give_way_to_living_ones) {
  leave_tables(1, 1000, 100, MR_FLOW_EXPIRED);
  leave_tables(1, 2000, 30);
  EngineMaps small{MapsOptions{.flows = 64}};
  const Import import = import_into(small);
  EXPECT_EQ(import.refused, 0u) << "those that are over are not missed";
  EXPECT_EQ(std::ranges::count(small.maps().flows, MR_FLOW_ESTABLISHED, &mr_flow_record::state),
            30);
}

TEST_F(Copy, flows_move_to_maps_of_another_size) {
  leave_tables(1, 1000, 90);
  ASSERT_EQ(import_into(maps_).flows, 90u);
  EngineMaps larger{MapsOptions{.flows = 1024}};
  const Import import =
      xdp::import_flows(maps_.maps().flows, maps_.maps().last_hops, larger.maps());
  EXPECT_EQ(import.flows, 90u);
}

TEST_F(Copy, flows_without_room_are_told) {
  leave_tables(1, 1000, 90);
  EngineMaps small{MapsOptions{.flows = 64}};
  const Import import = import_into(small);
  EXPECT_EQ(import.flows + import.refused, 90u);
  EXPECT_LE(import.flows, 64u);
  EXPECT_GT(import.refused, 0u);
}

TEST_F(Copy, fault_36_damaged_table_is_left_out_with_its_reason) {
  leave_tables(1, 1000, 10);
  {
    std::fstream file(dir_.file("flows.0"), std::ios::in | std::ios::out | std::ios::binary);
    file.write("damage!!", 8);
  }
  const shm::FlowSet set = open();
  EXPECT_EQ(xdp::import_tables(set.left(), maps_.maps()).flows, 0u);
  ASSERT_EQ(set.problems().size(), 1u);
  EXPECT_NE(set.problems()[0].find("magic"), std::string::npos) << set.problems()[0];
}

TEST_F(Copy, empty_file_and_no_file_are_no_flows) {
  EXPECT_TRUE(open().problems().empty());
  std::ofstream(dir_.file("flows.0")).close();
  const shm::FlowSet set = open();
  EXPECT_TRUE(set.left().empty());
  EXPECT_EQ(set.problems().size(), 1u);
}

TEST_F(Copy, neighbour_is_copied_with_the_flow_that_names_it) {
  std::optional<shm::FlowSet> set = open();
  Result<FlowCopy> copy = FlowCopy::create(*set, 256);
  ASSERT_TRUE(copy.has_value());
  mr_flow_record& record = maps_.maps().flows[77];
  record = flow_of(image_.view(), 1234, kTcpListener, MR_FLOW_ESTABLISHED);
  record.last_seen_tick = 1;
  record.last_hop = 5;
  maps_.maps().last_hops[5].word = 0x0101'0900'0000'0002;
  xdp::Sweep sweep(maps_.maps(), &*copy);
  sweep.run_round(image_.view(), 2u << MR_TICK_SHIFT);
  // Given back, and learned anew for another neighbour: the copy follows before the round ends.
  maps_.maps().last_hops[5].word = 0x0100'0a00'0000'0002;
  copy->set_last_hop(5, maps_.maps().last_hops[5]);
  copy->set(77, record);
  ASSERT_TRUE(set->commit());
  set.reset();
  EngineMaps other;
  ASSERT_EQ(import_into(other).flows, 1u);
  const auto taken = std::ranges::find_if(
      other.maps().flows, [](const mr_flow_record& flow) { return flow.state != MR_FLOW_FREE; });
  EXPECT_EQ(other.maps().last_hops[taken->last_hop].word, 0x0100'0a00'0000'0002u);
}

// A flow of a neighbour that has just gone out of use keeps its neighbour.
TEST_F(Copy, neighbour_out_of_use_is_imported_in_use) {
  EngineMaps former;
  former.maps().flows[3] = flow_of(image_.view(), 1234, kTcpListener, MR_FLOW_ESTABLISHED);
  former.maps().flows[3].last_hop = 5;
  former.maps().last_hops[5].word = 0x0001'0900'0000'0002;
  ASSERT_EQ(xdp::import_flows(former.maps().flows, former.maps().last_hops, maps_.maps()).flows,
            1u);
  const mr_flow_record* flow = find(1234);
  ASSERT_NE(flow, nullptr);
  EXPECT_EQ(maps_.maps().last_hops[flow->last_hop].word, 0x0101'0900'0000'0002u);
}

}  // namespace
}  // namespace millrace::test
