// SPDX-License-Identifier: Apache-2.0
//
// `millrace flows` against a flow table.
#include <algorithm>

#include "tests/unit/api/flow_table_file.h"
#include "tests/unit/cli/cli_run.h"

namespace millrace::control {
namespace {

class CliFlowsTest : public CliTest {
 protected:
  CliFlowsTest() {
    node_.controller.state.engine.flow_table_dir = dir_.path();
    node_.controller.state.engine.flow_table_count = 1;
    node_.controller.state.engine.workers.resize(1);
    test::FlowTableFile table(5000);
    for (std::uint16_t port = 1; port <= 2500; ++port) {
      table.add({.client = test::addr_of("192.0.2.1"),
                 .client_port = port,
                 .listener_id = node_.controller.state.listeners[0].id,
                 .target_id = node_.target(0, 0).id});
    }
    table.write(dir_.file("flows.0"));
  }
  static std::size_t lines(const std::string& text) {
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
  }
};

TEST_F(CliFlowsTest, table_that_cannot_be_read_is_told_and_no_success) {
  node_.controller.state.engine.flow_table_count = 2;
  for (const char* limit : {"5", "2300", "1000000"}) {
    const Outcome some = run({"flows", "--limit", limit});
    const bool is_reached = std::string(limit) == "1000000";
    EXPECT_EQ(some.code, is_reached ? kExitFailed : kExitDone) << limit;
    EXPECT_EQ(has(some.out, "Not read: cannot open " + dir_.file("flows.1")), is_reached);
  }
  const Outcome all = run({"flows", "--limit", "1000000", "--json"});
  EXPECT_EQ(all.code, kExitFailed);
  EXPECT_EQ(json::parse(all.out).at("problems").as_array().size(), 1u);
}

TEST_F(CliFlowsTest, shows_flows_and_says_when_there_are_more) {
  const Outcome some = run({"flows", "--limit", "5"});
  EXPECT_EQ(lines(some.out), 7u) << some.out;  // titles, five flows, the hint
  EXPECT_TRUE(has(some.out, "raise --limit"));
  EXPECT_TRUE(has(some.out, "203.0.113.10:80"));
  EXPECT_TRUE(has(some.out, "web-4/10.0.1.11:8080"));
}

TEST_F(CliFlowsTest, asks_on_until_the_limit_or_the_end) {
  EXPECT_EQ(lines(run({"flows", "--limit", "2300"}).out), 2302u);
  const Outcome all = run({"flows", "--limit", "1000000", "--json"});
  EXPECT_EQ(json::parse(all.out).at("flows").as_array().size(), 2500u);
}

TEST_F(CliFlowsTest, filters) {
  EXPECT_EQ(lines(run({"flows", "--client", "192.0.2.1:77"}).out), 2u);
  EXPECT_EQ(run({"flows", "--protocol", "udp"}).out, "No such flows.\n");
  EXPECT_EQ(run({"flows", "--state", "open"}).code, kExitFailed);
  EXPECT_EQ(run({"flows", "--client", "nobody"}).code, kExitUsage);
}

}  // namespace
}  // namespace millrace::control
