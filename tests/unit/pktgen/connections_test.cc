// SPDX-License-Identifier: Apache-2.0
//
// Connections between clients and emulated targets: over a good network, a bad one, the real
// Forwarder, and balancers that do what none must.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <numeric>
#include <vector>

#include "bench/pktgen/delay_queue.h"
#include "bench/pktgen/l4_checksum.h"
#include "bench/pktgen/random.h"
#include "bench/pktgen/segment_reader.h"
#include "dataplane/core/flow_table.h"
#include "dataplane/core/forwarder.h"
#include "tests/support/cc/frame_check.h"
#include "tests/support/cc/image_builder.h"
#include "tests/unit/pktgen/loop.h"

namespace millrace::pktgen {
namespace {

using Checksum = test::FrameFacts::Checksum;

// ---- parts

RC_GTEST_PROP(flow_map, finds_back_every_flow_and_nothing_else, ()) {
  const Clients clients{.first = test::addr_of("10.255.255.250"),
                        .address_count = *rc::gen::inRange<std::uint32_t>(1, 1000),
                        .port_first = 60000,
                        .port_count = *rc::gen::inRange<std::uint32_t>(1, 5536)};
  const std::uint32_t count = clients.address_count * clients.port_count;
  const FlowMap flows(clients, count);
  const auto flow = *rc::gen::inRange<std::uint32_t>(0, count);
  const Endpoint endpoint = flows.endpoint_of(flow);
  RC_ASSERT(flows.flow_of(endpoint) == flow);
  RC_ASSERT(FlowMap(clients, flow).flow_of(endpoint) == FlowMap::kNoFlow);
  const Endpoint below{core::words_of(test::addr_of("10.255.255.249")), endpoint.port_be};
  RC_ASSERT(flows.flow_of(below) == FlowMap::kNoFlow);
  RC_ASSERT(flows.flow_of({endpoint.addr, core::to_be16(59999)}) == FlowMap::kNoFlow);
}

RC_GTEST_PROP(delay_queue, gives_flows_back_in_order_when_due, ()) {
  DelayQueue queue(200, 8);
  std::uint32_t now_ms = *rc::gen::arbitrary<std::uint32_t>();  // the clock may wrap
  std::vector<std::pair<std::uint32_t, std::uint32_t>> model;   // due, flow
  for (std::uint32_t step = 0; step < 50; ++step) {
    now_ms += *rc::gen::inRange<std::uint32_t>(0, 100);
    std::uint32_t flow = 0;
    while (queue.pop_due(now_ms, flow)) {
      RC_ASSERT((!model.empty() && model.front().second == flow));
      RC_ASSERT(static_cast<std::int32_t>(now_ms - model.front().first) >= 0);
      model.erase(model.begin());
    }
    RC_ASSERT((model.empty() || static_cast<std::int32_t>(now_ms - model.front().first) < 0));
    if (model.size() == 8) continue;
    queue.push(now_ms, step);
    model.emplace_back(now_ms + 200, step);
  }
}

RC_GTEST_PROP(segment_writer, writes_what_the_reader_reads_with_right_checksums, ()) {
  const bool is_tcp = *rc::gen::arbitrary<bool>();
  const bool is_v4 = *rc::gen::arbitrary<bool>();
  const SegmentWriter writer({.protocol = is_tcp ? Protocol::tcp : Protocol::udp, .is_v4 = is_v4});
  const Segment segment{
      .sequence = is_tcp ? *rc::gen::arbitrary<std::uint32_t>() : 0,
      .acknowledgement = is_tcp ? *rc::gen::arbitrary<std::uint32_t>() : 0,
      .payload_bytes = *rc::gen::inRange<std::uint32_t>(0, writer.payload_bytes_max() + 1),
      .ordinal = *rc::gen::arbitrary<std::uint16_t>(),
      .tcp_flags = static_cast<std::uint8_t>(is_tcp ? MR_TCP_ACK : 0),
      .stamp = {.connection = *rc::gen::arbitrary<std::uint32_t>(),
                .flow = *rc::gen::arbitrary<std::uint32_t>()}};
  const auto port = [] { return *rc::gen::arbitrary<std::uint16_t>(); };
  const Path path{
      {core::words_of(test::addr_of(is_v4 ? "198.18.3.4" : "2001:db8::1:2")), port()},
      {core::words_of(test::addr_of(is_v4 ? "203.0.113.10" : "2001:db8:113::10")), port()}};
  Frame frame(2048);
  frame.resize(writer.write(frame.data(), path, segment));
  RC_ASSERT((frame.size() >= 60u && frame.size() <= 1514u));
  const auto facts = test::facts_of(frame);
  RC_ASSERT(facts.ip_checksum == (is_v4 ? Checksum::right : Checksum::none));
  RC_ASSERT(facts.l4_checksum == Checksum::right);

  const core::Packet packet{.data = frame.data(),
                            .length = static_cast<std::uint32_t>(frame.size()),
                            .headroom = 0,
                            .nic = 0,
                            .reserved = 0};
  core::Parsed parsed{};
  core::parse(packet, parsed);
  RC_ASSERT(parsed.shape == core::Shape::transport);
  const Path read_path = path_of(parsed);
  RC_ASSERT((read_path.source == path.source && read_path.destination == path.destination));
  const Segment read = read_segment(packet, parsed);
  RC_ASSERT((read.sequence == segment.sequence && read.acknowledgement == segment.acknowledgement));
  RC_ASSERT((read.payload_bytes == segment.payload_bytes && read.ordinal == segment.ordinal));
  RC_ASSERT(read.tcp_flags == segment.tcp_flags);
  RC_ASSERT(read.has_stamp == (segment.payload_bytes >= kStampBytes));
  RC_ASSERT((!read.has_stamp || read.stamp == segment.stamp));
}

// ---- whole connections

class EveryLoop : public testing::TestWithParam<LoopCase> {};

void expect_all_completed(const Loop& loop, const LoopCase& loop_case) {
  const ClientCounts& clients = loop.clients().counts();
  EXPECT_GT(clients.opened, 0u);
  EXPECT_EQ(clients.completed, clients.opened);
  EXPECT_EQ(clients.responses, clients.opened * loop_case.request_count);
  EXPECT_EQ(loop.targets().counts().requests, clients.responses);
  EXPECT_EQ(loop.violations(), 0u);
}

TEST_P(EveryLoop, completes_each_connection_without_a_violation) {
  Loop loop(without_balancer(GetParam()));
  loop.run(50, 1000);
  expect_all_completed(loop, GetParam());
  EXPECT_EQ(loop.clients().repeated() + loop.targets().repeated(), 0u);
}

// Balancer and network in one: the engine's own packet path, with 16 targets behind its VIP.
class ForwarderMiddle {
 public:
  explicit ForwarderMiddle(const LoopCase& loop_case)
      : memory_(core::FlowTable::bytes_for(kCapacity) / sizeof(Line) + 1),
        image_(image_of(loop_case)),
        forwarder_({.flow_table = core::FlowTable::format(
                        {memory_.front().bytes, memory_.size() * sizeof(Line)}, layout()),
                    .nic_macs = macs_,
                    .counters = {.worker = &worker_stats_,
                                 .listeners = listener_stats_,
                                 .targets = target_stats_},
                    .flow_inserts_per_ms = 0xffffffffu}) {
    forwarder_.adopt(image_.view());
  }

