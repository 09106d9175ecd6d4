// SPDX-License-Identifier: Apache-2.0
#include "controlplane/health/checker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <map>

#include "tests/unit/health/fake_server.h"

namespace millrace::control {
namespace {

using std::chrono::milliseconds;
using test::becomes_true;
using test::BlackHole;
using test::ClosedPort;
using test::FakeServer;
using test::ip;
using ::testing::HasSubstr;

const std::string kOk = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const std::string kBroken = "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";

// Quick enough for a test; the config's smallest interval.
HealthCheck quick(HealthCheckProtocol protocol) {
  HealthCheck check;
  check.protocol = protocol;
  check.interval_ms = 100;
  check.timeout_ms = 80;
  check.healthy_threshold = 2;
  check.unhealthy_threshold = 2;
  return check;
}

HealthTarget target(std::uint16_t port, HealthCheck check, const char* address = "127.0.0.1") {
  HealthTarget wanted;
  wanted.key = {.group = "web-80", .address = ip(address), .port = port};
  wanted.check = std::move(check);
  return wanted;
}

std::size_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

class CheckerTest : public ::testing::Test {
 protected:
  HealthChecker make() {
    return HealthChecker(io_, [this](const TargetKey& key, const TargetHealth& health) {
      ++changes_;
      told_[key] = health;
    });
  }
  [[nodiscard]] bool is_told(const HealthTarget& of, TargetState state) {
    return becomes_true(io_, [&] { return told_[of.key].state == state; });
  }
  void run_for(milliseconds time) {
    EXPECT_FALSE(becomes_true(
        io_, [] { return false; }, time));
  }

