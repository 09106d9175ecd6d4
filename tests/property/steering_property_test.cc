// SPDX-License-Identifier: Apache-2.0
//
// Who handles a packet where there are several workers, held against a plain model: parse, look the
// destination up among the VIPs, hash the client's half. Whoever handles it does what a worker that
// is alone would do.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "dataplane/core/checksum.h"
#include "dataplane/core/parse.h"
#include "dataplane/core/steering.h"
#include "tests/unit/core/node.h"

namespace millrace::core {
namespace {

using Bytes = std::vector<std::uint8_t>;

struct Service {
  const char* vip;
  std::uint16_t port;
  std::uint8_t protocol;
};
constexpr std::array kServices = {Service{"203.0.113.10", 80, MR_PROTOCOL_TCP},
                                  Service{"203.0.113.11", 53, MR_PROTOCOL_UDP},
                                  Service{"2001:db8:113::10", 80, MR_PROTOCOL_TCP}};
constexpr std::array kAddrsV4 = {"203.0.113.10", "203.0.113.11", "192.0.2.100",
                                 "10.0.1.11",    "198.51.100.7", "127.0.0.1"};
constexpr std::array kAddrsV6 = {"2001:db8:113::10", "2001:db8:2::64", "fd00:10:1::b"};

AddrWords words_of_text(const char* text) { return words_of(test::addr_of(text)); }

void publish_services(test::Node& node) {
  for (const Service& service : kServices) {
    const std::uint32_t group = node.builder.add_group({.forwarding = MR_FORWARDING_NAT});
    const bool is_v4 = core::is_v4(test::addr_of(service.vip));
    node.builder.add_target({.group_slot = group,
                             .addr = test::addr_of(is_v4 ? "10.0.1.11" : "fd00:10:1::b"),
                             .port = 8080,
                             .protocol = service.protocol});
    node.builder.add_listener({.vip_addr = test::addr_of(service.vip),
                               .port = service.port,
                               .protocol = service.protocol,
                               .group_slot = group});
  }
  node.publish();
}

// Mostly sound, and then not: another ethertype or MAC address, options, fragments, a cut.
Bytes arbitrary_frame() {
  const bool is_v4 = *rc::gen::arbitrary<bool>();
  const auto addr = [&]() -> std::string {
    return is_v4 ? *rc::gen::elementOf(kAddrsV4) : *rc::gen::elementOf(kAddrsV6);
  };
  const auto port = [] {
    return *rc::gen::oneOf(rc::gen::element<std::uint16_t>(80, 53, 8080),
                           rc::gen::arbitrary<std::uint16_t>());
  };
  Bytes frame = test::make_frame(
      {.source = addr(),
       .destination = addr(),
       .source_port = port(),
       .destination_port = port(),
       .protocol = *rc::gen::element<std::uint8_t>(6, 6, 6, 17, 17, 1, 58, 44, 47),
       .tcp_flags = *rc::gen::element<std::uint8_t>(0x10, 0x02, 0x12, 0x04, 0x11, 0x00),
       .payload = "some payload"});
  switch (*rc::gen::inRange(0, 10)) {
    case 0:  // VLAN tag
      frame.insert(frame.begin() + MR_ETH_TYPE, {0x81, 0x00, 0x00, 0x07});
      break;
    case 1:  // another node's, a group's, everybody's
      frame[0] = *rc::gen::element<std::uint8_t>(0x02, 0x01, 0xff);
      frame[5] = 0x77;
      break;
    case 2:
      frame.resize(*rc::gen::inRange<std::size_t>(1, frame.size()));
      break;
    case 3:
    case 4: {  // fragments, options, lengths, flags
      const auto at = *rc::gen::inRange<std::size_t>(MR_ETH_TYPE, frame.size());
      frame[at] = *rc::gen::arbitrary<std::uint8_t>();
      break;
    }
    default:
      break;
  }
  if (is_v4 && frame.size() >= MR_ETH_BYTES + MR_IPV4_BYTES && frame[12] == 8) {
    std::uint8_t* ip = frame.data() + MR_ETH_BYTES;
    store(ip + MR_IPV4_CHECKSUM, std::uint16_t{0});
    store(ip + MR_IPV4_CHECKSUM,
          static_cast<std::uint16_t>(~mr_fold(sum_bytes({ip, MR_IPV4_BYTES}))));
  }
  return frame;
}

struct Expected {
  bool is_anybodys = false;  // stays with whoever received it
  // A glance takes it for a flow's, parsing does not: no flow is a martian's, so either will do.
  bool is_martian = false;
  bool is_fragment = false;  // of UDP: see below
  std::uint32_t owner = 0;
};

Expected expected_of(const Bytes& frame, std::uint32_t worker_count) {
  constexpr std::array<std::uint8_t, 6> kOwnMac = {2, 0, 0, 0, 0, 1};
  const bool is_own =
      frame.size() < MR_ETH_BYTES || std::equal(kOwnMac.begin(), kOwnMac.end(), frame.begin());
  if (!is_own && (frame[0] & 1) == 0) return {.is_anybodys = true};
  Parsed parsed;
  parse({.data = const_cast<std::uint8_t*>(frame.data()),
         .length = static_cast<std::uint32_t>(frame.size()),
         .headroom = 0,
         .nic = 0,
         .reserved = 0},
        parsed);
  if (parsed.shape == Shape::drop) return {.is_anybodys = true};
  if (parsed.shape == Shape::not_ip || parsed.shape == Shape::icmp) return {.is_anybodys = true};
  if (parsed.shape == Shape::suspicious && parsed.reason == MR_DROP_MARTIAN) {
    return {.is_martian = true};
  }
  const auto is_of = [&](const Service& service) {
    return words_of_text(service.vip) == parsed.destination;
  };
  const bool is_to_vip = std::ranges::any_of(kServices, is_of);
  if (is_own && parsed.shape == Shape::fragment) return {.is_fragment = true};
  const bool is_flow = is_own && parsed.shape == Shape::transport;
  // Fragments that pass the node are worker 0's.
  if (!is_flow) return {.is_anybodys = is_to_vip || parsed.reason != MR_DROP_FRAGMENT};
  const bool is_to_listener = std::ranges::any_of(kServices, [&](const Service& service) {
    return is_of(service) && service.port == from_be16(parsed.destination_port_be()) &&
           service.protocol == parsed.protocol;
  });
  if (is_to_vip && !is_to_listener) return {.is_anybodys = true};
  const ClientKey client = is_to_vip
                               ? ClientKey{parsed.source, parsed.source_port_protocol}
                               : ClientKey{parsed.destination, parsed.destination_port_protocol};
  return {.owner = owner_of(client, worker_count)};
}

RC_GTEST_PROP(steering, a_packet_is_its_owners_and_fares_as_with_a_worker_that_is_alone, ()) {
  const auto worker_count = *rc::gen::inRange<std::uint32_t>(1, 6);
  const auto worker = *rc::gen::inRange<std::uint32_t>(0, worker_count);
  test::Node one_of_several;
  test::Node alone;
  for (test::Node* node : {&one_of_several, &alone}) publish_services(*node);
  for (int packets = *rc::gen::inRange(1, 30); packets > 0; --packets) {
    const Bytes frame = arbitrary_frame();
    const Expected expected = expected_of(frame, worker_count);
    if (expected.is_fragment) continue;
    const test::Outcome outcome = one_of_several.send_to({worker, worker_count}, frame);
    if (outcome.kind == VerdictKind::hand_over) {
      RC_ASSERT(!expected.is_anybodys);
      RC_ASSERT(expected.is_martian || outcome.owner == expected.owner);
      RC_ASSERT(outcome.owner != worker);
      RC_ASSERT(outcome.frame == frame);
      continue;
    }
    RC_ASSERT(expected.is_anybodys || expected.is_martian || expected.owner == worker);
    const test::Outcome same = alone.send(frame);
    RC_ASSERT(outcome.kind == same.kind);
    RC_ASSERT(outcome.nic == same.nic);
    RC_ASSERT(outcome.reason == same.reason);
    RC_ASSERT(outcome.frame == same.frame);
  }
  RC_ASSERT(one_of_several.is_balanced());
  RC_ASSERT(std::ranges::equal(one_of_several.worker().drops, alone.worker().drops));
  RC_ASSERT(std::ranges::equal(one_of_several.worker().counters, alone.worker().counters));
}

}  // namespace
}  // namespace millrace::core
