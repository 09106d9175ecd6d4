// SPDX-License-Identifier: Apache-2.0
//
// The four kinds of traffic that every behaviour is tested with, and a node that balances them all.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/core/node.h"

namespace millrace::test {

struct Traffic {
  const char* name;
  bool is_v6;
  std::uint8_t protocol;
};

inline constexpr Traffic kAllTraffic[] = {
    {"ipv4_tcp", false, MR_PROTOCOL_TCP},
    {"ipv4_udp", false, MR_PROTOCOL_UDP},
    {"ipv6_tcp", true, MR_PROTOCOL_TCP},
    {"ipv6_udp", true, MR_PROTOCOL_UDP},
};
inline constexpr Traffic kTcpTraffic[] = {kAllTraffic[0], kAllTraffic[2]};

inline std::string name_of(const testing::TestParamInfo<Traffic>& info) { return info.param.name; }

// One listener on port 80 of a VIP, one group of `targets` targets on port 8080, target i at
// 10.0.1.(11+i) or fd00:10:1::(11+i) behind MAC address 02:00:00:00:01:(11+i).
class ForwarderTest : public testing::TestWithParam<Traffic> {
 protected:
  [[nodiscard]] Traffic traffic() const { return GetParam(); }
  [[nodiscard]] bool is_tcp() const { return traffic().protocol == MR_PROTOCOL_TCP; }

  void balance(std::uint32_t targets, std::uint8_t forwarding = MR_FORWARDING_NAT) {
    node.builder.add_group({.forwarding = forwarding});
    for (std::uint32_t i = 0; i < targets; ++i) {
      node.builder.add_target({.group_slot = 0,
                               .addr = addr_of(target_addr(i)),
                               .port = 8080,
                               .protocol = traffic().protocol,
                               .next_hop = next_hop_of(target_mac(i))});
    }
    node.builder.add_listener(
        {.vip_addr = addr_of(vip()), .port = 80, .protocol = traffic().protocol, .group_slot = 0});
    node.publish();
  }

  [[nodiscard]] std::string vip() const {
    return traffic().is_v6 ? "2001:db8:113::10" : "203.0.113.10";
  }
  [[nodiscard]] std::string client_addr() const {
    return traffic().is_v6 ? "2001:db8:2::64" : "192.0.2.100";
  }
  [[nodiscard]] std::string target_addr(std::uint32_t i) const {
    const char* v6_digits[] = {"b", "c", "d", "e", "f"};
    return traffic().is_v6 ? std::string("fd00:10:1::") + v6_digits[i]
                           : "10.0.1." + std::to_string(11 + i);
  }
  [[nodiscard]] static std::string target_mac(std::uint32_t i) {
    const char* digits[] = {"0b", "0c", "0d", "0e", "0f"};
    return std::string("02:00:00:00:01:") + digits[i];
  }

  // Client -> VIP. `flags` counts for TCP only.
  [[nodiscard]] FrameSpec to_vip(std::uint16_t port, std::uint8_t flags = 0x10) const {
    return {.source = client_addr(),
            .destination = vip(),
            .source_port = port,
            .destination_port = 80,
            .protocol = traffic().protocol,
            .tcp_flags = flags,
            .payload = "odd"};
  }
  // Target i -> client.
  [[nodiscard]] FrameSpec from_target(std::uint32_t i, std::uint16_t port,
                                      std::uint8_t flags = 0x10) const {
    return {.source = target_addr(i),
            .destination = client_addr(),
            .source_port = 8080,
            .destination_port = port,
            .protocol = traffic().protocol,
            .tcp_flags = flags,
            .payload = "even",
            .source_mac = target_mac(i)};
  }
  // Which target the packet went to; fails the test when it was not forwarded to one.
  std::uint32_t target_of(const Outcome& outcome) {
    EXPECT_EQ(outcome.kind, core::VerdictKind::forward);
    const std::string destination = read_frame(outcome.frame).destination;
    for (std::uint32_t i = 0; i < 5; ++i) {
      if (destination == target_addr(i)) return i;
    }
    ADD_FAILURE() << "went to " << destination;
    return 99;
  }
  // Opens a flow from client port `port`, with its handshake when it is TCP; returns its target.
  std::uint32_t open_flow(std::uint16_t port) {
    const std::uint32_t target = target_of(node.send(to_vip(port, kSyn)));
    EXPECT_EQ(node.send(from_target(target, port, kSynAck)).kind, core::VerdictKind::forward);
    EXPECT_EQ(node.send(to_vip(port, kAck)).kind, core::VerdictKind::forward);
    return target;
  }
  // A client port whose flow is, or would be, sent to `target`.
  std::uint16_t open_flow_to(std::uint32_t target, std::uint16_t first_port = 20000) {
    for (std::uint16_t port = first_port; port < first_port + 500; ++port) {
      if (open_flow(port) == target) return port;
    }
    ADD_FAILURE() << "no port leads to target " << target;
    return 0;
  }

  static constexpr std::uint8_t kSyn = 0x02;
  static constexpr std::uint8_t kSynAck = 0x12;
  static constexpr std::uint8_t kAck = 0x10;
  static constexpr std::uint8_t kFinAck = 0x11;
  static constexpr std::uint8_t kRst = 0x04;
  static constexpr std::uint8_t kRstAck = 0x14;

 public:
  Node node;
};

}  // namespace millrace::test