  void operator()(std::vector<Frame>& frames) {
    // What targets of dsr, ipip and gue groups say does not come this way.
    const auto is_direct = [](const Frame& frame) { return frame[5] != 1; };
    std::vector<Frame> forwarded;
    std::ranges::copy_if(frames, std::back_inserter(forwarded), is_direct);
    std::erase_if(frames, is_direct);
    for (std::size_t at = 0; at < frames.size(); at += core::kBurstMax) {
      core::Burst burst;
      burst.count =
          static_cast<std::uint32_t>(std::min<std::size_t>(core::kBurstMax, frames.size() - at));
      for (std::uint32_t i = 0; i < burst.count; ++i) {
        Frame& frame = frames[at + i];
        const auto bytes = static_cast<std::uint32_t>(frame.size());
        frame.insert(frame.begin(), kHeadroom, 0);
        burst.packets[i] = {.data = frame.data() + kHeadroom,
                            .length = bytes,
                            .headroom = kHeadroom,
                            .nic = 0,
                            .reserved = 0};
      }
      forwarder_.process_burst(burst, now_ns_ += 1000);
      for (std::uint32_t i = 0; i < burst.count; ++i) {
        if (burst.verdicts[i].kind() != core::VerdictKind::forward) continue;
        const core::Packet& packet = burst.packets[i];
        forwarded.emplace_back(packet.data, packet.data + packet.length);
      }
    }
    frames = std::move(forwarded);
  }

 private:
  static constexpr std::uint32_t kCapacity = 4096;
  static constexpr std::uint16_t kHeadroom = 64;
  struct alignas(64) Line {
    std::byte bytes[64];
  };

