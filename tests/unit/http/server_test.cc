// SPDX-License-Identifier: Apache-2.0
#include "controlplane/http/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iterator>
#include <memory>
#include <vector>

#include "tests/unit/http/loopback.h"
#include "tests/unit/net/network.h"

namespace millrace::control {
namespace {

using test::HttpClient;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

const std::string kAsk = "GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n";

class HttpServerTest : public test::LoopbackTest {
 protected:
  void listen(const std::string& address = "127.0.0.1:0") {
    auto listened = try_to_listen(address);
    ASSERT_TRUE(listened) << listened.error().message;
    server_ = std::move(*listened);
  }
  // "/page" says that it is there, "/echo/" says what it was told, in at most 10 bytes.
  Result<std::unique_ptr<HttpServer>> try_to_listen(const std::string& address) {
    std::vector<HttpRoute> routes;
    routes.push_back({.path = "/page", .methods = {"GET"}, .handler = [this](const auto&) {
                        ++pages_;
                        return HttpResponse{.content_type = "text/html", .body = "a page"};
                      }});
    routes.push_back({.path = "/echo/",
                      .methods = {"POST", "PUT"},
                      .body_bytes_max = 10,
                      .handler = [this](const HttpRequest& request) {
                        asked_ = request;
                        return HttpResponse{.status = 201, .body = request.body};
                      }});
    return HttpServer::listen(io_, {.address = address, .usual_port = 8080, .limits = limits_},
                              HttpRoutes(std::move(routes), "Look at /page\n"));
  }
  std::string response_to(const std::string& request, const std::string& address = "127.0.0.1") {
    return response_of(server_->port(), request, address);
  }

