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
#include "tests/unit/health/answers.h"
#include "tests/unit/health/fake_server.h"
#include "tests/unit/net/network.h"

namespace millrace::control {
namespace {

using test::BlackHole;
using test::ClosedPort;
using test::FakeServer;
using test::ip;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kOkWithBody = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

class ProberTest : public ::testing::Test {
 protected:
  // The outcome of one probe, which must come within its timeout and a second.
  ProbeOutcome probe(ProbeRequest request) {
    Run run;
    start(run, std::move(request));
    EXPECT_TRUE(test::becomes_true(io_, [&] { return run.outcome.has_value(); }));
    return run.outcome.value_or(
        ProbeOutcome{.verdict = ProbeVerdict::local_fault, .detail = "none"});
  }

  // A probe from its start until its connection is closed.
  struct Run {
    std::unique_ptr<Probe> probe;
    std::optional<ProbeOutcome> outcome;
    bool is_closed = false;
  };
  void start(Run& run, ProbeRequest request) {
    run.probe = start_probe(io_, std::move(request),
                            {.on_outcome =
                                 [&run](const ProbeOutcome& result) {
                                   EXPECT_FALSE(run.outcome) << "called twice";
                                   run.outcome = result;
                                 },
                             .on_closed =
                                 [&run] {
                                   EXPECT_TRUE(run.outcome) << "closed before the verdict";
                                   EXPECT_FALSE(run.is_closed) << "called twice";
                                   run.is_closed = true;
                                 }});
    EXPECT_FALSE(run.outcome) << "called from within start_probe()";
  }
  [[nodiscard]] bool passes(const Run& run) {
    return test::becomes_true(io_, [&] { return run.outcome.has_value(); }) &&
           run.outcome->verdict == ProbeVerdict::passed;
  }
  [[nodiscard]] bool is_closed_soon(const Run& run) {
    return test::becomes_true(io_, [&] { return run.is_closed; });
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
  FakeServer server(io_, {.response = kOkWithBody, .closes = false});
  ProbeRequest request = http_probe(server.port());
  request.host_port = 80;  // the listener's
  EXPECT_EQ(probe(request).verdict, ProbeVerdict::passed);
  EXPECT_EQ(server.last_request(),
            "GET /health?full=1 HTTP/1.1\r\nHost: 127.0.0.1:80\r\n"
            "User-Agent: Millrace-HealthChecker/1\r\nAccept: */*\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(server.peer_has_closed());
}

TEST_F(ProberTest, host_of_the_check_is_asked_for) {
  FakeServer server(io_, {.response = kOkWithBody});
  ProbeRequest request = http_probe(server.port());
  request.check.host = "www.example.org:8080";
  EXPECT_EQ(probe(request).verdict, ProbeVerdict::passed);
  EXPECT_THAT(server.last_request(), HasSubstr("\r\nHost: www.example.org:8080\r\n"));
  EXPECT_THAT(server.last_request(), Not(HasSubstr("127.0.0.1")));
}

TEST_F(ProberTest, ipv6_target_is_probed_and_host_is_bracketed) {
  FakeServer server(io_, {.response = kOkWithBody}, "::1");
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
  for (const int code : {101, 400, 503}) {
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

TEST_F(ProberTest, fault_84_verdict_waits_for_no_body_and_a_late_one_is_still_taken) {
  FakeServer server(io_,
                    {.response = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", .closes = false});
  ProbeRequest request = http_probe(server.port());
  request.check.timeout_ms = 60'000;
  Run run;
  start(run, request);
  ASSERT_TRUE(passes(run));
  for (const char* part : {"o", "k"}) {
    EXPECT_FALSE(server.send(part)) << "the probe has reset the connection";
    io_.restart();
    io_.poll();
  }
  EXPECT_FALSE(run.is_closed);
  server.end();
  ASSERT_TRUE(is_closed_soon(run));
  EXPECT_EQ(server.end_of_peer(), boost::asio::error::eof);
}

TEST_F(ProberTest, fault_84_large_body_is_taken_and_an_endless_one_is_cut) {
  const std::string header = "HTTP/1.1 200 OK\r\n\r\n";
  for (const std::size_t body_bytes : {kDrainedBytesMax - 4096, 32 * kDrainedBytesMax}) {
    FakeServer server(io_, {.response = header + std::string(body_bytes, 'x')});
    ProbeRequest request = http_probe(server.port());
    request.check.timeout_ms = 60'000;
    Run run;
    start(run, request);
    ASSERT_TRUE(passes(run));
    ASSERT_TRUE(is_closed_soon(run));
    ASSERT_TRUE(test::becomes_true(io_, [&] { return server.answer_end().has_value(); }));
    EXPECT_EQ(!*server.answer_end(), body_bytes <= kDrainedBytesMax);
  }
}

TEST_F(ProberTest, fault_84_target_that_never_closes_is_left_at_the_timeout_without_a_reset) {
  FakeServer server(io_, {.response = kOkWithBody, .closes = false});
  Run run;
  start(run, http_probe(server.port()));
  ASSERT_TRUE(passes(run));
  EXPECT_FALSE(run.is_closed);
  ASSERT_TRUE(is_closed_soon(run));
  EXPECT_EQ(server.end_of_peer(), boost::asio::error::eof);
}

TEST_F(ProberTest, fault_84_target_that_speaks_first_gets_rid_of_its_greeting) {
  FakeServer server(io_, {.response = "220 ready\r\n", .reads_request = false, .closes = false});
  ProbeRequest request = tcp_probe(server.port());
  request.check.timeout_ms = 60'000;
  Run run;
  start(run, request);
  ASSERT_TRUE(passes(run));
  ASSERT_TRUE(test::becomes_true(io_, [&] { return server.peer_has_closed(); }));
  for (const char* part : {"421 you said ", "nothing\r\n"}) {
    EXPECT_EQ(server.end_of_peer(), boost::asio::error::eof);
    EXPECT_FALSE(server.send(part)) << "the probe has reset the connection";
    io_.restart();
    io_.poll();
  }
  server.end();
  EXPECT_TRUE(is_closed_soon(run));
}

TEST_F(ProberTest, fault_84_answer_of_a_target_that_does_not_read_the_question_counts) {
  EXPECT_EQ(http_outcome_of({.response = kOkWithBody, .reads_request = false}).verdict,
            ProbeVerdict::passed);
  // As scripts behind inetd do it.
  EXPECT_EQ(
      http_outcome_of({.response = "HTTP/1.1 503 No\n\n", .reads_request = false}).status_code,
      503);
}

TEST_F(ProberTest, probe_that_is_destroyed_while_it_closes_is_closed_at_once) {
  FakeServer server(io_, {.response = kOkWithBody, .closes = false});
  Run run;
  start(run, http_probe(server.port()));
  ASSERT_TRUE(passes(run));
  run.probe.reset();
  EXPECT_TRUE(server.peer_has_closed());
  EXPECT_FALSE(test::becomes_true(
      io_, [&] { return run.is_closed; }, std::chrono::milliseconds(500)));
}

// The process's exit status and what it wrote to `out`.
struct CurlResult {
  int status = 0;
  std::string code;
};

CurlResult ask_with_curl(boost::asio::io_context& io, std::uint16_t port) {
  const test::TempDir dir;
  const std::string out = dir.file("code");
  const std::string command = std::string("exec ") + MILLRACE_CURL +
                              " --disable --silent --output /dev/null --write-out '%{http_code}' "
                              "--max-time 20 http://127.0.0.1:" +
                              std::to_string(port) + "/ >" + out;
  const pid_t child = fork();
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    _exit(127);
  }
  int status = 0;
  bool has_ended = false;
  for (int turn = 0; turn < 3000 && !has_ended; ++turn) {
    io.restart();
    (void)io.run_for(std::chrono::milliseconds(10));  // how many handlers ran is of no interest
    has_ended = waitpid(child, &status, WNOHANG) == child;
  }
  EXPECT_TRUE(has_ended);
  CurlResult result{.status = status, .code = ""};
  std::ifstream(out) >> result.code;
  return result;
}

TEST_F(ProberTest, fault_84_answers_are_judged_as_curl_does) {
  if (std::string(MILLRACE_CURL).empty()) GTEST_SKIP() << "curl is not installed";
  for (const test::SampleAnswer& sample : test::sample_answers()) {
    const FakeServer::Behaviour behaviour{.response = sample.bytes};
    FakeServer server(io_, behaviour);
    const CurlResult curl = ask_with_curl(io_, server.port());
    const ProbeOutcome outcome = http_outcome_of(behaviour);
    if (sample.is_body_broken) {
      EXPECT_NE(curl.status, 0) << sample.name;
    } else if (sample.status_code == 0) {
      EXPECT_NE(curl.status, 0) << sample.name;
      EXPECT_EQ(outcome.verdict, ProbeVerdict::failed) << sample.name;
      EXPECT_NE(outcome.detail, "") << sample.name;
      continue;
    } else {
      EXPECT_EQ(curl.status, 0) << sample.name;
    }
    EXPECT_EQ(curl.code, std::to_string(sample.status_code)) << sample.name;
    const bool is_good = sample.status_code >= 200 && sample.status_code < 400;
    EXPECT_EQ(outcome.verdict, is_good ? ProbeVerdict::passed : ProbeVerdict::code_mismatch)
        << sample.name << ": " << outcome.detail;
    EXPECT_EQ(outcome.status_code, is_good ? 0 : sample.status_code) << sample.name;
  }
}

TEST_F(ProberTest, cancelled_probe_closes_its_connection_and_never_calls) {
  FakeServer server(io_, {.response = "", .closes = false});
  bool was_called = false;
  auto held = start_probe(io_, http_probe(server.port()),
                          {.on_outcome = [&](const ProbeOutcome&) { was_called = true; },
                           .on_closed = [&] { was_called = true; }});
  ASSERT_TRUE(test::becomes_true(io_, [&] { return !server.last_request().empty(); }));
  held.reset();
  EXPECT_TRUE(server.peer_has_closed());
  EXPECT_FALSE(test::becomes_true(
      io_, [&] { return was_called; }, std::chrono::milliseconds(500)));
}

// What keeps probes away is told apart by whom else it keeps away: the traffic for the target,
// which the engine forwards, or this process alone.
TEST_F(ProberTest, what_the_way_refuses_is_a_failure_and_no_fault_of_this_node) {
  if (const std::string why = test::why_no_namespaces(); !why.empty()) GTEST_SKIP() << why;
  const test::OwnNamespace node;
  const test::Host router;
  node.run(
      "ip link set lo up\n"
      "ip link add eth0 type veth peer name eth1 netns /proc/" +
      std::to_string(router.pid()) +
      "/ns/net\n"
      "ip link set eth0 up\n"
      "ip address add 10.0.1.1/24 dev eth0\n"
      "ip address add fd00:1::1/64 dev eth0 nodad\n"
      "ip route add 10.0.2.0/24 via 10.0.1.2\n"
      "ip route add prohibit 10.0.3.0/24\n"
      "ip route add unreachable 10.0.4.0/24\n"
      "ip route add blackhole 10.0.5.0/24\n"
      "ip -6 route add fd00:2::/64 via fd00:1::2\n"
      "ip -6 route add prohibit fd00:3::/64\n"
      "ip -6 route add unreachable fd00:4::/64\n"
      "ip -6 route add blackhole fd00:5::/64\n");
  router.run(
      "echo 1 >/proc/sys/net/ipv4/ip_forward\n"
      "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding\n"
      "ip link set eth1 up\n"
      "ip address add 10.0.1.2/24 dev eth1\n"
      "ip address add fd00:1::2/64 dev eth1 nodad\n"
      "ip route add prohibit 10.0.2.0/24\n"
      "ip -6 route add prohibit fd00:2::/64\n");
  const std::string prohibited = "prohibited by a firewall on the way or by a route of this node";
  const std::pair<const char*, std::string> kRefusals[] = {
      {"10.0.2.9", "No route to host"},
      {"fd00:2::9", prohibited},
      {"10.0.3.9", prohibited},
      {"fd00:3::9", prohibited},
      {"10.0.4.9", "No route to host"},
      {"fd00:4::9", "No route to host"},
      {"10.0.5.9", "this node's route to the target is a blackhole"},
      {"fd00:5::9", "this node's route to the target is a blackhole"},
      {"10.0.6.9", "Network is unreachable"},
      {"fd00:6::9", "Network is unreachable"},
  };
  for (const auto& [address, detail] : kRefusals) {
    ProbeRequest request = tcp_probe(80);
    request.address = ip(address);
    request.check.timeout_ms = 4000;
    const ProbeOutcome outcome = probe(request);
    EXPECT_EQ(outcome.verdict, ProbeVerdict::failed) << address;
    EXPECT_EQ(outcome.detail, detail) << address;
  }
  // Without a local port this process can ask nobody, but the node forwards.
  node.run("echo 40000 40000 >/proc/sys/net/ipv4/ip_local_port_range");
  ProbeRequest request = tcp_probe(80);
  request.address = ip("10.0.1.9");  // nobody has it
  request.check.timeout_ms = 60'000;
  Run first;
  start(first, request);
  const ProbeOutcome second = probe(request);
  EXPECT_EQ(second.verdict, ProbeVerdict::local_fault);
  EXPECT_EQ(second.detail, "no local port is left for a connection to the target");
  EXPECT_FALSE(first.outcome);
}

// connect() has one error for both. The route is there, but no address is, as with IPv6 switched
// off or an address that somebody removed.
TEST_F(ProberTest, want_of_an_address_and_want_of_a_port_are_told_apart) {
  if (const std::string why = test::why_no_namespaces(); !why.empty()) GTEST_SKIP() << why;
  const test::OwnNamespace node;
  node.run(
      "ip link set lo up\n"
      "ip -6 address delete ::1/128 dev lo\n"
      "ip link add eth0 type veth peer name eth1\n"
      "ip link set eth0 addrgenmode none\n"
      "ip link set eth1 addrgenmode none\n"
      "ip link set eth0 up\n"
      "ip link set eth1 up\n"
      "ip -6 route add fd00:7::/64 dev eth0\n"
      "echo 40000 40000 >/proc/sys/net/ipv4/ip_local_port_range");
  ProbeRequest request = tcp_probe(80);
  request.check.timeout_ms = 60'000;
  request.address = ip("fd00:7::9");
  const ProbeOutcome without_address = probe(request);
  EXPECT_EQ(without_address.verdict, ProbeVerdict::local_fault);
  EXPECT_THAT(without_address.detail, HasSubstr("no address to reach the target from"));

  node.run("ip -6 address add fd00:7::1/64 dev eth0 nodad");
  Run first;
  start(first, request);
  const ProbeOutcome without_port = probe(request);
  EXPECT_EQ(without_port.verdict, ProbeVerdict::local_fault);
  EXPECT_THAT(without_port.detail, HasSubstr("no local port is left"));
  EXPECT_FALSE(first.outcome);
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
