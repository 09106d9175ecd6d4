// SPDX-License-Identifier: Apache-2.0
//
// Profiles: what the keys mean, and that every mistake is named with its place.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "bench/pktgen/profile_load.h"
#include "dataplane/core/wire.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::pktgen {
namespace {

Profile loaded(const std::string& text) {
  ProfileResult result = load_profile(text, "test.yaml");
  if (const auto* errors = std::get_if<std::vector<control::ConfigError>>(&result)) {
    for (const auto& error : *errors) ADD_FAILURE() << to_string(error);
    return {};
  }
  return std::get<Profile>(std::move(result));
}

std::string errors_of(const std::string& text) {
  const ProfileResult result = load_profile(text, "test.yaml");
  std::string all;
  if (const auto* errors = std::get_if<std::vector<control::ConfigError>>(&result)) {
    for (const auto& error : *errors) all += to_string(error) + "\n";
  }
  return all;
}

std::string with_stream(const std::string& keys) {
  return "streams:\n- {name: a, rate: max, clients: 198.18.0.0/16, destination: 203.0.113.10" +
         (keys.empty() ? "" : ", " + keys) + "}\n";
}

Stream stream(const std::string& keys) {
  const Profile profile = loaded(with_stream(keys));
  return profile.streams.empty() ? Stream{} : profile.streams[0];
}

TEST(Profile, keys_become_values) {
  const Profile profile = loaded(
      "seed: 9\nseconds: 2.5\nverify_checksums: false\nstreams:\n"
      "- name: flood\n  protocol: TCP\n  flags: S\n  measure: false\n  vlan: 12\n"
      "  source_mac: 02:0a:0b:0c:0d:0e\n  clients: 10.0.0.0/8\n  client_ports: 1024-2047\n"
      "  destination: 203.0.113.10\n  port: 443\n  size: 64\n"
      "  flows: {count: 100000000, order: zipf, zipf_exponent: 1.1}\n  rate: 2.5mpps\n");
  EXPECT_EQ(profile.name, "test");
  EXPECT_EQ(profile.seed, 9u);
  EXPECT_EQ(profile.seconds, 2.5);
  EXPECT_FALSE(profile.verifies_checksums);
  ASSERT_EQ(profile.streams.size(), 1u);
  const Stream& flood = profile.streams[0];
  EXPECT_EQ(flood.headers.protocol, Protocol::tcp);
  EXPECT_EQ(flood.headers.tcp_flags, MR_TCP_SYN);
  EXPECT_EQ(flood.headers.vlan, 12);
  EXPECT_EQ(flood.headers.source_mac, (Mac{2, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e}));
  EXPECT_EQ(core::v4_of(flood.headers.clients.first), core::to_be32(0x0a000001));
  EXPECT_EQ(flood.headers.clients.address_count, (1u << 24) - 2);
  EXPECT_EQ(flood.headers.clients.port_first, 1024);
  EXPECT_EQ(flood.headers.clients.port_count, 1024u);
  EXPECT_EQ(flood.headers.destination_port, 443);
  EXPECT_EQ(flood.sizes, std::vector<std::uint16_t>{60});
  EXPECT_EQ(flood.flows.count, 100'000'000u);
  EXPECT_EQ(flood.flows.order, FlowOrder::zipf);
  EXPECT_EQ(flood.flows.zipf_exponent, 1.1);
  EXPECT_EQ(flood.rate.per_second, 2.5e6);
  EXPECT_FALSE(flood.is_measured);
}

TEST(Profile, size_is_one_a_range_or_imix) {
  EXPECT_EQ(stream("size: 1518").sizes, std::vector<std::uint16_t>{1514});
  const auto range = stream("size: 100-103").sizes;
  EXPECT_EQ(range, (std::vector<std::uint16_t>{96, 97, 98, 99}));
  const auto imix = stream("size: imix").sizes;
  EXPECT_EQ(std::count(imix.begin(), imix.end(), 60), 7);
  EXPECT_EQ(std::count(imix.begin(), imix.end(), 590), 4);
  EXPECT_EQ(std::count(imix.begin(), imix.end(), 1514), 1);
}

TEST(Profile, rates_have_units) {
  const auto rate = [](const std::string& text) {
    const auto parsed = parse_rate(text);
    return parsed ? parsed->per_second : -1;
  };
  EXPECT_EQ(rate("1pps"), 1);
  EXPECT_EQ(rate("14.88mpps"), 14.88e6);
  EXPECT_EQ(rate("100gbit"), 1e11);
  EXPECT_EQ(rate("max"), 0);
  for (const char* wrong : {"", "5", "mpps", "0pps", "0.5pps", "5 mpps", "-1mpps", "nanmpps",
                            "1e3pps", "5mppss", "9999tbit"}) {
    EXPECT_EQ(rate(wrong), -1) << wrong;
  }
}

struct Mistake {
  const char* keys;
  const char* error;
};

class Mistakes : public testing::TestWithParam<Mistake> {};

TEST_P(Mistakes, are_named_with_their_place) {
  const std::string errors = errors_of(with_stream(GetParam().keys));
  EXPECT_NE(errors.find("test.yaml:2:"), std::string::npos) << errors;
  EXPECT_NE(errors.find(GetParam().error), std::string::npos) << errors;
}

INSTANTIATE_TEST_SUITE_P(
    all, Mistakes,
    testing::Values(
        Mistake{"sizes: 64", "did you mean `size`?"}, Mistake{"size: 63", "within 64-2048"},
        Mistake{"size: 9000-100", "FIRST-LAST"}, Mistake{"protocol: SCTP", "UDP, TCP, ICMP"},
        Mistake{"flags: S", "`protocol: TCP` only"},
        Mistake{"protocol: TCP, flags: SX, measure: false", "letters F S R P A U"},
        Mistake{"protocol: TCP, flags: S", "`measure: false`"},
        Mistake{"protocol: TCP", "size 64 is too small: headers and mark take 74"},
        Mistake{"flows: {count: 100000001}", "100000000"},
        Mistake{"flows: {count: 70000}, client_ports: 7", "make only 65534"},
        Mistake{"flows: {order: pareto}", "sequential, random, zipf"},
        Mistake{"flows: {zipf_exponent: 1}", "`order: zipf` only"}, Mistake{"vlan: 4095", "4094"},
        Mistake{"source_mac: 02:00:00:00:00", "not a MAC address"},
        Mistake{"client_ports: 65536", "within 0-65535"}, Mistake{"kind: replay", "capture"},
        Mistake{"kind: malformed, measure: true", "`kind: packets` only"}));

// ---- connections

std::string with_connections(const std::string& keys) {
  return "connections: {clients: 198.18.0.0/16, destination: 203.0.113.10, rate: 100kcps" +
         (keys.empty() ? "" : ", " + keys) + "}\n";
}

TEST(ConnectionsProfile, keys_become_values) {
  const Profile profile = loaded(with_connections(
      "client_ports: 2000-2999, flows: 500000, port: 443, request_bytes: 200, "
      "response_bytes: 100000, requests: 4, think_ms: 20, mac: 02:00:00:00:00:0a, "
      "targets: {addresses: 10.0.0.0/20, port: 8443, gateway_mac: 02:00:00:00:00:0b}"));
  ASSERT_TRUE(profile.connections.has_value());
  const Connections& connections = *profile.connections;
  EXPECT_TRUE(profile.streams.empty());
  EXPECT_EQ(connections.protocol, Protocol::tcp);
  EXPECT_EQ(connections.clients.address_count, 65534u);
  EXPECT_EQ(connections.clients.port_first, 2000);
  EXPECT_EQ(connections.flow_count, 500'000u);
  EXPECT_EQ(connections.destination_port, 443);
  EXPECT_EQ(connections.rate.per_second, 100'000);
  EXPECT_EQ(connections.request_bytes, 200u);
  EXPECT_EQ(connections.response_bytes, 100'000u);
  EXPECT_EQ(connections.request_count, 4u);
  EXPECT_EQ(connections.think_ms, 20u);
  EXPECT_EQ(connections.client_mac, (Mac{2, 0, 0, 0, 0, 0x0a}));
  EXPECT_EQ(core::v4_of(connections.first_target), core::to_be32(0x0a000001));
  EXPECT_EQ(connections.target_count, 4094u);
  EXPECT_EQ(connections.target_port, 8443);
  EXPECT_EQ(connections.target_gateway_mac, (Mac{2, 0, 0, 0, 0, 0x0b}));
}

TEST(ConnectionsProfile, targets_are_as_the_balancer_forwards) {
  const Profile profile =
      loaded(with_connections("targets: {addresses: 10.0.0.0/28, forwarding: gue, gue_port: 6081, "
                              "health_port: 8081}"));
  EXPECT_EQ(profile.connections->forwarding, Forwarding::gue);
  EXPECT_EQ(profile.connections->gue_port, 6081);
  EXPECT_EQ(profile.connections->health_port, 8081);
}

TEST(ConnectionsProfile, targets_have_the_port_of_the_vip_unless_they_say_another) {
  const Profile profile = loaded(with_connections("port: 81, targets: {addresses: 10.0.0.1/32}"));
  EXPECT_EQ(profile.connections->target_port, 81);
  EXPECT_EQ(profile.connections->target_count, 1u);
}

class ConnectionMistakes : public testing::TestWithParam<Mistake> {};

TEST_P(ConnectionMistakes, are_named_with_their_place) {
  const std::string errors = errors_of(with_connections(GetParam().keys));
  EXPECT_NE(errors.find("test.yaml:1:"), std::string::npos) << errors;
  EXPECT_NE(errors.find(GetParam().error), std::string::npos) << errors;
}

INSTANTIATE_TEST_SUITE_P(
    all, ConnectionMistakes,
    testing::Values(Mistake{"protocol: ICMP", "TCP, UDP"}, Mistake{"request: 5", "did you mean"},
                    Mistake{"request_bytes: 7", "8"},
                    Mistake{"protocol: UDP, response_bytes: 1473", "1472"},
                    Mistake{"flows: 16000001", "16000000"},
                    Mistake{"client_ports: 5, flows: 70000", "make only 65534"},
                    Mistake{"targets: {port: 80}", "a prefix"},
                    Mistake{"targets: {addresses: 10.0.0.0/8}", "more than 65536"},
                    Mistake{"targets: {addresses: 10.0.0.0/28, forwarding: dsr, port: 81}",
                            "leaves ports as they are"},
                    Mistake{"targets: {addresses: '2001:db8::/120'}", "one address family"}));

TEST(ConnectionsProfile, rate_is_connections_a_second) {
  EXPECT_NE(errors_of("connections: {clients: 198.18.0.0/16, destination: 203.0.113.10, "
                      "rate: 1gbit}\n")
                .find("connections a second"),
            std::string::npos);
}

TEST(Profile, families_must_agree) {
  EXPECT_NE(errors_of("streams:\n- {name: a, rate: max, clients: '2001:db8::/104', "
                      "destination: 203.0.113.10}\n")
                .find("one address family"),
            std::string::npos);
}

TEST(Profile, stream_without_rate_or_addresses_is_refused) {
  const std::string errors = errors_of("streams:\n- {name: a}\n");
  EXPECT_NE(errors.find("rate"), std::string::npos);
  EXPECT_NE(errors.find("needs `clients`"), std::string::npos);
  EXPECT_NE(errors_of("streams: []").find("1 to 16 streams"), std::string::npos);
}

}  // namespace
}  // namespace millrace::pktgen