  boost::asio::io_context io_;
  int changes_ = 0;
  std::map<TargetKey, TargetHealth> told_;
};

TEST_F(CheckerTest, target_goes_healthy_unhealthy_and_back_and_each_change_is_told_once) {
  FakeServer server(io_, {.response = kOk});
  const HealthTarget web = target(server.port(), quick(HealthCheckProtocol::http));
  HealthChecker checker = make();
  checker.set_targets({web});
  EXPECT_EQ(checker.find(web.key)->state, TargetState::initial);
  EXPECT_EQ(changes_, 0);
  ASSERT_TRUE(is_told(web, TargetState::healthy));
  server.set_behaviour({.response = kBroken});
  ASSERT_TRUE(is_told(web, TargetState::unhealthy));
  EXPECT_EQ(told_[web.key].description, "Health checks failed with these codes: [503]");
  EXPECT_EQ(checker.find(web.key), told_[web.key]);
  server.set_behaviour({.response = kOk});
  ASSERT_TRUE(is_told(web, TargetState::healthy));
  EXPECT_EQ(changes_, 3);
}

TEST_F(CheckerTest, equal_targets_are_not_touched_by_set_targets) {
  FakeServer server(io_, {.response = kOk});
  const HealthTarget web = target(server.port(), quick(HealthCheckProtocol::http));
  HealthChecker checker = make();
  checker.set_targets({web});
  ASSERT_TRUE(is_told(web, TargetState::healthy));
  const std::size_t before = server.connections();
  // Were each call to start anew, its first probe would be due before the next call comes.
  for (int i = 0; i < 50; ++i) {
    checker.set_targets({web});
    run_for(milliseconds(10));
  }
  EXPECT_LE(server.connections() - before, 7U);
  EXPECT_GE(server.connections() - before, 3U);
  EXPECT_EQ(changes_, 1);
}

TEST_F(CheckerTest, changed_settings_keep_the_health_and_take_effect) {
  FakeServer server(io_, {.response = kOk});
  HealthTarget web = target(server.port(), quick(HealthCheckProtocol::http));
  HealthChecker checker = make();
  checker.set_targets({web});
  ASSERT_TRUE(is_told(web, TargetState::healthy));
  web.check.path = "/other";
  checker.set_targets({web});
  EXPECT_EQ(checker.find(web.key)->state, TargetState::healthy);
  EXPECT_TRUE(becomes_true(io_, [&] { return server.last_request().starts_with("GET /other "); }));
  EXPECT_EQ(changes_, 1);
}

TEST_F(CheckerTest, removed_target_is_probed_no_more_and_forgotten) {
  FakeServer server(io_, {.response = "", .closes = false});
  HealthTarget web = target(server.port(), quick(HealthCheckProtocol::http));
  web.check.interval_ms = web.check.timeout_ms = 5000;
  HealthChecker checker = make();
  checker.set_targets({web});
  ASSERT_TRUE(becomes_true(io_, [&] { return !server.last_request().empty(); }));
  checker.set_targets({});
  EXPECT_TRUE(server.peer_has_closed());
  EXPECT_EQ(checker.find(web.key), std::nullopt);
  run_for(milliseconds(300));
  EXPECT_EQ(server.connections(), 1U);
  EXPECT_EQ(changes_, 0);
}

TEST_F(CheckerTest, restored_health_stays_until_thresholds_are_met) {
  const ClosedPort closed(io_);
  HealthTarget web = target(closed.port(), quick(HealthCheckProtocol::tcp));
  web.restored = TargetHealth{TargetState::healthy, HealthReason::none, ""};
  HealthChecker checker = make();
  checker.set_targets({web});
  EXPECT_EQ(checker.find(web.key)->state, TargetState::healthy);
  EXPECT_TRUE(is_told(web, TargetState::unhealthy));
  EXPECT_EQ(changes_, 1);
}

TEST_F(CheckerTest, port_of_the_check_is_probed_and_listener_port_is_named) {
  FakeServer server(io_, {.response = kOk});
  HealthTarget web = target(1, quick(HealthCheckProtocol::http));
  web.check.port = server.port();
  web.listener_port = 8443;
  HealthChecker checker = make();
  checker.set_targets({web});
  ASSERT_TRUE(is_told(web, TargetState::healthy));
  EXPECT_THAT(server.last_request(), HasSubstr("Host: 127.0.0.1:8443\r\n"));
}

TEST_F(CheckerTest, hold_turns_failures_into_no_evidence_and_passes_count) {
  const ClosedPort closed(io_);
  FakeServer server(io_, {.response = kOk});
  HealthTarget gone = target(closed.port(), quick(HealthCheckProtocol::tcp));
  gone.restored = TargetHealth{TargetState::healthy, HealthReason::none, ""};
  const HealthTarget web = target(server.port(), quick(HealthCheckProtocol::http));
  HealthChecker checker = make();
  checker.set_hold({.reason = "the engine is down", .targets = {}});
  checker.set_targets({gone, web});
  ASSERT_TRUE(is_told(web, TargetState::healthy));
  run_for(milliseconds(1500));
  EXPECT_EQ(checker.find(gone.key)->state, TargetState::healthy);
  EXPECT_EQ(checker.problem(), "1 of 2 targets not probed: the engine is down");
  checker.set_hold({});
  EXPECT_TRUE(is_told(gone, TargetState::unhealthy));
  EXPECT_EQ(checker.problem(), "");
}

TEST_F(CheckerTest, fault_76_hold_of_some_leaves_the_others_to_be_judged) {
  const ClosedPort closed(io_);
  const ClosedPort other(io_);
  HealthTarget held = target(closed.port(), quick(HealthCheckProtocol::tcp));
  held.restored = TargetHealth{TargetState::healthy, HealthReason::none, ""};
  HealthTarget judged = target(other.port(), quick(HealthCheckProtocol::tcp));
  judged.restored = held.restored;
  HealthChecker checker = make();
  checker.set_hold({.reason = "nic nic0 has no link", .targets = {held.key}});
  checker.set_targets({held, judged});
  EXPECT_TRUE(is_told(judged, TargetState::unhealthy));
  run_for(milliseconds(500));
  EXPECT_EQ(checker.find(held.key)->state, TargetState::healthy);
}

TEST_F(CheckerTest, running_out_of_descriptors_is_no_targets_fault) {
  FakeServer server(io_, {.response = kOk});
  HealthTarget web = target(server.port(), quick(HealthCheckProtocol::tcp));
  HealthChecker checker = make();
  checker.set_targets({web});
  ASSERT_TRUE(is_told(web, TargetState::healthy));
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  EXPECT_TRUE(becomes_true(io_, [&] { return !checker.problem().empty(); }));
  run_for(milliseconds(500));
  EXPECT_EQ(checker.problem(), "1 of 1 targets not probed: Too many open files");
  EXPECT_EQ(checker.find(web.key)->state, TargetState::healthy);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(becomes_true(io_, [&] { return checker.problem().empty(); }));
  EXPECT_EQ(changes_, 1);
}

TEST_F(CheckerTest, hundreds_of_targets_are_probed_concurrently_and_spread) {
  constexpr std::size_t kTargets = 500;
  FakeServer server(io_, {.response = "", .reads_request = false});
  std::vector<HealthTarget> targets;
  for (std::size_t i = 0; i < kTargets; ++i) {
    const std::string address =
        "127.1." + std::to_string(i / 250) + "." + std::to_string(1 + i % 250);
    HealthTarget next = target(server.port(), quick(HealthCheckProtocol::tcp), address.c_str());
    next.check.interval_ms = 2000;
    next.check.timeout_ms = 1000;
    // The server listens on one address of loopback; the others refuse, at once as well.
    next.restored = TargetHealth{TargetState::healthy, HealthReason::none, ""};
    targets.push_back(next);
  }
  std::map<std::int64_t, std::size_t> told_in;  // by tenth of a second
  HealthChecker checker(io_, [&](const TargetKey& key, const TargetHealth& health) {
    ++told_in[std::chrono::steady_clock::now().time_since_epoch() / milliseconds(100)];
    told_[key] = health;
  });
  checker.set_targets(targets);
  EXPECT_TRUE(becomes_true(
      io_, [&] { return told_.size() == kTargets; }, std::chrono::seconds(10)));
  for (const auto& [key, health] : told_) EXPECT_EQ(health.state, TargetState::unhealthy);
  for (const auto& [tenth, count] : told_in) EXPECT_LT(count, kTargets / 4);
}

TEST_F(CheckerTest, probes_beyond_the_bound_wait_their_turn) {
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few{.rlim_cur = 64, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  HealthChecker checker = make();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(checker.probes_max(), 32U);

  const BlackHole hole(io_);
  const std::size_t descriptors = open_descriptors();
  std::vector<HealthTarget> targets;
  for (int i = 0; i < 200; ++i) {
    HealthTarget next =
        target(static_cast<std::uint16_t>(1000 + i), quick(HealthCheckProtocol::tcp));
    next.check.port = hole.port();
    next.check.interval_ms = 300;
    next.check.timeout_ms = 250;
    targets.push_back(next);
  }
  checker.set_targets(targets);
  std::size_t most = 0;
  EXPECT_TRUE(becomes_true(
      io_,
      [&] {
        most = std::max(most, open_descriptors() - descriptors);
        return told_.size() == targets.size();
      },
      std::chrono::seconds(20)));
  EXPECT_LE(most, checker.probes_max());
  EXPECT_GE(most, checker.probes_max() / 2);
  for (const auto& [key, health] : told_) EXPECT_EQ(health.reason, HealthReason::timeout);
}

TEST_F(CheckerTest, callback_may_replace_the_targets) {
  FakeServer server(io_, {.response = kOk});
  const HealthTarget web = target(server.port(), quick(HealthCheckProtocol::http));
  HealthChecker* self = nullptr;
  HealthChecker checker(io_, [&](const TargetKey&, const TargetHealth&) {
    ++changes_;
    self->set_targets({});
  });
  self = &checker;
  checker.set_targets({web});
  EXPECT_TRUE(becomes_true(io_, [&] { return changes_ == 1; }));
  EXPECT_EQ(checker.find(web.key), std::nullopt);
}

TEST_F(CheckerTest, checker_that_goes_leaves_nothing_behind) {
  FakeServer server(io_, {.response = "", .closes = false});
  {
    HealthChecker checker = make();
    checker.set_targets({target(server.port(), quick(HealthCheckProtocol::http))});
    ASSERT_TRUE(becomes_true(io_, [&] { return !server.last_request().empty(); }));
  }
  EXPECT_TRUE(server.peer_has_closed());
  run_for(milliseconds(300));
  EXPECT_EQ(changes_, 0);
}

}  // namespace
}  // namespace millrace::control
