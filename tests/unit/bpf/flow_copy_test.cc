// SPDX-License-Identifier: Apache-2.0
//
// Flows on their way between the engines: what one leaves, the other finds.
#include "bpf/engine/flow_copy.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "dataplane/core/flow_table.h"
#include "tests/support/cc/temp_dir.h"
#include "tests/unit/bpf/engine_maps.h"

namespace millrace::test {
namespace {

using xdp::FlowCopy;
using xdp::Import;

constexpr std::uint8_t kRouterMac[6] = {2, 0, 0, 0, 0, 9};

core::FlowTable::Layout layout_of(std::uint32_t capacity, std::uint32_t worker,
                                  std::uint32_t workers) {
  return {.capacity = capacity,
          .worker_index = worker,
          .worker_count = workers,
          .secret = {1, 2, 3, 4 + worker},
          .created_ns = 1,
          .creator_pid = 1};
}

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

  // A DPDK engine's table with flows of clients [first, first + count).
  void leave_table(std::uint32_t worker, std::uint32_t workers, std::uint16_t first,
                   std::uint16_t count) {
    constexpr std::uint32_t kCapacity = 100;
    Result<shm::FlowFile> file =
        shm::FlowFile::open(dir_.path(), worker, core::FlowTable::bytes_for(kCapacity));
    ASSERT_TRUE(file.has_value());
    core::FlowTable table =
        core::FlowTable::format(file->bytes(), layout_of(kCapacity, worker, workers));
    for (std::uint16_t port = first; port < first + count; ++port) {
      const mr_flow_record flow = flow_of(image_.view(), port, kTcpListener, MR_FLOW_ESTABLISHED);
      const core::ClientKey key = core::ClientKey::of(flow);
      const std::uint32_t index = table.insert(table.hash(key), key, MR_FLOW_ESTABLISHED);
      ASSERT_NE(index, MR_RECORD_NONE);
      table.record(index) = flow;
      // Eight bytes are read of a frame's source address.
      std::uint8_t mac[8] = {};
      std::copy(std::begin(kRouterMac), std::end(kRouterMac), mac);
      table.record(index).last_hop = table.learn_last_hop(mac, 1);
    }
  }

