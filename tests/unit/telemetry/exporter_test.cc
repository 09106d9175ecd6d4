// SPDX-License-Identifier: Apache-2.0
#include "controlplane/telemetry/exporter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "tests/support/cc/temp_dir.h"
#include "tests/unit/net/network.h"
#include "tests/unit/telemetry/sample_snapshot.h"

namespace millrace::control {
namespace {

using ::testing::HasSubstr;
namespace asio = boost::asio;
using namespace std::chrono_literals;

// Talks to the exporter from the test's own io_context, in small steps.
class Client {
 public:
  explicit Client(asio::io_context& io) : socket_(io) {}

  void connect(std::uint16_t port, const std::string& request,
               const std::string& address = "127.0.0.1") {
    boost::system::error_code error;
    (void)socket_.connect({asio::ip::make_address(address), port}, error);
    ASSERT_FALSE(error) << error.message();
    asio::write(socket_, asio::buffer(request));
    asio::async_read(socket_, asio::dynamic_buffer(response_),
                     [this](const auto&, std::size_t) { is_done_ = true; });
  }
  [[nodiscard]] bool is_done() const { return is_done_; }  // the server closed the connection
  [[nodiscard]] const std::string& response() const { return response_; }
  [[nodiscard]] std::string body() const {
    return response_.substr(response_.find("\r\n\r\n") + 4);
  }

 private:
  asio::ip::tcp::socket socket_;
  std::string response_;
  bool is_done_ = false;
};

const std::string kScrape = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

class ExporterTest : public ::testing::Test {
 protected:
  void listen(const std::string& address = "127.0.0.1:0") {
    auto listened = Exporter::listen(address, io_, [this] {
      ++snapshots_;
      return test::sample_snapshot();
    });
    ASSERT_TRUE(listened) << listened.error().message;
    exporter_ = std::move(*listened);
  }

  // False when it has not become true within a few seconds.
  template <typename Predicate>
  [[nodiscard]] bool becomes_true(Predicate is_true, std::chrono::seconds limit = 5s) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    while (!is_true() && std::chrono::steady_clock::now() < deadline) {
      io_.restart();
      io_.run_one_until(deadline);
    }
    return is_true();
  }

  std::string response_to(const std::string& request, const std::string& address = "127.0.0.1") {
    Client client(io_);
    client.connect(exporter_->port(), request, address);
    EXPECT_TRUE(becomes_true([&] { return client.is_done(); }));
    return client.response();
  }

