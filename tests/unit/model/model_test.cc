// SPDX-License-Identifier: Apache-2.0
//
// Addresses as text, and the words of enumerations.
#include "controlplane/model/model.h"

#include <gtest/gtest.h>

namespace millrace::control {
namespace {

TEST(IpAddressTest, text_of_both_families_survives_a_round_trip) {
  for (const char* text : {"0.0.0.0", "10.0.0.1", "255.255.255.255", "::", "::1", "2001:db8::1",
                           "2001:db8:1:2:3:4:5:6", "fd00:10:1::11"}) {
    const auto address = IpAddress::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->to_string(), text);
  }
}

TEST(IpAddressTest, ipv4_is_held_v4_mapped) {
  const auto address = IpAddress::parse("1.2.3.4");
  ASSERT_TRUE(address);
  EXPECT_TRUE(address->is_v4());
  const std::uint8_t wanted[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4};
  EXPECT_TRUE(std::equal(std::begin(wanted), std::end(wanted), address->addr.bytes));
  EXPECT_FALSE(IpAddress::parse("2001:db8::1")->is_v4());
}

TEST(IpAddressTest, ipv6_text_becomes_canonical) {
  EXPECT_EQ(IpAddress::parse("2001:0DB8:0:0::0001")->to_string(), "2001:db8::1");
}

TEST(IpAddressTest, anything_but_one_address_is_refused) {
  using namespace std::string_literals;
  for (const std::string& text :
       {""s, " 10.0.0.1"s, "10.0.0.1 "s, "10.0.0.1:80"s, "10.0.0.0/8"s, "10.0.0"s, "10.0.0.256"s,
        "010.0.0.1"s, "[::1]"s, "fe80::1%eth0"s, "2001:db8::1::2"s, "::ffff:10.0.0.1"s,
        "10.0.0.1\0x"s, "localhost"s}) {
    EXPECT_FALSE(IpAddress::parse(text)) << text;
  }
}

TEST(IpAddressTest, order_is_that_of_the_bytes) {
  EXPECT_LT(*IpAddress::parse("10.0.0.1"), *IpAddress::parse("10.0.0.2"));
  EXPECT_LT(*IpAddress::parse("10.0.0.255"), *IpAddress::parse("2001:db8::1"));
  EXPECT_EQ(*IpAddress::parse("2001:db8::1"), *IpAddress::parse("2001:db8:0::1"));
}

TEST(TargetKeyTest, ipv6_addresses_stand_in_brackets) {
  EXPECT_EQ((TargetKey{"web-80", *IpAddress::parse("10.0.1.11"), 8080}).to_string(),
            "web-80/10.0.1.11:8080");
  EXPECT_EQ((TargetKey{"dns", *IpAddress::parse("2001:db8::5"), 53}).to_string(),
            "dns/[2001:db8::5]:53");
}

TEST(ListenerTest, target_group_follows_the_family_of_the_vip) {
  Listener listener;
  listener.default_target_group_v4 = "web-4";
  listener.default_target_group_v6 = "web-6";
  EXPECT_EQ(listener.target_group_for(*IpAddress::parse("203.0.113.10")), "web-4");
  EXPECT_EQ(listener.target_group_for(*IpAddress::parse("2001:db8::10")), "web-6");
}

TEST(WordsTest, are_those_of_the_elbv2_api) {
  EXPECT_STREQ(to_string(Protocol::tcp), "TCP");
  EXPECT_STREQ(to_string(Protocol::udp), "UDP");
  EXPECT_STREQ(to_string(Protocol::tcp_udp), "TCP_UDP");
  EXPECT_STREQ(to_string(Forwarding::dsr), "dsr");
  EXPECT_STREQ(to_string(Forwarding::ipip), "ipip");
  EXPECT_STREQ(to_string(Forwarding::gue), "gue");
  EXPECT_STREQ(to_string(EngineKind::xdp), "xdp");
  EXPECT_STREQ(to_string(HealthCheckProtocol::http), "HTTP");
  EXPECT_STREQ(to_string(TargetState::draining), "draining");
  EXPECT_STREQ(to_string(HealthReason::none), "");
  EXPECT_STREQ(to_string(HealthReason::response_code_mismatch), "Target.ResponseCodeMismatch");
  EXPECT_STREQ(to_string(HealthReason::deregistration_in_progress),
               "Target.DeregistrationInProgress");
}

}  // namespace
}  // namespace millrace::control