  EngineMaps maps_{MapsOptions{.flows = 256}};
  Config config_;
  Image image_;
  TempDir dir_;
};

TEST_F(Copy, dpdk_engine_with_one_worker_takes_the_copy_over) {
  Result<FlowCopy> copy = FlowCopy::create(dir_.path(), 256);
  ASSERT_TRUE(copy.has_value());
  mr_flow_record& record = maps_.maps().flows[77];
  record = flow_of(image_.view(), 1234, kTcpListener, MR_FLOW_ESTABLISHED);
  record.packets = 9;
  record.last_hop = 5;
  maps_.maps().last_hops[5].word = 0x0101'0900'0000'0002;  // in use, nic 1, 02:00:00:00:00:09
  mr_flow_record& busy = maps_.maps().flows[78];
  busy = flow_of(image_.view(), 1235, kTcpListener, MR_FLOW_SYN);
  busy.state = MR_XDP_FLOW_BUSY;
  copy->set_all(maps_.maps().flows, maps_.maps().last_hops);
  copy = Error{"closed"};

  Result<shm::FlowFile> file = shm::FlowFile::open(dir_.path(), 0, core::FlowTable::bytes_for(256));
  ASSERT_TRUE(file.has_value());
  ASSERT_TRUE(file->existed());
  Result<core::FlowTable> table = core::FlowTable::attach(file->bytes(), layout_of(256, 0, 1));
  ASSERT_TRUE(table.has_value()) << table.error().message;
  EXPECT_EQ(table->used(), 1u);
  const mr_flow_record& found = table->record(77);
  EXPECT_EQ(found.client_port_be, 1234);
  EXPECT_EQ(found.state, MR_FLOW_ESTABLISHED);
  EXPECT_EQ(found.target_id, record.target_id);
  EXPECT_EQ(found.packets, 0u) << "counted by the XDP engine";
  const mr_last_hop& hop = table->last_hop(found.last_hop);
  EXPECT_EQ(std::memcmp(hop.mac, kRouterMac, 6), 0);
  EXPECT_EQ(hop.nic, 1);
}

TEST_F(Copy, record_that_holds_no_flow_any_more_is_free_in_the_copy) {
  Result<FlowCopy> copy = FlowCopy::create(dir_.path(), 256);
  ASSERT_TRUE(copy.has_value());
  mr_flow_record& record = maps_.maps().flows[77];
  record = flow_of(image_.view(), 1234, kTcpListener, MR_FLOW_ESTABLISHED);
  copy->set(77, record);
  record.state = MR_XDP_FLOW_GONE;
  copy->set(77, record);
  copy = Error{"closed"};
  const Import import = xdp::import_flow_files(dir_.path(), maps_.maps());
  EXPECT_EQ(import.flows, 0u);
  EXPECT_EQ(import.problem, "");
}

TEST_F(Copy, flows_of_every_worker_of_a_dpdk_engine_are_found_by_programs) {
  leave_table(0, 2, 1000, 60);
  leave_table(1, 2, 2000, 60);
  const Import import = xdp::import_flow_files(dir_.path(), maps_.maps());
  EXPECT_EQ(import.flows, 120u);
  EXPECT_EQ(import.refused, 0u);
  EXPECT_EQ(import.problem, "");
  for (std::uint16_t port = 1000; port < 1060; ++port) {
    const mr_flow_record* flow = find(port);
    ASSERT_NE(flow, nullptr) << port;
    EXPECT_EQ(maps_.maps().last_hops[flow->last_hop].word, 0x0101'0900'0000'0002u);
    EXPECT_NE(find(static_cast<std::uint16_t>(port + 1000)), nullptr);
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path())) << "nobody takes them over twice";
}

TEST_F(Copy, flows_move_to_maps_of_another_size) {
  leave_table(0, 1, 1000, 90);
  ASSERT_EQ(xdp::import_flow_files(dir_.path(), maps_.maps()).flows, 90u);
  EngineMaps larger{MapsOptions{.flows = 1024}};
  const Import import =
      xdp::import_flows(maps_.maps().flows, maps_.maps().last_hops, larger.maps());
  EXPECT_EQ(import.flows, 90u);
}

TEST_F(Copy, flows_without_room_are_told) {
  leave_table(0, 1, 1000, 90);
  EngineMaps small{MapsOptions{.flows = 64}};
  const Import import = xdp::import_flow_files(dir_.path(), small.maps());
  EXPECT_EQ(import.flows + import.refused, 90u);
  EXPECT_LE(import.flows, 64u);
  EXPECT_GT(import.refused, 0u);
}

TEST_F(Copy, fault_36_damaged_table_is_left_out_with_its_reason) {
  leave_table(0, 1, 1000, 10);
  {
    std::fstream file(dir_.file("flows.0"), std::ios::in | std::ios::out | std::ios::binary);
    file.write("damage!!", 8);
  }
  const Import import = xdp::import_flow_files(dir_.path(), maps_.maps());
  EXPECT_EQ(import.flows, 0u);
  EXPECT_NE(import.problem.find("magic"), std::string::npos) << import.problem;
}

TEST_F(Copy, empty_file_and_no_file_are_no_flows) {
  EXPECT_EQ(xdp::import_flow_files(dir_.path(), maps_.maps()).problem, "");
  std::ofstream(dir_.file("flows.0")).close();
  const Import import = xdp::import_flow_files(dir_.path(), maps_.maps());
  EXPECT_EQ(import.flows, 0u);
  EXPECT_NE(import.problem, "");
}

}  // namespace
}  // namespace millrace::test
