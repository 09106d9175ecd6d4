// SPDX-License-Identifier: Apache-2.0
//
// `explain` must say what the packet path does: each answer is held against a real image.
#include "controlplane/api/explain.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <set>

#include "tests/support/cc/temp_dir.h"
#include "tests/unit/api/fake_controller.h"
#include "tests/unit/api/flow_table_file.h"

namespace millrace::control {
namespace {

namespace json = boost::json;

class ExplainTest : public testing::Test {
 protected:
  json::object explain(const FlowQuestion& question) {
    return explain_flow(question, node_.controller.published(), node_.controller.state).as_object();
  }
  static FlowQuestion question(const std::string& client, std::uint16_t port,
                               const std::string& vip, std::uint16_t vip_port = 80,
                               Protocol protocol = Protocol::tcp) {
    return {ip(client), port, ip(vip), vip_port, protocol};
  }
  static bool says(const json::object& result, const std::string& part) {
    for (const json::value& line : result.at("why").as_array()) {
      if (std::string(line.as_string().c_str()).find(part) != std::string::npos) return true;
    }
    return false;
  }
  static std::string text(const json::object& result, const char* key) {
    const json::value& value = result.at(key);
    return value.is_string() ? value.as_string().c_str() : "(not text)";
  }

  SmallNode node_;
  std::uint64_t generation_ = 1;
};

TEST_F(ExplainTest, address_that_is_no_vip_goes_to_the_kernel) {
  const auto result = explain(question("192.0.2.1", 1000, "203.0.113.99"));
  EXPECT_EQ(text(result, "verdict"), "punt");
  EXPECT_TRUE(says(result, "203.0.113.99 is not a VIP"));
}

TEST_F(ExplainTest, port_and_protocol_without_listener_are_dropped) {
  for (const auto& asked : {question("192.0.2.1", 1000, "203.0.113.10", 81),
                            question("192.0.2.1", 1000, "203.0.113.10", 80, Protocol::udp)}) {
    const auto result = explain(asked);
    EXPECT_EQ(text(result, "verdict"), "drop");
    EXPECT_EQ(text(result, "drop_reason"), "no_listener");
    EXPECT_TRUE(says(result, "(it has TCP 80): dropped"));
  }
}

TEST_F(ExplainTest, port_without_listener_is_what_the_vip_says) {
  const auto decide = [&](std::uint32_t flags, Protocol protocol, const std::string& client) {
    node_.builder.set_vip_flags(test::addr_of("203.0.113.10"), flags);
    node_.publish(++generation_);
    return explain(question(client, 1000, "203.0.113.10", 81, protocol));
  };
  auto result = decide(MR_VIP_REJECTS, Protocol::tcp, "192.0.2.1");
  EXPECT_EQ(text(result, "verdict"), "reply");
  EXPECT_TRUE(says(result, "a RST answers it, unless it is one (millrace.no_listener: reject)"));
  result = decide(MR_VIP_REJECTS, Protocol::udp, "192.0.2.1");
  EXPECT_EQ(text(result, "verdict"), "reply");
  EXPECT_TRUE(says(result, "ICMP's \"port unreachable\" answers it"));
  result = decide(MR_VIP_REJECTS, Protocol::udp, "203.0.113.10");
  EXPECT_EQ(text(result, "drop_reason"), "martian");
  result = decide(MR_VIP_PUNTS | MR_VIP_NO_ECHO, Protocol::udp, "192.0.2.1");
  EXPECT_EQ(text(result, "verdict"), "punt");
  EXPECT_TRUE(says(result, "it goes to the kernel (millrace.no_listener: kernel)"));
}

TEST_F(ExplainTest, before_the_first_config_everything_goes_to_the_kernel) {
  node_.controller.image.reset();
  const auto result = explain(question("192.0.2.1", 1000, "203.0.113.10"));
  EXPECT_EQ(text(result, "verdict"), "punt");
}

TEST_F(ExplainTest, new_flow_gets_the_target_that_owns_its_slot) {
  std::set<std::string> targets;
  for (std::uint16_t port = 1; port <= 200; ++port) {
    const auto result = explain(question("192.0.2.1", port, "203.0.113.10"));
    ASSERT_EQ(text(result, "verdict"), "forward");
    const core::ConfigView& view = node_.controller.image->view();
    const mr_target_group& group = view.groups[0];
    const mr_flow_tuple tuple = {.client_addr = test::addr_of("192.0.2.1"),
                                 .vip_addr = test::addr_of("203.0.113.10"),
                                 .client_port_be = core::to_be16(port),
                                 .vip_port_be = core::to_be16(80),
                                 .protocol = MR_PROTOCOL_TCP,
                                 .reserved = {}};
    const std::uint32_t slot =
        mr_slot_of_hash(mr_selection_hash(&view.image->selection_key, &tuple), group.table_slots);
    EXPECT_EQ(result.at("lookup_slot").to_number<std::uint32_t>(), slot);
    const std::uint32_t target_slot = view.members(group)[view.lookup_table(group)[slot].cur];
    EXPECT_EQ(text(result, "target"), node_.target(0, target_slot).key.to_string());
    targets.insert(text(result, "target"));
  }
  EXPECT_EQ(targets, (std::set<std::string>{"web-4/10.0.1.11:8080", "web-4/10.0.1.12:8080"}));
}

TEST_F(ExplainTest, ipv6_flows_are_explained_alike) {
  const auto result = explain(question("2001:db8:2::100", 1000, "2001:db8:113::10"));
  EXPECT_EQ(text(result, "client"), "[2001:db8:2::100]:1000");
  EXPECT_EQ(text(result, "verdict"), "forward");
  EXPECT_EQ(text(result, "target").rfind("web-6/[fd00:10:1::1", 0), 0u);
}

TEST_F(ExplainTest, changed_slot_names_the_target_before) {
  node_.builder.target(0).gets_new_flows = false;
  node_.publish(2);
  node_.target(0, 0).state = TargetState::draining;
  std::size_t changed = 0;
  for (std::uint16_t port = 1; port <= 100; ++port) {
    const auto result = explain(question("192.0.2.1", port, "203.0.113.10"));
    EXPECT_EQ(text(result, "target"), "web-4/10.0.1.12:8080");
    if (result.at("prev").is_null()) continue;
    ++changed;
    EXPECT_EQ(text(result, "prev"), "web-4/10.0.1.11:8080");
    EXPECT_TRUE(says(result, "the middle of a TCP connection"));
  }
  EXPECT_GT(changed, 10u);
}

TEST_F(ExplainTest, group_without_targets_drops) {
  node_.builder.target(0).gets_new_flows = false;
  node_.builder.target(1).gets_new_flows = false;
  node_.publish(2);
  const auto result = explain(question("192.0.2.1", 1000, "203.0.113.10"));
  EXPECT_EQ(text(result, "verdict"), "drop");
  EXPECT_EQ(text(result, "drop_reason"), "no_target");
}

TEST_F(ExplainTest, source_that_can_be_no_client_is_dropped_as_the_engine_does) {
  node_.builder.add_local_addr(test::addr_of("192.0.2.200"));
  node_.publish(2);
  struct Case {
    const char* client;
    const char* vip;
    const char* why;
  };
  for (const auto& [client, vip, why] : {
           Case{"192.0.2.200", "203.0.113.10", "192.0.2.200 is this node's own address"},
           Case{"203.0.113.10", "203.0.113.10", "203.0.113.10 is a VIP"},
           Case{"127.0.0.1", "203.0.113.10", "127.0.0.1 is an address that no client has"},
           Case{"fe80::1", "2001:db8:113::10", "fe80::1 is a link-local address"},
           Case{"ff02::1", "2001:db8:113::10", "ff02::1 is an address that no client has"},
       }) {
    const auto result = explain(question(client, 1000, vip));
    EXPECT_EQ(text(result, "verdict"), "drop") << client;
    EXPECT_EQ(text(result, "drop_reason"), "martian") << client;
    EXPECT_TRUE(says(result, why)) << client;
  }
}

TEST_F(ExplainTest, target_is_no_client_of_itself_where_its_address_is_kept) {
  std::set<std::string> reasons;
  for (std::uint16_t port = 1; port <= 20; ++port) {
    const auto result = explain(question("10.0.1.11", port, "203.0.113.10"));
    const bool is_itself = text(result, "cur") == "web-4/10.0.1.11:8080";
    EXPECT_EQ(text(result, "drop_reason"), is_itself ? "martian" : "(not text)");
    EXPECT_EQ(says(result, "the client is that target itself"), is_itself);
    reasons.insert(text(result, "drop_reason"));
  }
  EXPECT_EQ(reasons.size(), 2u) << "each target was chosen";
  node_.builder.group(0).forwarding = MR_FORWARDING_DSR;
  node_.publish(2);
  for (std::uint16_t port = 1; port <= 20; ++port) {
    EXPECT_EQ(text(explain(question("10.0.1.11", port, "203.0.113.10")), "verdict"), "forward");
  }
}

TEST_F(ExplainTest, unresolved_next_hop_is_named_as_the_reason) {
  for (std::uint32_t slot : {0u, 1u}) node_.builder.target(slot).next_hop.flags = 0;
  node_.publish(2);
  for (std::size_t i : {0u, 1u}) node_.target(0, i).next_hop = "no route";
  const auto result = explain(question("192.0.2.1", 1000, "203.0.113.10"));
  EXPECT_EQ(text(result, "drop_reason"), "next_hop_unresolved");
  EXPECT_TRUE(says(result, "no route"));
}

TEST_F(ExplainTest, resolved_next_hop_is_told) {
  for (std::size_t i : {0u, 1u}) node_.target(0, i).next_hop = "dev mr0 lladdr 02:00:00:00:00:01";
  const auto result = explain(question("192.0.2.1", 1000, "203.0.113.10"));
  EXPECT_EQ(text(result, "next_hop"), "dev mr0 lladdr 02:00:00:00:00:01");
  EXPECT_TRUE(says(result, "its next hop is resolved: dev mr0 lladdr 02:00:00:00:00:01"));
}

TEST_F(ExplainTest, encapsulated_flow_tells_how_it_travels_or_why_not) {
  node_.builder.group(0).forwarding = MR_FORWARDING_GUE;
  for (std::uint32_t slot : {0u, 1u}) node_.builder.target(slot).mtu = 1500;
  node_.publish(2);
  const auto lost = explain(question("192.0.2.1", 1000, "203.0.113.10"));
  EXPECT_EQ(text(lost, "verdict"), "drop");
  EXPECT_EQ(text(lost, "drop_reason"), "no_encap_source");
  node_.builder.set_encap_source(test::addr_of("10.0.1.1"));
  node_.publish(3);
  const auto sent = explain(question("192.0.2.1", 1000, "203.0.113.10"));
  EXPECT_EQ(text(sent, "verdict"), "forward");
  EXPECT_TRUE(says(sent, "it travels by gue from 10.0.1.1 to 10.0.1.1"));
  EXPECT_TRUE(says(sent, "port 6080; packets over 1472 bytes are answered with an MTU of 1472"));
}

TEST_F(ExplainTest, source_of_the_flows_own_is_told) {
  node_.builder.group(0).forwarding = MR_FORWARDING_IPIP;
  node_.builder.set_encap_source(test::addr_of("172.16.0.0"), core::to_be32(0xffff));
  node_.publish(2);
  // As packets/encap_network.packets has it.
  const auto sent = explain(question("198.51.100.7", 40000, "203.0.113.10"));
  EXPECT_TRUE(says(sent, "it travels by ipip from 172.16.6.23 to 10.0.1."));
}

TEST_F(ExplainTest, mtu_told_is_that_of_the_vips_family) {
  node_.builder.group(0).forwarding = MR_FORWARDING_IPIP;
  for (std::uint32_t slot : {0u, 1u}) {
    node_.builder.target(slot).addr = test::addr_of("2001:db8:1::11");
    node_.builder.target(slot).mtu = 1300;
  }
  node_.builder.set_encap_source(test::addr_of("2001:db8:1::1"));
  node_.publish(2);
  const auto sent = explain(question("192.0.2.1", 1000, "203.0.113.10"));
  EXPECT_TRUE(says(sent, "it travels by ipip from 2001:db8:1::1 to 2001:db8:1::11"));
  EXPECT_TRUE(says(sent, "packets over 1260 bytes are answered with an MTU of 1260"));
}

TEST_F(ExplainTest, engine_that_lags_or_is_gone_is_mentioned) {
  node_.controller.state.engine.adopted_generation = 0;
  EXPECT_TRUE(says(explain(question("192.0.2.1", 1, "203.0.113.10")), "still runs generation 0"));
  node_.controller.state.engine.state = EngineState::stopped;
  node_.controller.state.engine.problem = "no stats segment";
  EXPECT_TRUE(says(explain(question("192.0.2.1", 1, "203.0.113.10")), "nothing is forwarded"));
  node_.controller.state.engine.state = EngineState::unattended;
  const auto unattended = explain(question("192.0.2.1", 1, "203.0.113.10"));
  EXPECT_TRUE(says(unattended, "the engine goes on forwarding by generation 0"));
  EXPECT_TRUE(says(unattended, "this answer is by a newer one"));
}

TEST_F(ExplainTest, known_flow_goes_to_its_own_target) {
  test::TempDir dir;
  node_.controller.state.engine.flow_table_dir = dir.path();
  node_.controller.state.engine.flow_table_count = 1;
  node_.controller.state.engine.workers.resize(1);
  const std::string chosen = text(explain(question("192.0.2.1", 1000, "203.0.113.10")), "target");
  const std::size_t other = chosen == node_.target(0, 0).key.to_string() ? 1 : 0;

  test::FlowTableFile table(100);
  const auto& listeners = node_.controller.state.listeners;
  // The same client at the other listener is another flow.
  table.add({.client = test::addr_of("192.0.2.1"),
             .client_port = 1000,
             .listener_id = listeners[1].id,
             .target_id = node_.target(1, 0).id});
  table.add({.client = test::addr_of("192.0.2.1"),
             .client_port = 1000,
             .listener_id = listeners[0].id,
             .target_id = node_.target(0, other).id});
  table.write(dir.path() + "/flows.0");

  const auto result = explain(question("192.0.2.1", 1000, "203.0.113.10"));
  EXPECT_EQ(text(result, "cur"), chosen);
  EXPECT_EQ(text(result, "target"), node_.target(0, other).key.to_string());
  EXPECT_EQ(text(result.at("flow").as_object(), "state"), "established");
  EXPECT_TRUE(explain(question("192.0.2.1", 1001, "203.0.113.10")).at("flow").is_null());

  // Its own target's way counts, not that of the slot's.
  node_.target(0, other).next_hop = "via 10.0.1.254 dev mr0 lladdr 02:00:00:00:00:02";
  EXPECT_EQ(text(explain(question("192.0.2.1", 1000, "203.0.113.10")), "next_hop"),
            node_.target(0, other).next_hop);
  node_.builder.target(node_.target(0, other).slot).next_hop.flags = 0;
  node_.publish(2);
  const auto lost = explain(question("192.0.2.1", 1000, "203.0.113.10"));
  EXPECT_EQ(text(lost, "drop_reason"), "next_hop_unresolved");
  EXPECT_TRUE(lost.at("target").is_null() && lost.at("next_hop").is_null());
  // A slot that is another's in the image in force says nothing of the flow.
  node_.target(0, other).slot = node_.target(1, 0).slot;
  EXPECT_EQ(text(explain(question("192.0.2.1", 1000, "203.0.113.10")), "target"), chosen);
}

// What the engine does with it: rules/known_rule.h.
TEST_F(ExplainTest, known_flow_of_a_target_that_keeps_it_no_longer_does_not_go_on) {
  test::TempDir dir;
  node_.controller.state.engine.flow_table_dir = dir.path();
  node_.controller.state.engine.flow_table_count = 1;
  node_.controller.state.engine.workers.resize(1);
  const auto asked = question("192.0.2.1", 1000, "203.0.113.10");
  const std::string chosen = text(explain(asked), "target");
  const std::size_t other = chosen == node_.target(0, 0).key.to_string() ? 1 : 0;
  test::FlowTableFile table(100);
  table.add({.client = test::addr_of("192.0.2.1"),
             .client_port = 1000,
             .listener_id = node_.controller.state.listeners[0].id,
             .target_id = node_.target(0, other).id});
  table.write(dir.path() + "/flows.0");
  const auto explain_with = [&](int target_flags) {
    node_.builder.target(node_.target(0, other).slot).flags =
        static_cast<std::uint8_t>(target_flags);
    node_.publish(++generation_);
    return explain(asked);
  };

  const auto kept = explain_with(MR_TARGET_KEEPS_TCP);
  EXPECT_EQ(text(kept, "target"), node_.target(0, other).key.to_string());
  const auto reset = explain_with(MR_TARGET_RESETS_FLOWS);
  EXPECT_EQ(text(reset, "verdict"), "reply");
  EXPECT_TRUE(says(reset, "resets its connections")) << reset;
  const auto moved = explain_with(0);
  EXPECT_EQ(text(moved, "verdict"), "forward");
  EXPECT_EQ(text(moved, "target"), node_.target(0, 1 - other).key.to_string());
  EXPECT_FALSE(moved.at("flow").is_null());

  test::FlowTableFile expired(100);
  expired.add({.client = test::addr_of("192.0.2.1"),
               .client_port = 1000,
               .state = MR_FLOW_EXPIRED,
               .listener_id = node_.controller.state.listeners[0].id,
               .target_id = node_.target(0, other).id});
  expired.write(dir.path() + "/flows.0");
  const auto late = explain_with(MR_TARGET_KEEPS_FLOWS);
  EXPECT_EQ(text(late, "verdict"), "reply");
  EXPECT_TRUE(says(late, "idle for too long")) << late;
}

}  // namespace
}  // namespace millrace::control