  HttpLimits limits_;
  int pages_ = 0;
  HttpRequest asked_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, handler_answers_each_request) {
  listen();
  const std::string response = response_to(kAsk);
  EXPECT_THAT(response, HasSubstr("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(response, HasSubstr("Connection: close\r\n"));
  EXPECT_THAT(response, HasSubstr("Content-Type: text/html\r\n"));
  EXPECT_THAT(response, HasSubstr("\r\n\r\na page"));
  EXPECT_THAT(response_to(kAsk), HasSubstr("a page"));
  EXPECT_EQ(pages_, 2);
}

TEST_F(HttpServerTest, handler_is_told_all_that_was_asked) {
  listen();
  const std::string response = response_to(
      "POST /echo/one?two=3 HTTP/1.1\r\nX-Amz-Date: today\r\nContent-Length: 4\r\n\r\nfour");
  EXPECT_THAT(response, HasSubstr("HTTP/1.1 201 Created\r\n"));
  EXPECT_THAT(response, HasSubstr("\r\n\r\nfour"));
  EXPECT_EQ(asked_.method, "POST");
  EXPECT_EQ(asked_.target, "/echo/one?two=3");
  EXPECT_EQ(asked_.path(), "/echo/one");
  EXPECT_EQ(asked_.header("x-amz-date"), "today");
  EXPECT_EQ(asked_.header("authorization"), "");
  EXPECT_EQ(asked_.body, "four");
}

TEST_F(HttpServerTest, body_may_come_in_pieces_and_late) {
  listen();
  HttpClient client(io_);
  client.connect(server_->port(),
                 "PUT /echo/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none");
  EXPECT_FALSE(becomes_true([&] { return client.is_done(); }, 20ms));
  client.send("\r\n3\r\ntwo\r\n0\r\n\r\n");
  ASSERT_TRUE(becomes_true([&] { return client.is_done(); }));
  EXPECT_EQ(client.body(), "onetwo");
}

TEST_F(HttpServerTest, body_larger_than_its_route_takes_is_refused_before_it_is_read) {
  listen();
  for (const std::string& body :
       {std::string("Content-Length: 11\r\n\r\n"),
        std::string("Transfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n")}) {
    const std::string response = response_to("POST /echo/ HTTP/1.1\r\n" + body);
    EXPECT_THAT(response, HasSubstr("HTTP/1.1 413")) << body;
    EXPECT_THAT(response, HasSubstr("A body may have 10 bytes here\n")) << body;
  }
  EXPECT_EQ(asked_.method, "");
  const std::string whole = "POST /echo/ HTTP/1.1\r\nContent-Length: 10\r\n\r\n0123456789";
  EXPECT_THAT(response_to(whole), HasSubstr("0123456789"));
}

TEST_F(HttpServerTest, what_is_not_there_is_refused_without_its_handler) {
  listen();
  const std::string none = response_to("GET / HTTP/1.1\r\n\r\n");
  EXPECT_THAT(none, HasSubstr("HTTP/1.1 404"));
  EXPECT_THAT(none, HasSubstr("\r\n\r\nLook at /page\n"));
  const std::string method = response_to("POST /page HTTP/1.1\r\nContent-Length: 5\r\n\r\n");
  EXPECT_THAT(method, HasSubstr("HTTP/1.1 405"));
  EXPECT_THAT(method, HasSubstr("\r\n\r\nLook at /page\n"));
  EXPECT_EQ(response_to("\x16\x03\x01 this is not HTTP\r\n\r\n"), "");
  EXPECT_EQ(response_to("GET /" + std::string(std::size_t{2} * limits_.header_bytes_max, 'x')), "");
  EXPECT_EQ(response_to("POST /page HTTP/1.1\r\nContent-Length: " +
                        std::to_string(limits_.body_bytes_max + 1) + "\r\n\r\n"),
            "");
  EXPECT_EQ(pages_, 0);
}

TEST_F(HttpServerTest, silent_connections_are_bounded_in_number_and_time) {
  limits_.session_time = 1s;
  listen();
  std::vector<std::unique_ptr<HttpClient>> silent;
  for (std::size_t i = 0; i < limits_.sessions_max; ++i) {
    silent.push_back(std::make_unique<HttpClient>(io_));
    silent.back()->connect(server_->port(), "GET ");
  }
  EXPECT_THAT(response_to(kAsk), HasSubstr("HTTP/1.1 200"));
  EXPECT_TRUE(becomes_true([&] { return silent.front()->is_done(); })) << "the oldest gave way";
  EXPECT_FALSE(silent.back()->is_done());
  EXPECT_TRUE(becomes_true([&] { return silent.back()->is_done(); }, limits_.session_time + 2s));
}

TEST_F(HttpServerTest, connections_that_never_finish_asking_keep_nobody_out) {
  listen();
  std::vector<std::unique_ptr<HttpClient>> slow;
  for (std::size_t i = 0; i < 4 * limits_.sessions_max; ++i) {
    slow.push_back(std::make_unique<HttpClient>(io_));
    // Nothing, a part of a line, headers without an end.
    const char* parts[] = {"", "GET /pa", "GET /page HTTP/1.1\r\nX-One: 1\r\n"};
    slow.back()->connect(server_->port(), parts[i % std::size(parts)]);
    if (i % limits_.sessions_max != 0) continue;
    EXPECT_THAT(response_to(kAsk), HasSubstr("HTTP/1.1 200")) << "behind " << i;
  }
  EXPECT_THAT(response_to(kAsk), HasSubstr("HTTP/1.1 200"));
}

TEST_F(HttpServerTest, closing_ends_sessions_and_frees_the_address_at_once) {
  listen();
  const std::uint16_t port = server_->port();
  HttpClient client(io_);
  client.connect(port, "GET ");
  EXPECT_THAT(response_to(kAsk), HasSubstr("HTTP/1.1 200"));
  server_.reset();
  EXPECT_TRUE(becomes_true([&] { return client.is_done(); }));
  EXPECT_EQ(client.response(), "");
  listen("127.0.0.1:" + std::to_string(port));
}

TEST_F(HttpServerTest, address_that_cannot_be_bound_is_an_error_with_the_cause) {
  listen();
  const std::string address = "127.0.0.1:" + std::to_string(server_->port());
  const auto second = try_to_listen(address);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().message,
            "cannot listen on " + address +
                ": Address already in use; another program listens there (`ss -ltnp 'sport = :" +
                std::to_string(server_->port()) +
                "'` names it), so end that one or choose another port");
}

// At boot, or with an address that moves between nodes: nothing waits for that.
TEST_F(HttpServerTest, address_that_the_node_gets_later_is_served_from_then_on) {
  if (const std::string why = test::why_no_namespaces(); !why.empty()) GTEST_SKIP() << why;
  for (const std::string& address : {std::string("192.0.2.1"), std::string("2001:db8::1")}) {
    const test::OwnNamespace node;
    node.run("ip link set lo up");
    const bool is_v6 = address.find(':') != std::string::npos;
    listen(is_v6 ? "[" + address + "]:0" : address + ":0");
    EXPECT_EQ(server_->absent_address(), address);
    node.run("ip address add " + address + (is_v6 ? "/128" : "/32") + " dev lo");
    // An IPv6 address may be tentative for a moment.
    EXPECT_TRUE(becomes_true([&] { return server_->absent_address().empty(); }));
    EXPECT_THAT(response_to(kAsk, address), HasSubstr("HTTP/1.1 200 OK"));
    node.run("ip address delete " + address + (is_v6 ? "/128" : "/32") + " dev lo");
    EXPECT_EQ(server_->absent_address(), address) << "gone again";
    server_.reset();
  }
}

TEST_F(HttpServerTest, anything_but_address_and_port_is_refused) {
  for (const char* address : {"", "9465", ":9465", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x",
                              "127.0.0.1:65536", "127.0.0.1:9465s", "127.0.0.1:1,127.0.0.1:2",
                              "::1:9465", "[127.0.0.1]:9465", "localhost:9465", "+9465"}) {
    const auto listened = try_to_listen(address);
    ASSERT_FALSE(listened) << address;
    EXPECT_THAT(listened.error().message, HasSubstr("not ADDRESS:PORT")) << address;
  }
}

TEST_F(HttpServerTest, ipv6_address_is_served) {
  listen("[::1]:0");
  EXPECT_THAT(response_to(kAsk, "::1"), HasSubstr("a page"));
}

}  // namespace
}  // namespace millrace::control
