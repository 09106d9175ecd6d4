// SPDX-License-Identifier: Apache-2.0
#include "controlplane/health/prober.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <optional>

#include "tests/support/cc/temp_dir.h"
#include "tests/unit/health/fake_server.h"

namespace millrace::control {
namespace {

using test::BlackHole;
using test::ClosedPort;
using test::FakeServer;
using test::ip;
using ::testing::HasSubstr;

const std::string kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

class ProberTest : public ::testing::Test {
 protected:
  // The outcome of one probe, which must come within its timeout and a second.
  ProbeOutcome probe(ProbeRequest request) {
    std::optional<ProbeOutcome> outcome;
    const auto held = start_probe(io_, std::move(request), [&](const ProbeOutcome& result) {
      EXPECT_FALSE(outcome) << "called twice";
      outcome = result;
    });
    EXPECT_FALSE(outcome) << "called from within start_probe()";
    EXPECT_TRUE(test::becomes_true(io_, [&] { return outcome.has_value(); }));
    return outcome.value_or(ProbeOutcome{.verdict = ProbeVerdict::local_fault, .detail = "none"});
  }

  static ProbeRequest tcp_probe(std::uint16_t port) {
    ProbeRequest request{
        .address = ip("127.0.0.1"), .port = port, .host_port = port, .check = HealthCheck{}};
    request.check.timeout_ms = 300;
    return request;
  }
  static ProbeRequest http_probe(std::uint16_t port) {
    ProbeRequest request = tcp_probe(port);
    request.check.protocol = HealthCheckProtocol::http;
    request.check.path = "/health?full=1";
    return request;
  }
  ProbeOutcome http_outcome_of(const FakeServer::Behaviour& behaviour) {
    FakeServer server(io_, behaviour);
    return probe(http_probe(server.port()));
  }

