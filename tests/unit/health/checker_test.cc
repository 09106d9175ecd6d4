// SPDX-License-Identifier: Apache-2.0
#include "controlplane/health/checker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <thread>

#include "controlplane/health/probe_lateness.h"
#include "tests/unit/health/fake_server.h"

namespace millrace::control {
namespace {

using std::chrono::milliseconds;
using test::becomes_true;
using test::BlackHole;
using test::ClosedPort;
using test::FakeServer;
using test::ip;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

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

// The process's limit of open files, until the end of the scope.
class OpenFilesLimit {
 public:
  explicit OpenFilesLimit(rlim_t files) {
    EXPECT_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0);
    const rlimit now{.rlim_cur = files, .rlim_max = before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &now), 0);
  }
  ~OpenFilesLimit() { EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &before_), 0); }
  OpenFilesLimit(const OpenFilesLimit&) = delete;
  OpenFilesLimit& operator=(const OpenFilesLimit&) = delete;

 private:
  rlimit before_{};
};

class CheckerTest : public ::testing::Test {
 protected:
  HealthChecker make() {
    return HealthChecker(io_, [this](const TargetKey& key, const TargetHealth& health) {
      ++changes_;
      told_[key] = health;
    });
  }
  // With room for so many probes at once.
  HealthChecker make_with_places(std::size_t places) {
    const OpenFilesLimit limit(2 * places);
    return make();
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

// A group that starts over has targets with the old keys, which nobody has told anything of.
TEST_F(CheckerTest, another_target_with_the_same_key_is_checked_anew_and_told_of) {
  FakeServer server(io_, {.response = kOk});
  HealthTarget web = target(server.port(), quick(HealthCheckProtocol::http));
  web.id = 1;
  HealthChecker checker = make();
  checker.set_targets({web});
  ASSERT_TRUE(is_told(web, TargetState::healthy));
  web.id = 2;
  checker.set_targets({web});
  EXPECT_EQ(checker.find(web.key)->state, TargetState::initial);
  told_.clear();
  EXPECT_TRUE(is_told(web, TargetState::healthy));
  EXPECT_EQ(changes_, 2);
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
  EXPECT_EQ(checker.problem(),
            "1 of 2 targets not probed: the engine is down (" + gone.key.to_string() + " for one)");
  EXPECT_TRUE(checker.is_held());
  checker.set_hold({});
  EXPECT_TRUE(is_told(gone, TargetState::unhealthy));
  EXPECT_EQ(checker.problem() + checker.lateness_problem(), "");
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
  {
    const OpenFilesLimit none(0);
    EXPECT_TRUE(becomes_true(io_, [&] { return !checker.problem().empty(); }));
    run_for(milliseconds(500));
    EXPECT_EQ(checker.problem(), "1 of 1 targets not probed: Too many open files (" +
                                     web.key.to_string() + " for one)");
    EXPECT_FALSE(checker.is_held());
    EXPECT_EQ(checker.find(web.key)->state, TargetState::healthy);
  }
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
  HealthChecker checker = make_with_places(32);

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

// Without a share of its own, a probe of the living target waited for 36 rounds of 2 s.
TEST_F(CheckerTest, fault_85_death_is_noticed_soon_beside_far_more_dead_targets_than_places) {
  constexpr std::uint16_t kDead = 600;
  const BlackHole hole(io_);
  FakeServer server(io_, {.response = kOk});
  const HealthTarget living = [&] {
    HealthTarget web = target(server.port(), quick(HealthCheckProtocol::http));
    web.restored = TargetHealth{TargetState::healthy, HealthReason::none, ""};
    return web;
  }();
  std::vector<HealthTarget> targets = {living};
  for (std::uint16_t i = 0; i < kDead; ++i) {
    HealthTarget dead = target(1000 + i, quick(HealthCheckProtocol::tcp));
    dead.check.port = hole.port();
    dead.check.interval_ms = dead.check.timeout_ms = 2000;
    dead.restored =
        TargetHealth{TargetState::unhealthy, HealthReason::timeout, "Request timed out"};
    targets.push_back(dead);
  }
  HealthChecker checker = make_with_places(16);
  checker.set_targets(targets);
  ASSERT_TRUE(becomes_true(
      io_, [&] { return !checker.lateness_problem().empty(); }, std::chrono::seconds(30)))
      << "the dead wait for each other";
  EXPECT_GT(checker.lateness(), ProbeLateness::kMax);
  EXPECT_THAT(checker.lateness_problem(), HasSubstr(" of 601 targets are probed late, "));
  EXPECT_THAT(checker.lateness_problem(), HasSubstr("raise its limit of open files"));
  const std::size_t probes = server.connections();
  ASSERT_TRUE(becomes_true(io_, [&] { return server.connections() > probes + 2; }));
  EXPECT_EQ(changes_, 0);
  server.set_behaviour({.response = kBroken});
  EXPECT_TRUE(is_told(living, TargetState::unhealthy));
}

TEST_F(CheckerTest, lateness_for_want_of_places_is_told_as_that_also_when_nobody_waits_any_more) {
  const BlackHole hole(io_);
  std::vector<HealthTarget> targets;
  for (std::uint16_t i = 0; i < 40; ++i) {
    HealthTarget dead = target(1000 + i, quick(HealthCheckProtocol::tcp));
    dead.check.port = hole.port();
    dead.check.interval_ms = dead.check.timeout_ms = 2000;
    dead.restored =
        TargetHealth{TargetState::unhealthy, HealthReason::timeout, "Request timed out"};
    targets.push_back(dead);
  }
  HealthChecker checker = make_with_places(16);
  checker.set_targets(targets);
  ASSERT_TRUE(becomes_true(
      io_, [&] { return checker.lateness_problem().starts_with("40 of 40 "); },
      std::chrono::seconds(60)));
  targets.resize(8);  // each has a place now, but the last starts were late
  checker.set_targets(targets);
  EXPECT_THAT(checker.lateness_problem(), HasSubstr("of 8 targets are probed late"));
  EXPECT_THAT(checker.lateness_problem(), HasSubstr("raise its limit of open files"));
}

TEST_F(CheckerTest, lateness_is_that_of_the_worst_and_ends) {
  FakeServer server(io_, {.response = kOk});
  HealthChecker checker = make();
  EXPECT_EQ(checker.lateness(), std::chrono::nanoseconds(0));
  checker.set_targets({target(server.port(), quick(HealthCheckProtocol::http))});
  // Nobody runs the probes, as when the process has no CPU.
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  const auto hang_until = [&](const auto& is_enough) {
    while (!is_enough() && std::chrono::steady_clock::now() < limit) std::this_thread::yield();
    EXPECT_TRUE(is_enough());
  };
  hang_until([&] { return checker.lateness() > ProbeLateness::kMax; });
  EXPECT_EQ(checker.lateness_problem(), "") << "it may be over in a moment";
  hang_until([&] { return !checker.lateness_problem().empty(); });
  EXPECT_THAT(checker.lateness_problem(), HasSubstr("does not get its CPU in time"));
  EXPECT_TRUE(becomes_true(
      io_, [&] { return checker.lateness() < ProbeLateness::kMax; }, std::chrono::seconds(30)));
  EXPECT_EQ(checker.problem() + checker.lateness_problem(), "");
}

TEST_F(CheckerTest, connections_that_close_slowly_give_way_to_probes) {
  FakeServer server(io_, {.response = kOk, .closes = false});  // each stays open for its timeout
  std::vector<HealthTarget> targets;
  for (std::uint16_t i = 0; i < 20; ++i) {
    HealthTarget next = target(1000 + i, quick(HealthCheckProtocol::http));
    next.check.port = server.port();
    next.check.interval_ms = next.check.timeout_ms = 60'000;
    targets.push_back(next);
  }
  HealthChecker checker = make_with_places(8);
  const std::size_t descriptors = open_descriptors();
  checker.set_targets(targets);
  EXPECT_TRUE(becomes_true(io_, [&] { return told_.size() == targets.size(); }));
  for (const auto& [key, health] : told_) EXPECT_EQ(health.state, TargetState::healthy);
  EXPECT_LE(open_descriptors() - descriptors - server.connections(), 8U);
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
