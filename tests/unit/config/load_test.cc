// SPDX-License-Identifier: Apache-2.0
//
// Good files: what a config means, defaults included.
#include "controlplane/config/load.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "tests/support/cc/temp_dir.h"
#include "tests/unit/config/load_support.h"

namespace millrace::control {
namespace {

TEST(LoadTest, minimal_file_gets_the_defaults_of_the_elbv2_api) {
  const Config config = load_good(kSmallConfig);
  EXPECT_EQ(config.node.name, "millrace");
  ASSERT_EQ(config.load_balancers.size(), 1u);
  const LoadBalancer& balancer = config.load_balancers[0];
  EXPECT_EQ(balancer.name, "web");
  ASSERT_EQ(balancer.addresses.size(), 1u);
  EXPECT_EQ(balancer.addresses[0].to_string(), "203.0.113.10");
  EXPECT_EQ(balancer.echo, Echo::always);
  EXPECT_EQ(balancer.no_listener, NoListener::drop);
  ASSERT_EQ(balancer.listeners.size(), 1u);
  EXPECT_EQ(balancer.listeners[0].protocol, Protocol::tcp);
  EXPECT_EQ(balancer.listeners[0].ports, PortRange::one(80));
  EXPECT_EQ(balancer.listeners[0].default_target_group_v4, "web-80");
  EXPECT_EQ(balancer.listeners[0].default_target_group_v6, "");
  EXPECT_EQ(balancer.listeners[0].tcp_idle_timeout_seconds, 350u);

  ASSERT_EQ(config.target_groups.size(), 1u);
  const TargetGroup& group = config.target_groups[0];
  EXPECT_EQ(group.forwarding, Forwarding::nat);
  EXPECT_EQ(group.deregistration_delay_seconds, 300u);
  EXPECT_FALSE(group.deregistration_connection_termination);
  EXPECT_TRUE(group.unhealthy_connection_termination);
  EXPECT_EQ(group.lookup_slots, 65537u);
  EXPECT_EQ(group.health_check, HealthCheck{});
  ASSERT_EQ(group.targets.size(), 1u);
  EXPECT_EQ(group.targets[0].port, 8080);
  EXPECT_EQ(group.targets[0].weight, 100u);
}

TEST(LoadTest, udp_groups_have_their_own_defaults) {
  const Config config = load_good(R"(
load_balancers: []
target_groups: [{name: dns, protocol: UDP, port: 53}]
)");
  EXPECT_TRUE(config.target_groups[0].deregistration_connection_termination);
  EXPECT_FALSE(config.target_groups[0].unhealthy_connection_termination);
}

TEST(LoadTest, http_health_check_reads_all_its_keys) {
  const Config config = load_good(R"(
load_balancers: []
target_groups:
  - name: web
    protocol: TCP
    port: 80
    health_check: {protocol: HTTP, port: 8081, path: "/a?b=c", interval_seconds: 10,
                   timeout_seconds: 3, healthy_threshold: 3, unhealthy_threshold: 4,
                   matcher: "200,301-302"}
)");
  const HealthCheck& check = config.target_groups[0].health_check;
  EXPECT_EQ(check.protocol, HealthCheckProtocol::http);
  EXPECT_EQ(check.port, std::optional<std::uint16_t>(8081));
  EXPECT_EQ(check.path, "/a?b=c");
  EXPECT_EQ(check.interval_ms, 10000u);
  EXPECT_EQ(check.timeout_ms, 3000u);
  EXPECT_EQ(check.healthy_threshold, 3u);
  EXPECT_EQ(check.unhealthy_threshold, 4u);
  const decltype(check.matcher) wanted = {{200, 200}, {301, 302}};
  EXPECT_EQ(check.matcher, wanted);
}

TEST(LoadTest, health_check_timeout_default_follows_protocol_and_interval) {
  const auto timeout_of = [](const std::string& health_check) {
    return load_good("load_balancers: []\ntarget_groups: [{name: web, protocol: TCP, port: 80, " +
                     health_check + "}]")
        .target_groups[0]
        .health_check.timeout_ms;
  };
  EXPECT_EQ(timeout_of("health_check: {protocol: TCP}"), 10000u);
  EXPECT_EQ(timeout_of("health_check: {protocol: HTTP}"), 6000u);
  EXPECT_EQ(timeout_of("health_check: {protocol: HTTP, interval_seconds: 5}"), 5000u);
  EXPECT_EQ(timeout_of("attributes: {millrace.health_check.interval_milliseconds: 200}"), 200u);
  EXPECT_EQ(timeout_of("attributes: {millrace.health_check.timeout_milliseconds: 50}"), 50u);
}

TEST(LoadTest, group_that_encapsulates_serves_vips_of_both_families) {
  for (const char* forwarding : {"ipip", "gue"}) {
    for (const char* target : {"10.0.0.1", "fd00::1"}) {
      const Config config = load_good(
          std::string("load_balancers:\n- name: web\n"
                      "  addresses: [203.0.113.10, \"2001:db8::10\"]\n"
                      "  listeners: [{protocol: TCP, port: 80, default_target_group: web}]\n"
                      "target_groups: [{name: web, protocol: TCP, port: 80, attributes: "
                      "{millrace.forwarding: ") +
          forwarding + "}, targets: [{id: \"" + target + "\"}]}]\n");
      const Listener& listener = config.load_balancers[0].listeners[0];
      EXPECT_EQ(listener.default_target_group_v4, "web");
      EXPECT_EQ(listener.default_target_group_v6, "web");
    }
  }
}

TEST(LoadTest, listener_names_a_group_per_address_family) {
  const Config config = load_good(R"(
load_balancers:
  - name: web
    addresses: [203.0.113.10, "2001:db8::10"]
    listeners:
      - {protocol: TCP, port: 80, default_target_groups: {ipv4: web-4, ipv6: web-6}}
      - {protocol: UDP, port: 80, default_target_group: empty}
target_groups:
  - {name: web-4, protocol: TCP, port: 80, targets: [{id: 10.0.0.1}]}
  - {name: web-6, protocol: TCP, port: 80, targets: [{id: "fd00::1"}]}
  - {name: empty, protocol: UDP, port: 80}
)");
  const auto& listeners = config.load_balancers[0].listeners;
  EXPECT_EQ(listeners[0].default_target_group_v4, "web-4");
  EXPECT_EQ(listeners[0].default_target_group_v6, "web-6");
  EXPECT_EQ(listeners[1].default_target_group_v4, "empty");
  EXPECT_EQ(listeners[1].default_target_group_v6, "empty");
}

TEST(LoadTest, several_listeners_of_one_load_balancer_may_share_a_group) {
  const Config config = load_good(R"(
load_balancers:
  - name: web
    addresses: [203.0.113.10]
    listeners:
      - {protocol: TCP, port: 80, default_target_group: web}
      - {protocol: TCP, port: 81, default_target_group: web}
target_groups: [{name: web, protocol: TCP, port: 80}]
)");
  EXPECT_EQ(config.load_balancers[0].listeners.size(), 2u);
}

TEST(LoadTest, listeners_of_several_load_balancers_may_share_a_group) {
  const Config config = load_good(R"(
load_balancers:
  - name: web
    addresses: [203.0.113.10]
    listeners: [{protocol: TCP, port: 80, default_target_group: web}]
  - name: other
    addresses: [203.0.113.11]
    listeners: [{protocol: TCP, port: 80, default_target_group: web}]
target_groups: [{name: web, protocol: TCP, port: 80}]
)");
  EXPECT_EQ(config.load_balancers[1].listeners[0].default_target_group_v4, "web");
}

TEST(LoadTest, group_of_both_protocols_takes_listeners_of_any) {
  const Config config = load_good(R"(
load_balancers:
  - name: dns
    addresses: [203.0.113.10]
    listeners:
      - {protocol: TCP_UDP, port: 53, default_target_group: dns,
         attributes: {tcp.idle_timeout.seconds: 60}}
      - {protocol: TCP, port: 54, default_target_group: dns}
      - {protocol: UDP, port: 54, default_target_group: dns}
target_groups: [{name: dns, protocol: TCP_UDP, port: 53}]
)");
  EXPECT_EQ(config.load_balancers[0].listeners[0].protocol, Protocol::tcp_udp);
  EXPECT_EQ(config.load_balancers[0].listeners[0].tcp_idle_timeout_seconds, 60u);
  EXPECT_EQ(config.target_groups[0].protocol, Protocol::tcp_udp);
  EXPECT_TRUE(config.target_groups[0].deregistration_connection_termination);
  EXPECT_FALSE(config.target_groups[0].unhealthy_connection_termination);
}

// Replies that no flow is known of have a protocol, and by it a listener.
TEST(LoadTest, asymmetric_group_may_have_a_listener_for_each_protocol) {
  const Config config = load_good(R"(
load_balancers:
  - name: dns
    addresses: [203.0.113.10]
    listeners: [{protocol: TCP_UDP, port: 53, default_target_group: dns}]
target_groups:
  - {name: dns, protocol: TCP_UDP, port: 53,
     attributes: {millrace.asymmetric_returns.enabled: true}}
)");
  EXPECT_TRUE(config.target_groups[0].asymmetric_returns);
}

TEST(LoadTest, listener_has_one_port_several_or_any) {
  const Config config = load_good(
      "load_balancers:\n- name: web\n  addresses: [203.0.113.10]\n  listeners:\n"
      "  - {protocol: TCP, port: 80, default_target_group: tcp}\n"
      "  - {protocol: TCP, port: 79-2000, default_target_group: tcp}\n"
      "  - {protocol: TCP, port: any, default_target_group: dsr}\n"
      "  - {protocol: TCP, port: 5000, default_target_group: dsr}\n"
      "target_groups:\n- {name: tcp, protocol: TCP, port: 8080, targets: [{id: 10.0.0.1}]}\n"
      "- name: dsr\n  protocol: TCP\n  port: any\n  attributes: {millrace.forwarding: dsr}\n"
      "  health_check: {port: 81}\n  targets: [{id: 10.0.0.2}]\n");
  const auto& listeners = config.load_balancers[0].listeners;
  EXPECT_EQ(listeners[0].ports, PortRange::one(80));
  EXPECT_EQ(listeners[1].ports, (PortRange{.first = 79, .last = 2000}));
  EXPECT_TRUE(listeners[2].ports.is_any());
  EXPECT_EQ(listeners[2].ports.to_string(), "any");
  EXPECT_EQ(listeners[1].ports.to_string(), "79-2000");
  EXPECT_EQ(config.target_groups[1].targets[0].port, 0);
}

TEST(LoadTest, network_among_the_addresses_is_a_vip_for_each_of_its_addresses) {
  const auto addresses_of = [](const std::string& list) {
    const Config config =
        load_good("load_balancers:\n- {name: web, addresses: [" + list + "]}\ntarget_groups: []\n");
    std::vector<std::string> texts;
    for (const IpAddress& vip : config.load_balancers[0].addresses) {
      texts.push_back(vip.to_string());
    }
    return texts;
  };
  EXPECT_EQ(addresses_of("203.0.113.252/30, 203.0.113.1"),
            (std::vector<std::string>{"203.0.113.252", "203.0.113.253", "203.0.113.254",
                                      "203.0.113.255", "203.0.113.1"}));
  EXPECT_EQ(addresses_of("\"2001:db8::fe/127\""),
            (std::vector<std::string>{"2001:db8::fe", "2001:db8::ff"}));
  EXPECT_EQ(addresses_of("203.0.113.7/32"), std::vector<std::string>{"203.0.113.7"});
  EXPECT_EQ(addresses_of("203.0.113.0/24").size(), 256u);
}

TEST(LoadTest, merge_keys_fill_in_what_a_map_does_not_say_itself) {
  const Config config = load_good(R"(
load_balancers: []
target_groups:
  - &base {name: base, protocol: TCP, port: 80, targets: [{id: 10.0.0.1}]}
  - <<: *base
    name: first
    port: 81
  - {name: second, <<: [{port: 82, protocol: UDP}, *base]}
)");
  EXPECT_EQ(config.target_groups[1].name, "first");
  EXPECT_EQ(config.target_groups[1].port, 81);
  EXPECT_EQ(config.target_groups[1].targets.size(), 1u);
  EXPECT_EQ(config.target_groups[2].port, 82);
  EXPECT_EQ(config.target_groups[2].protocol, Protocol::udp);
}

TEST(LoadTest, cluster_keys_are_hexadecimal) {
  const Config config = load_good(R"(
node: {name: lb-1, zone: a, selection_key: "0123456789abcdeffedcba9876543210",
       lookup_seed: "00000000000000Ff"}
load_balancers: []
)");
  EXPECT_EQ(config.node.selection_key[0], 0x0123456789abcdefULL);
  EXPECT_EQ(config.node.selection_key[1], 0xfedcba9876543210ULL);
  EXPECT_EQ(config.node.lookup_seed, 0xffu);
}

TEST(LoadTest, source_of_encapsulated_packets_may_be_a_network) {
  const Config config = load_good(R"(
node: {encap_source: [172.16.0.0/16, "100::/64"]}
load_balancers: []
)");
  const EncapSource& v4 = *config.node.encap_source_v4;
  EXPECT_EQ(v4.to_string(), "172.16.0.0/16");
  EXPECT_EQ(IpAddress{v4.published().addr}, *IpAddress::parse("172.16.0.0"));
  EXPECT_EQ(v4.published().spread_be, htonl(0xffff));
  EXPECT_TRUE(v4.contains(*IpAddress::parse("172.16.255.1")));
  EXPECT_FALSE(v4.contains(*IpAddress::parse("172.17.0.0")));
  const EncapSource& v6 = *config.node.encap_source_v6;
  EXPECT_EQ(v6.to_string(), "100::/64");
  EXPECT_EQ(v6.published().spread_be, 0xffffffff);
  EXPECT_TRUE(v6.contains(*IpAddress::parse("100::ffff:1")));
  EXPECT_FALSE(v6.contains(*IpAddress::parse("100::1:0:0"))) << "only the last four bytes differ";
}

TEST(LoadTest, encapsulation_names_its_port_and_sources) {
  const Config config = load_good(R"(
node: {encap_source: ["2001:db8::1", 192.0.2.1]}
load_balancers: []
target_groups:
  - {name: a, protocol: TCP, port: 80, attributes: {millrace.forwarding: ipip}}
  - {name: b, protocol: UDP, port: 53, attributes: {millrace.forwarding: gue}}
  - {name: c, protocol: UDP, port: 53,
     attributes: {millrace.gue.port: 6081, millrace.forwarding: gue}}
)");
  EXPECT_EQ(config.node.encap_source_v4->to_string(), "192.0.2.1");
  EXPECT_EQ(config.node.encap_source_v6->to_string(), "2001:db8::1");
  EXPECT_FALSE(config.node.encap_source_v4->is_network());
  EXPECT_EQ(config.target_groups[0].forwarding, Forwarding::ipip);
  EXPECT_EQ(config.target_groups[1].forwarding, Forwarding::gue);
  EXPECT_EQ(config.target_groups[1].gue_port, 6080);
  EXPECT_EQ(config.target_groups[2].gue_port, 6081);
}

TEST(LoadTest, engine_is_dpdk_unless_the_node_says_otherwise) {
  EXPECT_EQ(load_good(kSmallConfig).node.engine, EngineKind::dpdk);
  EXPECT_EQ(load_good("node: {engine: xdp}\nload_balancers: []").node.engine, EngineKind::xdp);
}

TEST(LoadTest, engine_is_read_from_a_file_of_which_the_rest_is_wrong) {
  EXPECT_EQ(load_engine_kind("node: {engine: xdp, nmae: x}\nload_balancers: 7"), EngineKind::xdp);
  EXPECT_EQ(load_engine_kind("load_balancers: []"), EngineKind::dpdk);
  EXPECT_EQ(load_engine_kind("load_balancers: 7"), std::nullopt) << "what names it may be missing";
  EXPECT_EQ(load_engine_kind("node: {engine: vpp}"), std::nullopt);
  EXPECT_EQ(load_engine_kind("node: {engine: xdp"), std::nullopt);
}

TEST(LoadTest, attributes_that_cannot_vary_may_be_named) {
  const Config config = load_good(R"(
load_balancers: []
target_groups:
  - name: web
    protocol: TCP
    port: 80
    attributes: {preserve_client_ip.enabled: true, stickiness.enabled: "false"}
)");
  EXPECT_EQ(config.target_groups.size(), 1u);
}

TEST(LoadTest, shipped_examples_are_good) {
  for (const char* name : {"demo.yaml", "dsr.yaml", "encap.yaml", "full.yaml"}) {
    const auto loaded = load_config_file(std::string(MILLRACE_EXAMPLES) + "/" + name);
    const auto* errors = std::get_if<std::vector<ConfigError>>(&loaded);
    EXPECT_EQ(errors, nullptr) << to_string(errors->front());
  }
}

TEST(LoadTest, demo_example_has_three_targets_in_each_of_four_groups) {
  const auto loaded = load_config_file(MILLRACE_EXAMPLES "/demo.yaml");
  const auto* config = std::get_if<Config>(&loaded);
  ASSERT_NE(config, nullptr);
  ASSERT_EQ(config->target_groups.size(), 4u);
  for (const TargetGroup& group : config->target_groups) EXPECT_EQ(group.targets.size(), 3u);
}

TEST(LoadFileTest, missing_file_is_an_error_that_names_it) {
  const auto loaded = load_config_file("/nonexistent/millrace.yaml");
  const auto* errors = std::get_if<std::vector<ConfigError>>(&loaded);
  ASSERT_NE(errors, nullptr);
  ASSERT_EQ(errors->size(), 1u);
  EXPECT_EQ(to_string(errors->front()),
            "/nonexistent/millrace.yaml: cannot open the file: No such file or directory");
}

// A control plane that waited for a pipe's writer would do nothing else.
TEST(LoadFileTest, named_pipe_is_no_file_but_may_be_given_on_a_command_line) {
  const test::TempDir dir;
  const std::string path = dir.file("pipe");
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const auto loaded = load_config_file(path);
  const auto* errors = std::get_if<std::vector<ConfigError>>(&loaded);
  ASSERT_NE(errors, nullptr);
  EXPECT_EQ(errors->front().reason,
            "cannot open the file: it is a named pipe, no file; move it away");

  int ends[2] = {};
  ASSERT_EQ(::pipe(ends), 0);
  ASSERT_EQ(::write(ends[1], "text", 4), 4);
  (void)::close(ends[1]);
  const auto given = read_given_file("/dev/fd/" + std::to_string(ends[0]));
  (void)::close(ends[0]);
  ASSERT_TRUE(std::holds_alternative<std::string>(given));
  EXPECT_EQ(std::get<std::string>(given), "text");
}

TEST(LoadFileTest, directory_is_an_error) {
  const auto loaded = load_config_file("/");
  const auto* errors = std::get_if<std::vector<ConfigError>>(&loaded);
  ASSERT_NE(errors, nullptr);
  EXPECT_EQ(errors->front().reason, "cannot read the file: Is a directory");
}

}  // namespace
}  // namespace millrace::control