  static core::FlowTable::Layout layout() {
    return {.capacity = kCapacity,
            .worker_index = 0,
            .worker_count = 1,
            .secret = {1, 2, 3, 4},
            .created_ns = 1,
            .creator_pid = 1};
  }
  static test::Image image_of(const LoopCase& loop_case) {
    const std::uint8_t protocol =
        loop_case.protocol == Protocol::tcp ? MR_PROTOCOL_TCP : MR_PROTOCOL_UDP;
    test::ImageBuilder builder;
    constexpr std::uint8_t kForwarding[] = {MR_FORWARDING_NAT, MR_FORWARDING_DSR,
                                            MR_FORWARDING_IPIP, MR_FORWARDING_GUE};
    const std::uint32_t group = builder.add_group(
        {.forwarding = kForwarding[static_cast<std::size_t>(loop_case.forwarding)]});
    const std::string prefix = loop_case.is_v4 ? "10.0.1." : "2001:db8:1::";
    for (int i = 1; i <= 16; ++i) {
      std::string last = std::to_string(i);
      if (!loop_case.is_v4 && i >= 10) last = i == 16 ? "10" : std::string(1, char('a' + i - 10));
      builder.add_target(
          {.group_slot = group,
           .addr = test::addr_of(prefix + last),
           .port = 8080,
           .protocol = protocol,
           .next_hop = {
               {2, 0, 0, 0, 0, static_cast<std::uint8_t>(2 + i)}, 0, MR_NEXT_HOP_RESOLVED}});
    }
    builder.set_encap_source(test::addr_of(loop_case.is_v4 ? "10.0.1.254" : "2001:db8:1::fe"));
    builder.add_listener({.vip_addr = connections_of(loop_case).destination,
                          .port = 80,
                          .protocol = protocol,
                          .group_slot = group});
    return builder.build(1);
  }

