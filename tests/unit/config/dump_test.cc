// SPDX-License-Identifier: Apache-2.0
//
// The canonical text: a property over random configs.
#include "controlplane/config/dump.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <set>

#include "tests/support/cc/random_settings.h"
#include "tests/unit/config/load_support.h"

namespace millrace::control {
namespace {

template <typename T>
T in_range(T min, T max) {  // inclusive
  return static_cast<T>(*rc::gen::inRange<std::int64_t>(min, std::int64_t{max} + 1));
}

template <typename T>
T one_of(std::initializer_list<T> values) {
  return *rc::gen::elementOf(std::vector<T>(values));
}

bool flip() { return *rc::gen::arbitrary<bool>(); }

// Names that YAML would take for something else are among them.
std::string random_name(std::set<std::string>& used) {
  const std::string stem = one_of<std::string>(
      {"null", "true", "no", "y", "123", "1e3", "0x1f", "web", "a-b", "inf", "Z9"});
  for (int i = 0;; ++i) {
    std::string name = i == 0 ? stem : stem + "-" + std::to_string(i);
    if (used.insert(name).second) return name;
  }
}

IpAddress nth_address(bool v4, std::uint32_t n) {
  const std::string low = std::to_string(n % 250 + 1);
  const std::string mid = std::to_string(n / 250 % 250);
  return *IpAddress::parse(v4 ? "10.1." + mid + "." + low : "2001:db8:" + mid + "::" + low);
}

// `ports`: of the listener, if there is one. But with nat a port is any or that of the listener.
TargetGroup random_group(std::set<std::string>& names, bool v4, Protocol protocol,
                         const std::optional<PortRange>& ports, std::uint32_t& next_address) {
  TargetGroup group = test::random_settings(protocol);
  group.name = random_name(names);
  if (ports && !ports->is_one()) group.asymmetric_returns = false;
  const bool must_keep = keeps_port(group.forwarding) && ports;
  const bool may_be_any = !group.asymmetric_returns;
  const std::uint16_t kept = must_keep && ports->is_one() ? ports->first : std::uint16_t{0};
  const auto random_port = [&] {
    if (may_be_any && flip() && flip()) return std::uint16_t{0};
    return must_keep ? kept : in_range<std::uint16_t>(1, 65535);
  };
  group.port = random_port();
  group.health_check.port = in_range<std::uint16_t>(1, 65535);
  for (std::uint32_t i = in_range<std::uint32_t>(0, 3); i > 0; --i) {
    Target target;
    target.address = nth_address(v4, next_address++);
    target.port = random_port();
    target.weight = in_range<std::uint32_t>(0, 999);
    target.zone = one_of<std::string>({"", "a", "null", "eu-1"});
    group.targets.push_back(target);
  }
  return group;
}

// A listener with its own group for each family that the load balancer has.
Listener random_listener(Config& config, bool has_v4, bool has_v6, std::set<std::string>& names,
                         std::uint32_t& next_address) {
  Listener listener;
  listener.protocol = one_of({Protocol::tcp, Protocol::udp, Protocol::tcp_udp});
  listener.ports = one_of({PortRange::one(in_range<std::uint16_t>(1, 65535)), PortRange::any(),
                           PortRange{.first = in_range<std::uint16_t>(1, 30000),
                                     .last = in_range<std::uint16_t>(30001, 65535)}});
  test::randomise(listener_attributes(), listener);
  const auto add_group = [&](bool v4) {
    config.target_groups.push_back(
        random_group(names, v4, listener.protocol, listener.ports, next_address));
    return config.target_groups.back().name;
  };
  if (has_v4) listener.default_target_group_v4 = add_group(true);
  if (has_v6) listener.default_target_group_v6 = add_group(false);
  return listener;
}

// Two ranges overlap, so a load balancer here has one at most.
std::uint16_t first(const PortRange& ports) {
  return ports.is_one() || ports.is_any() ? ports.first : std::uint16_t{1};
}

Config random_config() {
  Config config;
  std::set<std::string> names;
  std::uint32_t next_address = 0;
  config.node.name = random_name(names);
  config.node.zone = one_of<std::string>({"", "a", "true"});
  config.node.selection_key[0] = *rc::gen::arbitrary<std::uint64_t>();
  config.node.selection_key[1] = *rc::gen::arbitrary<std::uint64_t>();
  config.node.lookup_seed = *rc::gen::arbitrary<std::uint64_t>();
  config.node.engine = one_of({EngineKind::dpdk, EngineKind::xdp});
  for (const bool is_v4 : {true, false}) {
    auto& source = is_v4 ? config.node.encap_source_v4 : config.node.encap_source_v6;
    const std::string one = nth_address(is_v4, next_address++).to_string();
    const std::string network = is_v4 ? "172.16.0.0/16" : "100::/64";
    if (flip()) source = EncapSource::parse(flip() ? one : network);
  }
  for (std::uint32_t i = in_range<std::uint32_t>(0, 3); i > 0; --i) {
    LoadBalancer balancer;
    balancer.name = random_name(names);
    test::randomise(load_balancer_attributes(), balancer);
    const bool has_v4 = flip();
    const bool has_v6 = !has_v4 || flip();
    if (has_v4) balancer.addresses.push_back(nth_address(true, next_address++));
    if (has_v6) balancer.addresses.push_back(nth_address(false, next_address++));
    std::set<std::pair<Protocol, std::uint16_t>>
        used;  // by first port; all ranges have that of one
    for (std::uint32_t j = in_range<std::uint32_t>(0, 3); j > 0; --j) {
      const Listener listener = random_listener(config, has_v4, has_v6, names, next_address);
      const auto protocols = protocols_of(listener.protocol);
      if (std::ranges::any_of(protocols, [&](Protocol protocol) {
            return used.contains({protocol, first(listener.ports)});
          })) {
        continue;
      }
      for (const Protocol protocol : protocols) used.emplace(protocol, first(listener.ports));
      balancer.listeners.push_back(listener);
    }
    config.load_balancers.push_back(balancer);
  }
  config.target_groups.push_back(
      random_group(names, flip(), one_of({Protocol::tcp, Protocol::udp, Protocol::tcp_udp}),
                   std::nullopt, next_address));
  return config;
}

TEST(DumpTest, dumped_config_loads_as_the_same_config) {
  EXPECT_TRUE(rc::check("load(dump(config)) == config", [] {
    const Config config = random_config();
    const std::string text = dump_config(config);
    const LoadResult loaded = load_config(text, "dump");
    if (const auto* errors = std::get_if<std::vector<ConfigError>>(&loaded)) {
      RC_LOG() << text;
      RC_FAIL(to_string(errors->front()));
    }
    RC_ASSERT(std::get<Config>(loaded) == config);
    RC_ASSERT(dump_config(std::get<Config>(loaded)) == text);
  }));
}

TEST(DumpTest, shipped_examples_survive_a_round_trip) {
  for (const char* name : {"demo.yaml", "dsr.yaml", "encap.yaml", "full.yaml"}) {
    const auto loaded = load_config_file(std::string(MILLRACE_EXAMPLES) + "/" + name);
    const auto* config = std::get_if<Config>(&loaded);
    ASSERT_NE(config, nullptr) << name;
    EXPECT_EQ(load_good(dump_config(*config)), *config) << name;
  }
}

}  // namespace
}  // namespace millrace::control
