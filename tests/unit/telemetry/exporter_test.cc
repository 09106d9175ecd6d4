// SPDX-License-Identifier: Apache-2.0
#include "controlplane/telemetry/exporter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "tests/support/cc/temp_dir.h"
#include "tests/unit/http/loopback.h"
#include "tests/unit/net/network.h"
#include "tests/unit/telemetry/sample_snapshot.h"

namespace millrace::control {
namespace {

using ::testing::HasSubstr;

const std::string kScrape = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

class ExporterTest : public test::LoopbackTest {
 protected:
  void listen(const std::string& address = "127.0.0.1:0") {
    auto listened = Exporter::listen(address, io_, [this] {
      ++snapshots_;
      return test::sample_snapshot();
    });
    ASSERT_TRUE(listened) << listened.error().message;
    exporter_ = std::move(*listened);
  }
  std::string response_to(const std::string& request) {
    return response_of(exporter_->port(), request);
  }

  int snapshots_ = 0;
  std::unique_ptr<Exporter> exporter_;
};

TEST_F(ExporterTest, scrape_is_answered_with_a_new_snapshot_each_time) {
  listen();
  EXPECT_THAT(response_to(kScrape), HasSubstr("HTTP/1.1 200"));
  EXPECT_THAT(response_to(kScrape), HasSubstr("\nmillrace_config_generation{"));
  EXPECT_EQ(snapshots_, 2);
}

TEST_F(ExporterTest, real_output_passes_promtool_check_metrics) {
  if (std::string(MILLRACE_PROMTOOL).empty()) GTEST_SKIP() << "promtool is not installed";
  listen();
  test::HttpClient client(io_);
  client.connect(exporter_->port(), kScrape);
  ASSERT_TRUE(becomes_true([&] { return client.is_done(); }));
  const test::TempDir dir;
  std::ofstream(dir.file("metrics")) << client.body();
  const std::string command = std::string(MILLRACE_PROMTOOL) + " check metrics < " +
                              dir.file("metrics") + " > " + dir.file("report") + " 2>&1";
  // NOLINTNEXTLINE(concurrency-mt-unsafe): the test has one thread
  const int status = std::system(command.c_str());
  std::ifstream file(dir.file("report"));
  const std::string report((std::istreambuf_iterator<char>(file)), {});
  EXPECT_EQ(status, 0) << report;
  EXPECT_EQ(report, "");
}

TEST_F(ExporterTest, anything_but_a_scrape_gets_an_error_and_no_snapshot) {
  listen();
  const std::string hint = "\r\n\r\nMetrics are at GET /metrics\n";
  for (const char* target : {"/", "/metrics/", "/metrics?name=x"}) {
    const std::string response = response_to("GET " + std::string(target) + " HTTP/1.1\r\n\r\n");
    EXPECT_THAT(response, HasSubstr("HTTP/1.1 404")) << target;
    EXPECT_THAT(response, HasSubstr(hint)) << target;
  }
  const std::string response = response_to("POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
  EXPECT_THAT(response, HasSubstr("HTTP/1.1 405"));
  EXPECT_THAT(response, HasSubstr(hint));
  EXPECT_EQ(snapshots_, 0);
}

TEST_F(ExporterTest, address_that_cannot_be_used_is_an_error_of_the_option) {
  listen();
  const std::string taken = "127.0.0.1:" + std::to_string(exporter_->port());
  const auto second = Exporter::listen(taken, io_, test::sample_snapshot);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message,
              HasSubstr("--metrics: cannot listen on " + taken + ": Address already in use; "));
  const auto third = Exporter::listen("9465", io_, test::sample_snapshot);
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().message,
            "--metrics: '9465' is not ADDRESS:PORT, such as 127.0.0.1:9465 or [::1]:9465 (neither "
            "a host's name nor a port alone)");
}

TEST_F(ExporterTest, address_that_the_node_gets_later_is_a_problem_until_then) {
  if (const std::string why = test::why_no_namespaces(); !why.empty()) GTEST_SKIP() << why;
  const test::OwnNamespace node;
  node.run("ip link set lo up");
  listen("192.0.2.1:0");
  EXPECT_EQ(exporter_->problem(),
            "nobody can ask for metrics: this node does not have the address 192.0.2.1 of "
            "--metrics");
  node.run("ip address add 192.0.2.1/32 dev lo");
  EXPECT_EQ(exporter_->problem(), "");
}

}  // namespace
}  // namespace millrace::control