  std::vector<Line> memory_;
  std::array<core::MacAddr, 1> macs_{core::MacAddr{{2, 0, 0, 0, 0, 1}}};
  mr_worker_stats worker_stats_{};
  std::vector<mr_listener_stats> listener_stats_{16};
  std::vector<mr_target_stats> target_stats_{64};
  test::Image image_;
  core::Forwarder forwarder_;
  std::uint64_t now_ns_ = std::uint64_t{1000} << 30;
};

TEST_P(EveryLoop, through_the_forwarder_keeps_every_connection_at_its_target) {
  ForwarderMiddle forwarder(GetParam());
  Loop loop(connections_of(GetParam()), std::ref(forwarder));
  loop.run(50, 1000);
  expect_all_completed(loop, GetParam());
  const auto& shares = loop.targets().shares();
  EXPECT_GT(*std::min_element(shares.begin(), shares.end()), 0u);
}

TEST_P(EveryLoop, through_the_forwarder_keeps_those_from_the_port_of_gue) {
  Connections connections = connections_of(GetParam());
  connections.clients.port_first = static_cast<std::uint16_t>(connections.gue_port - 50);
  ForwarderMiddle forwarder(GetParam());
  Loop loop(connections, std::ref(forwarder));
  loop.run(50, 1000);
  expect_all_completed(loop, GetParam());
}

TEST_P(EveryLoop, with_loss_still_ends_and_blames_nobody) {
  Random random(42);
  Loop loop(without_balancer(GetParam()), [&](std::vector<Frame>& frames) {
    std::erase_if(frames, [&](const Frame&) { return random.below(20) == 0; });
  });
  loop.run(50, 20'000);
  const ClientCounts& clients = loop.clients().counts();
  EXPECT_EQ(loop.violations(), 0u);
  EXPECT_EQ(loop.clients().live(), 0u);
  if (GetParam().protocol == Protocol::tcp) {
    EXPECT_EQ(clients.completed, clients.opened);
    EXPECT_GT(loop.clients().repeated(), 0u);
  } else {
    EXPECT_EQ(clients.completed + clients.timed_out, clients.opened);
    EXPECT_GT(clients.timed_out, 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(
    all, EveryLoop,
    testing::Values(LoopCase{}, LoopCase{.is_v4 = false}, LoopCase{.protocol = Protocol::udp},
                    LoopCase{.protocol = Protocol::udp, .is_v4 = false},
                    LoopCase{.request_bytes = 8, .response_bytes = 100'000},
                    LoopCase{.request_bytes = 40'000, .response_bytes = 1461},
                    LoopCase{.is_v4 = false, .response_bytes = 50'000, .request_count = 3},
                    LoopCase{.request_count = 5, .think_ms = 7},
                    LoopCase{.protocol = Protocol::udp, .request_count = 4, .think_ms = 3},
                    LoopCase{.response_bytes = 50'000, .forwarding = Forwarding::dsr},
                    LoopCase{.is_v4 = false, .forwarding = Forwarding::dsr},
                    LoopCase{.response_bytes = 50'000, .forwarding = Forwarding::ipip},
                    LoopCase{.is_v4 = false, .forwarding = Forwarding::ipip},
                    LoopCase{.protocol = Protocol::udp, .forwarding = Forwarding::gue},
                    LoopCase{
                        .is_v4 = false, .response_bytes = 50'000, .forwarding = Forwarding::gue}));

// A frame from a prober to port 8081 of a target, and what the targets make of it.
Frame answer_to_probe(bool is_v4, std::uint8_t flags, const std::string& target) {
  const Connections connections = connections_of({.is_v4 = is_v4});
  FrameBox box;
  const TargetEmulator targets(connections, box.outbox());
  const SegmentWriter prober({.is_v4 = is_v4,
                              .source_mac = {2, 0, 0, 0, 0, 9},
                              .destination_mac = connections.target_mac});
  Frame frame(2048);
  const Endpoint from{core::words_of(test::addr_of(is_v4 ? "10.0.1.254" : "2001:db8:1::fe")),
                      core::to_be16(40000)};
  const Endpoint to{core::words_of(test::addr_of(target)), core::to_be16(8081)};
  const Segment segment{.sequence = 1000, .acknowledgement = 77, .tcp_flags = flags, .stamp = {}};
  core::Packet packet{.data = frame.data(),
                      .length = prober.write(frame.data(), {from, to}, segment),
                      .headroom = 0,
                      .nic = 0,
                      .reserved = 0};
  core::Parsed parsed{};
  core::parse(packet, parsed);
  if (!targets.answer_probe(packet, parsed)) return {};
  frame.resize(packet.length);
  return frame;
}

TEST(HealthProbe, is_taken_and_closed_when_the_prober_does) {
  for (const bool is_v4 : {true, false}) {
    const std::string target = is_v4 ? "10.0.1.3" : "2001:db8:1::3";
    for (const bool opens : {true, false}) {
      const auto asked = static_cast<std::uint8_t>(opens ? MR_TCP_SYN : MR_TCP_FIN | MR_TCP_ACK);
      Frame frame = answer_to_probe(is_v4, asked, target);
      ASSERT_FALSE(frame.empty());
      EXPECT_EQ(frame[5], 9);
      core::Packet packet{.data = frame.data(),
                          .length = static_cast<std::uint32_t>(frame.size()),
                          .headroom = 0,
                          .nic = 0,
                          .reserved = 0};
      core::Parsed parsed{};
      core::parse(packet, parsed);
      ASSERT_EQ(parsed.shape, core::Shape::transport);
      EXPECT_TRUE(l4_checksum_holds(packet, parsed));
      EXPECT_EQ(parsed.source, core::words_of(test::addr_of(target)));
      EXPECT_EQ(parsed.destination_port_be(), core::to_be16(40000));
      EXPECT_EQ(parsed.tcp_flags, asked | MR_TCP_ACK);
      EXPECT_EQ(read_segment(packet, parsed).acknowledgement, 1001u);
    }
  }
}

TEST(HealthProbe, of_no_target_or_with_nothing_to_say_is_not_answered) {
  EXPECT_TRUE(answer_to_probe(true, MR_TCP_SYN, "10.0.1.17").empty());
  EXPECT_TRUE(answer_to_probe(true, MR_TCP_ACK, "10.0.1.3").empty());
  EXPECT_TRUE(answer_to_probe(true, MR_TCP_RST, "10.0.1.3").empty());
}

TEST(Connections, flow_that_is_busy_in_its_turn_is_counted_and_not_waited_for) {
  Connections connections = without_balancer({.request_count = 2, .think_ms = 1000});
  connections.flow_count = 100;
  Loop loop(connections);
  loop.run(50, 0);
  EXPECT_EQ(loop.clients().counts().opened, 100u);
  EXPECT_GT(loop.clients().counts().flow_busy, 300u);
}

TEST(Connections, pause_between_requests_is_as_long_as_asked) {
  Connections connections = without_balancer({.request_count = 11, .think_ms = 10});
  connections.rate.per_second = 1;
  Loop loop(connections);
  const std::uint64_t start_ns = loop.now_ns();
  loop.run(1, 5000);
  EXPECT_EQ(loop.clients().counts().completed, 1u);
  EXPECT_GE(loop.now_ns() - start_ns, 10u * 9'000'000u);
  EXPECT_LT(loop.now_ns() - start_ns, 10u * 12'000'000u);
}

TEST(Connections, silence_is_a_timeout_after_six_tries) {
  Loop loop(without_balancer({}), [](std::vector<Frame>& frames) { frames.clear(); });
  loop.run(1, 5000);
  const ClientCounts& clients = loop.clients().counts();
  EXPECT_EQ(clients.timed_out, clients.opened);
  EXPECT_EQ(loop.clients().repeated(), 6 * clients.opened);
}

}  // namespace
}  // namespace millrace::pktgen
