// SPDX-License-Identifier: Apache-2.0
//
// The world around a Reconciler, as whoever holds this says it is: clocks, health checks, the
// kernel's routes, the rest of the process. One for all that drives a Reconciler without the real
// ones: unit tests, and benchmarks of publishing.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "controlplane/config/config_source.h"
#include "controlplane/health/health_watch.h"
#include "controlplane/net/route_watch.h"
#include "controlplane/reconcile/clock.h"
#include "controlplane/reconcile/host.h"
#include "dataplane/core/nanoseconds.h"

namespace millrace::test {

class FakeNode : public control::Clock,
                 public control::Host,
                 public control::HealthWatch,
                 public control::RouteWatch {
 public:
  std::uint64_t now_ns = 1000 * kSecondNs;
  std::uint64_t realtime_ns = 1'700'000'000 * kSecondNs;
  [[nodiscard]] control::Moment now() const override { return {now_ns, realtime_ns}; }

  bool is_woken = false;
  int progress_count = 0;  // signs of life
  std::vector<std::pair<control::LogLevel, std::string>> log_lines;
  std::vector<control::Alarm> outer_alarms;  // of the parts outside
  std::uint32_t flow_id_max = 0;
  void wake(control::Haste /*haste*/) override { is_woken = true; }
  void note_progress() override { ++progress_count; }
  void log(control::LogLevel level, const std::string& line) override {
    log_lines.emplace_back(level, line);
  }
  [[nodiscard]] std::vector<control::Alarm> alarms() const override { return outer_alarms; }
  [[nodiscard]] std::uint32_t highest_flow_id(const std::string& /*directory*/,
                                              std::uint32_t /*table_count*/) const override {
    return flow_id_max;
  }

  std::vector<control::HealthTarget> health_targets;
  std::string hold;
  std::set<control::TargetKey> held_targets;
  void set_targets(std::vector<control::HealthTarget> targets) override {
    health_targets = std::move(targets);
  }
  void set_hold(control::HealthHold now_held) override {
    hold = now_held.reason;
    held_targets = std::move(now_held.targets);
  }
  [[nodiscard]] std::chrono::nanoseconds lateness() const override { return {}; }

  std::set<std::uint32_t> twins;
  std::vector<control::IpAddress> watched;
  int plan_count = 0;  // how often everything was worked out
  std::map<control::IpAddress, control::NextHopInfo> next_hops;
  std::vector<control::IpAddress> local_addrs;
  std::vector<control::OwnAddress> addresses;
  std::optional<control::NextHopInfo> default_v4;
  std::vector<control::LocalMac> own_macs;
  std::vector<control::VlanLink> vlan_links;
  control::LinkState link;  // of the twin, as the kernel says
  void set_twins(std::set<std::uint32_t> link_indices) override { twins = std::move(link_indices); }
  void watch(std::vector<control::IpAddress> watched_now) override {
    watched = std::move(watched_now);
    ++plan_count;
  }
  [[nodiscard]] std::optional<control::NextHopInfo> find(
      const control::IpAddress& address) const override {
    const auto found = next_hops.find(address);
    if (found == next_hops.end()) return std::nullopt;
    return found->second;
  }
  [[nodiscard]] std::optional<control::NextHopInfo> default_next_hop(
      control::AddressFamily family) const override {
    return family == control::AddressFamily::ipv4 ? default_v4 : std::nullopt;
  }
  [[nodiscard]] std::vector<control::IpAddress> local_addresses() const override {
    return local_addrs;
  }
  [[nodiscard]] std::vector<control::OwnAddress> own_addresses() const override {
    return addresses;
  }
  [[nodiscard]] std::vector<control::LocalMac> local_macs() const override { return own_macs; }
  [[nodiscard]] std::vector<control::VlanLink> vlans() const override { return vlan_links; }
  [[nodiscard]] std::string interface_of(const control::IpAddress& address) const override {
    return std::ranges::count(local_addrs, address) != 0 ? "mr0" : "";
  }
  [[nodiscard]] control::LinkState link_state(std::uint32_t /*link_index*/) override {
    return link;
  }
};

// A source of config that says whatever is in force, and shows nothing.
class SilentSource : public control::ConfigSource {
 public:
  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] control::LoadResult load(
      const control::FindOwnInterface& /*own_interface*/) const override {
    return control::Config{};
  }
  [[nodiscard]] std::optional<std::string> text() const override { return std::nullopt; }
  [[nodiscard]] bool says(const std::string& /*text*/) override { return true; }
  void look(const std::string& /*in_force*/, std::uint64_t /*now_ns*/) override {}
  [[nodiscard]] const std::string& alarm() const override { return alarm_; }

 private:
  std::string name_ = "nowhere";
  std::string alarm_;
};

}  // namespace millrace::test