  boost::asio::io_context io_;
};

TEST_F(ProberTest, tcp_probe_passes_on_a_connection_and_closes_it) {
  FakeServer server(io_, {.response = "", .closes = false});
  EXPECT_EQ(probe(tcp_probe(server.port())).verdict, ProbeVerdict::passed);
  EXPECT_TRUE(test::becomes_true(io_, [&] { return server.connections() == 1; }));
  EXPECT_TRUE(server.peer_has_closed());
}

TEST_F(ProberTest, refused_connection_fails_and_says_so) {
  const ClosedPort closed(io_);
  for (const ProbeRequest& request : {tcp_probe(closed.port()), http_probe(closed.port())}) {
    const ProbeOutcome outcome = probe(request);
    EXPECT_EQ(outcome.verdict, ProbeVerdict::failed);
    EXPECT_EQ(outcome.detail, "Connection refused");
  }
}

TEST_F(ProberTest, silence_times_out_before_and_after_connecting) {
  const BlackHole hole(io_);
  EXPECT_EQ(probe(tcp_probe(hole.port())).verdict, ProbeVerdict::timed_out);
  EXPECT_EQ(http_outcome_of({.response = "", .closes = false}).verdict, ProbeVerdict::timed_out);
  EXPECT_EQ(
      http_outcome_of({.response = "HTTP/1.1 200 OK\r\nServer: slow\r\n", .closes = false}).verdict,
      ProbeVerdict::timed_out);
}

TEST_F(ProberTest, http_probe_asks_as_nlb_does_and_closes) {
  FakeServer server(io_, {.response = kOk, .closes = false});
  ProbeRequest request = http_probe(server.port());
  request.host_port = 80;  // the listener's
  EXPECT_EQ(probe(request).verdict, ProbeVerdict::passed);
  EXPECT_THAT(server.last_request(), HasSubstr("GET /health?full=1 HTTP/1.1\r\n"));
  EXPECT_THAT(server.last_request(), HasSubstr("Host: 127.0.0.1:80\r\n"));
  EXPECT_THAT(server.last_request(), HasSubstr("Connection: close\r\n"));
  EXPECT_TRUE(server.peer_has_closed());
}

TEST_F(ProberTest, ipv6_target_is_probed_and_host_is_bracketed) {
  FakeServer server(io_, {.response = kOk}, "::1");
  ProbeRequest request = http_probe(server.port());
  request.address = ip("::1");
  EXPECT_EQ(probe(request).verdict, ProbeVerdict::passed);
  EXPECT_THAT(server.last_request(),
              HasSubstr("Host: [::1]:" + std::to_string(server.port()) + "\r\n"));
}

TEST_F(ProberTest, matcher_decides_on_the_status_code) {
  const auto outcome_of = [&](const std::string& status) {
    return http_outcome_of({.response = "HTTP/1.1 " + status + "\r\nContent-Length: 0\r\n\r\n"});
  };
  EXPECT_EQ(outcome_of("200 OK").verdict, ProbeVerdict::passed);
  EXPECT_EQ(outcome_of("399 Odd").verdict, ProbeVerdict::passed);
  EXPECT_EQ(outcome_of("204 ").verdict, ProbeVerdict::passed);
  for (const int code : {199, 400, 503}) {
    const ProbeOutcome outcome = outcome_of(std::to_string(code) + " No");
    EXPECT_EQ(outcome.verdict, ProbeVerdict::code_mismatch);
    EXPECT_EQ(outcome.status_code, code);
  }
}

TEST_F(ProberTest, header_decides_whatever_the_body_is) {
  for (const char* body_header :
       {"Content-Length: 99999999999\r\n", "Transfer-Encoding: chunked\r\n", ""}) {
    const std::string response = std::string("HTTP/1.1 200 OK\r\n") + body_header + "\r\nsome";
    EXPECT_EQ(http_outcome_of({.response = response, .closes = false}).verdict,
              ProbeVerdict::passed)
        << body_header;
  }
}

TEST_F(ProberTest, answers_that_are_no_http_fail) {
  for (const std::string& response :
       {std::string("SSH-2.0-OpenSSH_9.2\r\n"), std::string("\x16\x03\x01\0\x05 tls", 9),
        std::string("HTTP/1.1 2000 OK\r\n\r\n"), std::string("HTTP/1.1 abc\r\n\r\n"),
        std::string("HTTP/1.1 200 OK\r\nbroken header\r\n\r\n"), std::string("HTTP/1.1 20"),
        std::string()}) {
    const ProbeOutcome outcome = http_outcome_of({.response = response});
    EXPECT_EQ(outcome.verdict, ProbeVerdict::failed) << response;
    EXPECT_NE(outcome.detail, "") << response;
  }
}

TEST_F(ProberTest, endless_header_fails_at_its_limit) {
  std::string response = "HTTP/1.1 200 OK\r\n";
  while (response.size() < std::size_t{4} * kResponseHeaderBytesMax)
    response += "X-Filler: aaaaaaaaaaaa\r\n";
  EXPECT_EQ(http_outcome_of({.response = response, .closes = false}).verdict, ProbeVerdict::failed);
}

TEST_F(ProberTest, cancelled_probe_closes_its_connection_and_never_calls) {
  FakeServer server(io_, {.response = "", .closes = false});
  bool was_called = false;
  auto held =
      start_probe(io_, http_probe(server.port()), [&](const ProbeOutcome&) { was_called = true; });
  ASSERT_TRUE(test::becomes_true(io_, [&] { return !server.last_request().empty(); }));
  held.reset();
  EXPECT_TRUE(server.peer_has_closed());
  EXPECT_FALSE(test::becomes_true(
      io_, [&] { return was_called; }, std::chrono::milliseconds(500)));
}

// A real nginx with its own prefix, in the foreground, as this test's child.
class Nginx {
 public:
  Nginx(const test::TempDir& dir, std::uint16_t port) {
    std::ofstream(dir.file("nginx.conf"))
        << "daemon off; master_process off; pid " << dir.file("pid") << "; error_log "
        << dir.file("error") << ";\nevents {}\nhttp { access_log off; client_body_temp_path "
        << dir.file("t1") << "; proxy_temp_path " << dir.file("t2") << "; fastcgi_temp_path "
        << dir.file("t3") << "; uwsgi_temp_path " << dir.file("t4") << "; scgi_temp_path "
        << dir.file("t5") << ";\nserver { listen 127.0.0.1:" << port
        << "; location = /ok { return 200 \"$host\"; } location = /broken { return 503; } } }\n";
    const std::string config = dir.file("nginx.conf");
    pid_ = fork();
    if (pid_ == 0) {
      execl(MILLRACE_NGINX, "nginx", "-p", dir.path().c_str(), "-c", config.c_str(), nullptr);
      _exit(127);
    }
  }
  ~Nginx() {
    (void)kill(pid_, SIGKILL);
    (void)waitpid(pid_, nullptr, 0);
  }
  Nginx(const Nginx&) = delete;
  Nginx& operator=(const Nginx&) = delete;

 private:
  pid_t pid_ = -1;
};

TEST_F(ProberTest, real_nginx_is_judged_by_its_status_codes) {
  if (std::string(MILLRACE_NGINX).empty()) GTEST_SKIP() << "nginx is not installed";
  const test::TempDir dir;
  const std::uint16_t port = ClosedPort(io_).port();
  const Nginx nginx(dir, port);
  ProbeRequest request = http_probe(port);
  request.check.path = "/ok";
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  ProbeOutcome outcome = probe(request);
  while (outcome.verdict != ProbeVerdict::passed && std::chrono::steady_clock::now() < deadline) {
    outcome = probe(request);  // until it listens
  }
  EXPECT_EQ(outcome.verdict, ProbeVerdict::passed) << outcome.detail;
  request.check.path = "/broken";
  EXPECT_EQ(probe(request).status_code, 503);
  request.check.path = "/missing";
  EXPECT_EQ(probe(request).status_code, 404);
}

}  // namespace
}  // namespace millrace::control
