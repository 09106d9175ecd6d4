// SPDX-License-Identifier: Apache-2.0
//
// `explain` says what the packet path does: both are asked about the same first packet of a flow,
// over random configs and tuples. RC_PARAMS="seed=N" repeats a run.
#include "controlplane/api/explain.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <boost/json.hpp>
#include <string>

#include "dataplane/core/drop_reason.h"
#include "tests/support/cc/core_engine.h"
#include "tests/unit/api/fake_controller.h"
#include "tests/unit/core/frame.h"

namespace millrace::control {
namespace {

namespace json = boost::json;

struct Family {
  std::uint32_t group;  // slot, in SmallNode
  std::vector<std::string> clients;
  std::vector<std::string> vips;
  std::string node_addr;
};

// Clients: plain ones, and each kind that begins no flow. The last VIP is none.
const Family kFamilies[] = {
    {.group = 0,
     .clients = {"192.0.2.100", "198.51.100.7", "203.0.113.10", "10.0.1.11", "10.0.1.12",
                 "192.0.2.9", "127.0.0.1", "0.0.0.0", "0.1.2.3", "224.0.0.5", "255.255.255.255"},
     .vips = {"203.0.113.10", "203.0.113.99"},
     .node_addr = "192.0.2.9"},
    {.group = 1,
     .clients = {"2001:db8:2::100", "2001:db8:3::7", "2001:db8:113::10", "fd00:10:1::11",
                 "fd00:10:1::12", "2001:db8:2::9", "::1", "::", "::5", "ff02::1", "fe80::1"},
     .vips = {"2001:db8:113::10", "2001:db8:113::99"},
     .node_addr = "2001:db8:2::9"}};

const std::string& one_of(const std::vector<std::string>& texts) {
  return texts[*rc::gen::inRange<std::size_t>(0, texts.size())];
}

bool happens_once_in(int times) { return *rc::gen::inRange(0, times) == 0; }

// Changes forwarding and targets of the family's group, and publishes that as the second
// generation, so that slots have a `prev`.
void change(SmallNode& node, const Family& family) {
  const auto forwarding = *rc::gen::element<std::uint8_t>(MR_FORWARDING_NAT, MR_FORWARDING_DSR,
                                                          MR_FORWARDING_IPIP, MR_FORWARDING_GUE);
  node.builder.group(family.group).forwarding = forwarding;
  for (std::uint32_t index = 0; index < 2; ++index) {
    test::TargetSpec& target = node.builder.target(family.group * 2 + index);
    target.gets_new_flows = !happens_once_in(3);
    if (happens_once_in(4)) target.next_hop.flags = 0;
    if (happens_once_in(4)) target.flags &= static_cast<std::uint8_t>(~MR_TARGET_KEEPS_FLOWS);
    if (happens_once_in(2)) target.mtu = 1500;
    if (happens_once_in(3)) target.port = 0;  // any
    if (mr_encapsulates(forwarding) && happens_once_in(2)) {
      target.addr = test::addr_of(core::is_v4(target.addr) ? "2001:db8:3::11" : "10.0.3.11");
    }
  }
  node.builder.add_local_addr(test::addr_of(family.node_addr));
  for (const Family& each : kFamilies) {
    if (!happens_once_in(3)) node.builder.set_encap_source(test::addr_of(each.node_addr));
  }
  node.builder.add_listener({.vip_addr = test::addr_of(family.vips.front()),
                             .port = 53,
                             .protocol = MR_PROTOCOL_UDP,
                             .group_slot = family.group});
  node.builder.add_listener({.vip_addr = test::addr_of(family.vips.front()),
                             .port = 1000,
                             .protocol = MR_PROTOCOL_TCP,
                             .group_slot = family.group,
                             .last_port = 2000});
  if (happens_once_in(2)) {
    node.builder.add_listener({.vip_addr = test::addr_of(family.vips.front()),
                               .port = 0,
                               .protocol = MR_PROTOCOL_UDP,
                               .group_slot = family.group,
                               .last_port = 65535});
  }
  const auto on_no_listener = *rc::gen::element<std::uint32_t>(0, MR_VIP_REJECTS, MR_VIP_PUNTS);
  const std::uint32_t on_echo = happens_once_in(2) ? MR_VIP_NO_ECHO : 0;
  node.builder.set_vip_flags(test::addr_of(family.vips.front()), on_no_listener | on_echo);
  node.publish(2);
}

const char* name_of(core::VerdictKind kind) {
  switch (kind) {
    case core::VerdictKind::forward:
      return "forward";
    case core::VerdictKind::reply:
      return "reply";
    case core::VerdictKind::punt:
      return "punt";
    case core::VerdictKind::drop:
      return "drop";
    default:
      return "something else";
  }
}

RC_GTEST_PROP(explain, says_what_the_packet_path_does, (bool is_v4, bool is_tcp)) {
  const Family& family = kFamilies[is_v4 ? 0 : 1];
  SmallNode node;
  change(node, family);
  const std::string client = one_of(family.clients);
  const std::string vip = one_of(family.vips);
  const auto client_port = *rc::gen::inRange<std::uint16_t>(1024, 65535);
  const auto vip_port = *rc::gen::element<std::uint16_t>(80, 53, 81, 999, 1000, 2000, 2001);
  const json::object said = explain_flow({ip(client), client_port, ip(vip), vip_port,
                                          is_tcp ? Protocol::tcp : Protocol::udp},
                                         node.controller.published(), node.controller.state)
                                .as_object();

  const auto engine = test::make_core_engine({{2, 0, 0, 0, 0, 1}});
  engine->adopt(*node.controller.image);
  test::Frame frame{.bytes = test::make_frame({.source = client,
                                               .destination = vip,
                                               .source_port = client_port,
                                               .destination_port = vip_port,
                                               .protocol = static_cast<std::uint8_t>(
                                                   is_tcp ? MR_PROTOCOL_TCP : MR_PROTOCOL_UDP),
                                               .tcp_flags = MR_TCP_SYN,
                                               .payload = ""})};
  std::copy_n(std::begin({2, 0, 0, 0, 0, 1}), 6, frame.bytes.begin());
  const test::Outcome done = engine->run({frame}, std::uint64_t{1} << 40).front();

  RC_LOG() << client << " -> " << vip << ':' << vip_port << ": " << json::serialize(said);
  RC_ASSERT(std::string(said.at("verdict").as_string().c_str()) == name_of(done.kind));
  const json::value& reason = said.at("drop_reason");
  RC_ASSERT(reason.is_string() == (done.kind == core::VerdictKind::drop));
  if (reason.is_string()) {
    RC_ASSERT(std::string(reason.as_string().c_str()) == core::drop_reason_name(done.reason));
  }
  RC_ASSERT(said.at("target").is_string() == (done.kind == core::VerdictKind::forward));
  if (done.kind != core::VerdictKind::forward) return;
  const test::FlowSight flow = engine->flow_of(test::addr_of(client), client_port,
                                               is_tcp ? MR_PROTOCOL_TCP : MR_PROTOCOL_UDP);
  RC_ASSERT(flow.state != MR_FLOW_FREE);
  RC_ASSERT(std::string(said.at("target").as_string().c_str()) ==
            node.target(family.group, flow.target_slot - family.group * 2).key.to_string());
}

}  // namespace
}  // namespace millrace::control
