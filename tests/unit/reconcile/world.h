// SPDX-License-Identifier: Apache-2.0
//
// A Reconciler with everything around it under the test's control: the fake node, a config file,
// an engine.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "controlplane/config/file_watch.h"
#include "controlplane/config/load.h"
#include "controlplane/reconcile/reconciler.h"
#include "controlplane/store/state_store.h"
#include "tests/support/cc/address.h"
#include "tests/support/cc/fake_node.h"
#include "tests/support/cc/temp_dir.h"
#include "tests/unit/reconcile/fake_engine.h"

namespace millrace::test {

using control::IpAddress;
using control::NextHopInfo;
using control::Reconciler;
using control::TargetKey;

inline const std::vector<std::string> kThree = {"10.0.1.11", "10.0.1.12", "10.0.1.13"};

inline control::Config config_of(const std::string& yaml) {
  control::LoadResult loaded = control::load_config(yaml, "test.yaml");
  if (const auto* errors = std::get_if<std::vector<control::ConfigError>>(&loaded)) {
    for (const control::ConfigError& error : *errors) ADD_FAILURE() << to_string(error);
    return {};
  }
  return std::get<control::Config>(std::move(loaded));
}

// One TCP listener on 203.0.113.10:80, group "web" with these targets on port 8080.
inline control::Config web_config(const std::vector<std::string>& targets) {
  std::string yaml = R"(
node: {name: lb-1, zone: a}
load_balancers:
  - name: web
    type: network
    addresses: [203.0.113.10]
    listeners:
      - {protocol: TCP, port: 80, default_target_group: web}
target_groups:
  - name: web
    protocol: TCP
    port: 8080
    attributes: {deregistration_delay.timeout_seconds: 300}
    targets:
)";
  if (targets.empty()) yaml.insert(yaml.size() - 1, " []");
  for (const std::string& target : targets) yaml += "      - {id: " + target + "}\n";
  return config_of(yaml);
}

class World : public FakeNode {
 public:
  // Starts a control plane; one that runs already is ended first, like by a kill.
  Reconciler& start() { return start(file_watch_); }
  Reconciler& start(control::ConfigSource& source) {
    reconciler_.reset();
    is_woken = false;
    Result<control::StateStore> store = control::StateStore::open(dir_.file("state.db"));
    EXPECT_TRUE(store) << store.error().message;
    Result<std::unique_ptr<Reconciler>> opened = Reconciler::open(
        {.runtime_dir = dir_.path(),
         .segment_bytes = segment_bytes,
         .version = "test",
         .start_ns = 1},
        std::make_unique<control::StateStore>(std::move(*store)),
        {.clock = *this, .host = *this, .health = *this, .routes = *this, .source = source});
    EXPECT_TRUE(opened) << opened.error().message;
    reconciler_ = std::move(*opened);
    return *reconciler_;
  }
  void kill() { reconciler_.reset(); }
  Reconciler& operator*() { return *reconciler_; }
  Reconciler* operator->() { return reconciler_.get(); }

  // Time passes; the control plane ticks at its end, and the engine, if any, beats.
  void pass(std::uint64_t seconds) {
    now_ns += seconds * kSecondNs;
    realtime_ns += seconds * kSecondNs;
    if (engine_) engine_->beat(now_ns);
    if (reconciler_) reconciler_->tick();
  }
  // The same, with the ticks in between.
  void tick_for(std::uint64_t seconds) {
    for (std::uint64_t i = 0; i < 10 * seconds; ++i) {
      now_ns += kSecondNs / 10;
      realtime_ns += kSecondNs / 10;
      if (engine_) engine_->beat(now_ns);
      reconciler_->tick();
    }
  }
  void set_health(const std::string& address, control::TargetState state) {
    control::TargetHealth health{.state = state, .reason = {}, .description = "as the test says"};
    reconciler_->on_health(key(address), health);
    settle_if_woken();
  }
  void settle_if_woken() {
    if (!is_woken) return;
    is_woken = false;
    reconciler_->settle();
  }
  void start_engine(mr_engine_kind kind = MR_ENGINE_DPDK) {
    engine_.reset();
    engine_.emplace(dir_.path(), ++engine_start_ns_, kind);
    engine_->beat(now_ns);
  }
  void kill_engine() { engine_.reset(); }
  FakeEngine& engine() { return *engine_; }

  // The kernel now knows this target's neighbour.
  void resolve(const std::string& address, std::uint8_t last_mac_byte, std::uint16_t mtu = 1500) {
    next_hops[ip(address)] = {.twin_index = FakeEngine::kTwinIndex,
                              .mac = {2, 0, 0, 0, 0, last_mac_byte},
                              .resolved = true,
                              .mtu = mtu,
                              .source = std::nullopt,
                              .text = "resolved"};
  }
  // And would send to it from `source`.
  void set_source(const std::string& address, const std::string& source) {
    next_hops[ip(address)].source = ip(source);
  }
  void set_unresolved(const std::string& address, const std::string& why) {
    next_hops[ip(address)] = {};
    next_hops[ip(address)].text = why;
  }
  void forget_next_hops() { next_hops.clear(); }

  static TargetKey key(const std::string& address) {
    return {.group = "web", .address = ip(address), .port = 8080};
  }
  control::TargetSnapshot target(const std::string& address) const {
    for (const auto& group : reconciler_->snapshot().target_groups) {
      for (const auto& target : group.targets) {
        if (target.key == key(address)) return target;
      }
    }
    return {};
  }
  bool has_target(const std::string& address) const { return target(address).id != 0; }
  std::optional<mr_target> published_target(const std::string& address) const {
    for (const mr_target& target : reconciler_->published().targets) {
      if (target.id != 0 && IpAddress{target.addr} == ip(address)) return target;
    }
    return std::nullopt;
  }
  const test::TempDir& dir() const { return dir_; }
  const std::string& config_file() const { return config_file_; }
  // As an editor does, so that it is another file.
  void write_config_file(const std::string& text) {
    std::ofstream(dir_.file("new")) << text;
    ASSERT_EQ(std::rename(dir_.file("new").c_str(), config_file_.c_str()), 0);
  }

  std::uint64_t segment_bytes = 8 << 20;

 private:
  test::TempDir dir_;
  std::string config_file_ = dir_.file("millrace.yaml");
  control::ConfigFileWatch file_watch_{config_file_};
  std::uint64_t engine_start_ns_ = 100;
  std::optional<FakeEngine> engine_;
  std::unique_ptr<Reconciler> reconciler_;
};

}  // namespace millrace::test
