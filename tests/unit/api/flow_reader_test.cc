// SPDX-License-Identifier: Apache-2.0
//
// Reading flow tables that an engine writes, replaces and cuts as it likes.
#include "controlplane/api/flow_reader.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "dataplane/contract/flow_table_abi.h"
#include "tests/support/cc/image_builder.h"
#include "tests/support/cc/temp_dir.h"
#include "tests/unit/api/flow_table_file.h"

namespace millrace::control {
namespace {

using test::FlowTableFile;

class FlowReaderTest : public testing::Test {
 protected:
  FlowScanRequest request(std::uint32_t workers = 1) {
    FlowScanRequest request;
    request.directory = dir_.path();
    request.table_count = workers;
    request.found_max = 1000;
    request.records_max = 1'000'000;
    request.matches = [](const mr_flow_record&) { return true; };
    return request;
  }
  std::string file(std::uint32_t worker = 0) {
    return dir_.path() + "/flows." + std::to_string(worker);
  }
  static void fill(FlowTableFile& table, std::uint16_t count) {
    for (std::uint16_t port = 1; port <= count; ++port) {
      table.add({.client = test::addr_of("192.0.2.1"), .client_port = port});
    }
  }

  test::TempDir dir_;
};

TEST_F(FlowReaderTest, finds_every_flow_once) {
  FlowTableFile table(10'000);
  fill(table, 9000);
  table.write(file());
  auto ask = request();
  ask.found_max = 100'000;
  const FlowScan scan = scan_flows(ask);
  EXPECT_EQ(scan.found.size(), 9000u);
  EXPECT_EQ(scan.next, std::nullopt);
  EXPECT_TRUE(scan.problems.empty());
  std::vector<bool> seen(9001);
  for (const FlowFound& flow : scan.found) {
    const auto port = core::from_be16(flow.record.client_port_be);
    EXPECT_FALSE(seen.at(port));
    seen[port] = true;
  }
}

TEST_F(FlowReaderTest, goes_on_where_a_bound_stopped_it) {
  FlowTableFile first(100, 0);
  FlowTableFile second(100, 1);
  fill(first, 50);
  fill(second, 30);
  first.write(file(0));
  second.write(file(1));
  auto ask = request(2);
  ask.records_max = 7;
  ask.found_max = 5;
  std::size_t found = 0;
  std::size_t rounds = 0;
  while (true) {
    const FlowScan scan = scan_flows(ask);
    EXPECT_LE(scan.found.size(), 5u);
    EXPECT_LE(scan.records_seen, 7u);
    found += scan.found.size();
    ASSERT_LT(++rounds, 100u);
    if (!scan.next) break;
    ask.from = *scan.next;
  }
  EXPECT_EQ(found, 80u);
}

TEST_F(FlowReaderTest, passes_over_free_and_impossible_records) {
  FlowTableFile table(100);
  fill(table, 4);
  table.table().record(0).state = MR_FLOW_FREE;
  table.table().record(1).state = 200;
  table.table().record(2).protocol = 99;
  table.write(file());
  EXPECT_EQ(scan_flows(request()).found.size(), 1u);
}

TEST_F(FlowReaderTest, missing_table_is_a_problem_and_others_are_read) {
  FlowTableFile table(100, 1);
  fill(table, 3);
  table.write(file(1));
  const FlowScan scan = scan_flows(request(2));
  EXPECT_EQ(scan.found.size(), 3u);
  ASSERT_EQ(scan.problems.size(), 1u);
  EXPECT_NE(scan.problems[0].find("flows.0"), std::string::npos) << scan.problems[0];
}

TEST_F(FlowReaderTest, header_that_lies_is_refused) {
  struct Lie {
    const char* what;
    void (*tell)(mr_flow_table_header&);
    const char* reason;
  };
  const Lie lies[] = {
      {"magic", [](mr_flow_table_header& h) { h.segment.magic = 1; }, "not a flow table"},
      {"kind", [](mr_flow_table_header& h) { h.segment.kind = MR_SEGMENT_STATS; },
       "not a flow table"},
      {"version", [](mr_flow_table_header& h) { h.segment.abi_version = 999; }, "ABI version 999"},
      {"capacity", [](mr_flow_table_header& h) { h.capacity = MR_FLOW_CAPACITY_MAX; }, "promises"},
      {"capacity overflow", [](mr_flow_table_header& h) { h.capacity = 0xffffffff; }, "promises"},
      {"offset", [](mr_flow_table_header& h) { h.records_offset = ~0ULL - 63; }, "promises"},
      {"high", [](mr_flow_table_header& h) { h.record_high = 101; }, "promises"},
  };
  for (const Lie& lie : lies) {
    FlowTableFile table(100);
    fill(table, 3);
    lie.tell(table.header());
    table.write(file());
    const FlowScan scan = scan_flows(request());
    EXPECT_TRUE(scan.found.empty()) << lie.what;
    ASSERT_EQ(scan.problems.size(), 1u) << lie.what;
    EXPECT_NE(scan.problems[0].find(lie.reason), std::string::npos) << scan.problems[0];
  }
}

TEST_F(FlowReaderTest, file_cut_short_is_no_crash) {
  FlowTableFile table(100);
  fill(table, 50);
  table.write(file());
  for (const off_t bytes : {0, 100, 256, 4096}) {
    ASSERT_EQ(truncate(file().c_str(), bytes), 0);
    EXPECT_TRUE(scan_flows(request()).found.empty()) << bytes;
  }
}

TEST_F(FlowReaderTest, position_beyond_the_tables_is_the_end) {
  FlowTableFile table(100);
  fill(table, 5);
  table.write(file());
  auto ask = request();
  ask.from = {0, 0x7fffffff};
  EXPECT_EQ(scan_flows(ask).next, std::nullopt);
  ask.from = {77, 0};
  EXPECT_EQ(scan_flows(ask).next, std::nullopt);
}

}  // namespace
}  // namespace millrace::control