  asio::io_context io_;
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
  Client client(io_);
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
  EXPECT_THAT(response_to("GET / HTTP/1.1\r\n\r\n"), HasSubstr("HTTP/1.1 404"));
  EXPECT_THAT(response_to("POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
              HasSubstr("HTTP/1.1 405"));
  EXPECT_EQ(response_to("\x16\x03\x01 this is not HTTP\r\n\r\n"), "");
  EXPECT_EQ(
      response_to("GET /" + std::string(std::size_t{2} * Exporter::kRequestHeaderBytesMax, 'x')),
      "");
  EXPECT_EQ(snapshots_, 0);
}

TEST_F(ExporterTest, silent_connections_are_bounded_in_number_and_time) {
  listen();
  std::vector<std::unique_ptr<Client>> silent;
  for (std::size_t i = 0; i < Exporter::kSessionsMax; ++i) {
    silent.push_back(std::make_unique<Client>(io_));
    silent.back()->connect(exporter_->port(), "GET ");
  }
  EXPECT_THAT(response_to(kScrape), HasSubstr("HTTP/1.1 200"));
  EXPECT_TRUE(becomes_true([&] { return silent.front()->is_done(); })) << "the oldest gave way";
  EXPECT_FALSE(silent.back()->is_done());
  EXPECT_TRUE(becomes_true([&] { return silent.back()->is_done(); }, Exporter::kSessionTime + 2s));
}

TEST_F(ExporterTest, connections_that_never_finish_asking_keep_no_scraper_out) {
  listen();
  std::vector<std::unique_ptr<Client>> slow;
  for (std::size_t i = 0; i < 4 * Exporter::kSessionsMax; ++i) {
    slow.push_back(std::make_unique<Client>(io_));
    // Nothing, a part of a line, headers without an end.
    const char* parts[] = {"", "GET /met", "GET /metrics HTTP/1.1\r\nX-One: 1\r\n"};
    slow.back()->connect(exporter_->port(), parts[i % std::size(parts)]);
    if (i % Exporter::kSessionsMax != 0) continue;
    EXPECT_THAT(response_to(kScrape), HasSubstr("HTTP/1.1 200")) << "behind " << i;
  }
  EXPECT_THAT(response_to(kScrape), HasSubstr("HTTP/1.1 200"));
}

TEST_F(ExporterTest, closing_ends_sessions_and_frees_the_address_at_once) {
  listen();
  const std::uint16_t port = exporter_->port();
  Client client(io_);
  client.connect(port, "GET ");
  EXPECT_THAT(response_to(kScrape), HasSubstr("HTTP/1.1 200"));
  exporter_.reset();
  EXPECT_TRUE(becomes_true([&] { return client.is_done(); }));
  EXPECT_EQ(client.response(), "");
  listen("127.0.0.1:" + std::to_string(port));
}

TEST_F(ExporterTest, address_that_cannot_be_bound_is_an_error_with_the_cause) {
  listen();
  const std::string address = "127.0.0.1:" + std::to_string(exporter_->port());
  const auto second = Exporter::listen(address, io_, test::sample_snapshot);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().message,
            "--metrics: cannot listen on " + address +
                ": Address already in use; another program listens there (`ss -ltnp 'sport = :" +
                std::to_string(exporter_->port()) +
                "'` names it), so end that one or choose another port");
}

// At boot, or with an address that moves between nodes: the balancer does not wait for who counts.
TEST_F(ExporterTest, address_that_the_node_gets_later_is_served_from_then_on) {
  if (const std::string why = test::why_no_namespaces(); !why.empty()) GTEST_SKIP() << why;
  for (const std::string& address : {std::string("192.0.2.1"), std::string("2001:db8::1")}) {
    const test::OwnNamespace node;
    node.run("ip link set lo up");
    const bool is_v6 = address.find(':') != std::string::npos;
    listen(is_v6 ? "[" + address + "]:0" : address + ":0");
    EXPECT_THAT(exporter_->problem(), HasSubstr("does not have the address " + address));
    node.run("ip address add " + address + (is_v6 ? "/128" : "/32") + " dev lo");
    // An IPv6 address may be tentative for a moment.
    EXPECT_TRUE(becomes_true([&] { return exporter_->problem().empty(); }));
    EXPECT_THAT(response_to(kScrape, address), HasSubstr("HTTP/1.1 200 OK"));
    node.run("ip address delete " + address + (is_v6 ? "/128" : "/32") + " dev lo");
    EXPECT_THAT(exporter_->problem(), HasSubstr(address)) << "gone again";
    exporter_.reset();
  }
}

TEST_F(ExporterTest, anything_but_address_and_port_is_refused) {
  for (const char* address : {"", "9465", ":9465", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x",
                              "127.0.0.1:65536", "127.0.0.1:9465s", "127.0.0.1:1,127.0.0.1:2",
                              "::1:9465", "[127.0.0.1]:9465", "localhost:9465", "+9465"}) {
    const auto listened = Exporter::listen(address, io_, test::sample_snapshot);
    ASSERT_FALSE(listened) << address;
    EXPECT_THAT(listened.error().message, HasSubstr("not ADDRESS:PORT")) << address;
  }
}

TEST_F(ExporterTest, ipv6_address_is_served) {
  listen("[::1]:0");
  EXPECT_GT(exporter_->port(), 0);
}

}  // namespace
}  // namespace millrace::control
