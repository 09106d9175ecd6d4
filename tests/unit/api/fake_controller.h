// SPDX-License-Identifier: Apache-2.0
//
// A Controller for tests of api/ and cli/: it remembers what was asked of it and answers from the
// Snapshot and the image that the test gives. The interface is the seam; nothing else is faked.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "controlplane/api/commands.h"
#include "controlplane/reconcile/controller.h"
#include "tests/support/cc/address.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::control {

using test::ip;

class FakeController final : public Controller {
 public:
  Result<ApplyOutcome> apply(Config config, std::string source) override {
    if (apply_error) return Error{*apply_error};
    applied.emplace_back(std::move(config), std::move(source));
    outcome.generation = applied.size();
    return outcome;
  }
  Result<ApplyOutcome> rehearse(const Config& config) override {
    if (apply_error) return Error{*apply_error};
    rehearsed.push_back(config);
    return outcome;
  }
  Result<Warnings> drain(const TargetKey& key) override {
    drained.push_back(key);
    if (drain_error) return Error{*drain_error};
    return outcome.warnings;
  }
  Result<Warnings> undrain(const TargetKey& key) override {
    undrained.push_back(key);
    return outcome.warnings;
  }
  Snapshot snapshot() const override { return state; }
  core::ConfigView published() const override { return image ? image->view() : core::ConfigView{}; }
  std::string own_interface(const IpAddress& address) const override {
    const auto found = own_interfaces.find(address);
    return found == own_interfaces.end() ? "" : found->second;
  }
  void report_config_error(std::string error) override { config_error = std::move(error); }

  Snapshot state;
  std::optional<test::Image> image;
  std::map<IpAddress, std::string> own_interfaces;
  std::optional<std::string> apply_error;
  std::optional<std::string> drain_error;
  ApplyOutcome outcome{.targets_added = 3, .warnings = {}};
  std::vector<std::pair<Config, std::string>> applied;
  std::vector<Config> rehearsed;
  std::vector<TargetKey> drained;
  std::vector<TargetKey> undrained;
  std::string config_error;
};

// What may be there and cannot be read, for the reason `why`.
inline EngineSnapshot unseen_engine(const std::string& why) {
  EngineSnapshot engine;
  engine.state = EngineState::unseen;
  engine.problem = why;
  return engine;
}

// A node with one load balancer: VIPs 203.0.113.10 and 2001:db8:113::10, TCP 80, each with two
// targets; the snapshot and the image agree in slots and ids.
struct SmallNode {
  FakeController controller;
  std::vector<ConfigError> reload_errors;  // what reading the file again comes to
  test::ImageBuilder builder;

  SmallNode() {
    add_side(ip("203.0.113.10"), "web-4", {ip("10.0.1.11"), ip("10.0.1.12")});
    add_side(ip("2001:db8:113::10"), "web-6", {ip("fd00:10:1::11"), ip("fd00:10:1::12")});
    Snapshot& state = controller.state;
    state.node = "lb-1";
    state.version = "0.1.0";
    state.generation = 1;
    state.config_source = "/etc/millrace/millrace.yaml";
    state.config_file = state.config_source;
    state.engine.state = EngineState::running;
    state.engine.kind = "dpdk";
    state.engine.adopted_generation = 1;
    publish(1);
  }

  ApiParts parts() {
    return {controller, [this]() -> std::variant<ApplyOutcome, std::vector<ConfigError>> {
              if (!reload_errors.empty()) return reload_errors;
              controller.outcome.generation = 1;
              return controller.outcome;
            }};
  }

  void publish(std::uint64_t generation) {
    std::optional<test::Image> before = std::move(controller.image);
    controller.image = builder.build(generation, before ? &*before : nullptr);
    previous_ = std::move(before);  // shares no memory, but views of it may still be held
    controller.state.generation = generation;
    controller.state.engine.adopted_generation = generation;
    take_ids();
  }

  TargetSnapshot& target(std::size_t group, std::size_t index) {
    return controller.state.target_groups[group].targets[index];
  }

 private:
  void add_side(const IpAddress& vip, const std::string& name,
                const std::vector<IpAddress>& addresses) {
    const std::uint32_t group_slot = builder.add_group({});
    TargetGroupSnapshot group;
    group.name = name;
    group.slot = group_slot;
    group.port = 8080;
    for (const IpAddress& address : addresses) {
      TargetSnapshot target;
      target.key = {name, address, 8080};
      target.weight = 100;
      target.state = TargetState::healthy;
      target.slot =
          builder.add_target({.group_slot = group_slot, .addr = address.addr, .port = 8080});
      group.targets.push_back(target);
    }
    controller.state.target_groups.push_back(group);
    controller.state.vips.push_back({.load_balancer = "web", .vip = vip});
    ListenerSnapshot listener;
    listener.load_balancer = "web";
    listener.vip = vip;
    listener.ports = PortRange::one(80);
    listener.target_group = name;
    listener.slot =
        builder.add_listener({.vip_addr = vip.addr, .port = 80, .group_slot = group_slot});
    controller.state.listeners.push_back(listener);
  }

  void take_ids() {
    const core::ConfigView& view = controller.image->view();
    for (ListenerSnapshot& listener : controller.state.listeners) {
      listener.id = view.listeners[listener.slot].id;
    }
    for (TargetGroupSnapshot& group : controller.state.target_groups) {
      group.id = view.groups[group.slot].id;
      for (TargetSnapshot& target : group.targets) target.id = view.targets[target.slot].id;
    }
  }

  std::optional<test::Image> previous_;
};

}  // namespace millrace::control
