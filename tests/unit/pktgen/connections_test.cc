// SPDX-License-Identifier: Apache-2.0
//
// Connections between clients and emulated targets: over a good network, a bad one, the real
// Forwarder, and balancers that do what none must.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "bench/pktgen/delay_queue.h"
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
      .tcp_flags = is_tcp ? core::tcp::kAck : std::uint8_t{0},
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
    std::vector<Frame> forwarded;
    for (std::size_t at = 0; at < frames.size(); at += core::kBurstMax) {
      core::Burst burst;
      burst.count =
          static_cast<std::uint32_t>(std::min<std::size_t>(core::kBurstMax, frames.size() - at));
      for (std::uint32_t i = 0; i < burst.count; ++i) {
        Frame& frame = frames[at + i];
        burst.packets[i] = {.data = frame.data(),
                            .length = static_cast<std::uint32_t>(frame.size()),
                            .headroom = 0,
                            .nic = 0,
                            .reserved = 0};
      }
      forwarder_.process_burst(burst, now_ns_ += 1000);
      for (std::uint32_t i = 0; i < burst.count; ++i) {
        if (burst.verdicts[i].kind == core::VerdictKind::forward) {
          forwarded.push_back(std::move(frames[at + i]));
        }
      }
    }
    frames = std::move(forwarded);
  }

 private:
  static constexpr std::uint32_t kCapacity = 4096;
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
    const std::uint32_t group = builder.add_group({});
    const std::string prefix = loop_case.is_v4 ? "10.0.1." : "2001:db8:1::";
    for (int i = 1; i <= 16; ++i) {
      std::string last = std::to_string(i);
      if (!loop_case.is_v4 && i >= 10) last = i == 16 ? "10" : std::string(1, char('a' + i - 10));
      builder.add_target({.group_slot = group,
                          .addr = test::addr_of(prefix + last),
                          .port = 8080,
                          .protocol = protocol});
    }
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
                    LoopCase{.protocol = Protocol::udp, .request_count = 4, .think_ms = 3}));

TEST(Connections, flow_that_is_busy_in_its_turn_is_counted_and_not_waited_for) {
  Connections connections = without_balancer({.request_count = 2, .think_ms = 1000});
  connections.flow_count = 100;
  Loop loop(connections);
  loop.run(50, 0);
  EXPECT_EQ(loop.clients().counts().opened, 100u);
  EXPECT_GT(loop.clients().counts().flow_busy, 300u);
}

TEST(Connections, silence_is_a_timeout_after_six_tries) {
  Loop loop(without_balancer({}), [](std::vector<Frame>& frames) { frames.clear(); });
  loop.run(1, 5000);
  const ClientCounts& clients = loop.clients().counts();
  EXPECT_EQ(clients.timed_out, clients.opened);
  EXPECT_EQ(loop.clients().repeated(), 6 * clients.opened);
}

// ---- what none must do

void fix_checksums(Frame& frame) {
  std::uint8_t* ip = frame.data() + core::eth::kBytes;
  core::store(ip + core::ipv4::kChecksum, std::uint16_t{0});
  core::store(ip + core::ipv4::kChecksum,
              static_cast<std::uint16_t>(~core::fold(core::sum_bytes({ip, 20}))));
  std::uint8_t* l4 = ip + 20;
  const std::size_t bytes = core::from_be16(core::load<std::uint16_t>(ip + 2)) - 20u;
  core::store(l4 + core::tcp::kChecksum, std::uint16_t{0});
  core::store(l4 + core::tcp::kChecksum,
              core::transport_checksum({ip + 12, 4}, {ip + 16, 4}, 6, {l4, bytes}));
}

bool is_from_client(const Frame& frame) { return frame[26] == 198; }
bool has_flag(const Frame& frame, std::uint8_t flag) { return (frame[47] & flag) != 0; }
std::size_t payload_bytes_of(const Frame& frame) {
  return core::from_be16(core::load<std::uint16_t>(&frame[16])) - 40u;
}

// One connection, with `damage` done to the first frame that `is_meant`.
std::uint64_t violations_after(
    Violation kind, const std::function<bool(const Frame&)>& is_meant,
    const std::function<void(std::vector<Frame>&, std::size_t)>& damage) {
  Connections connections = without_balancer({});
  connections.rate.per_second = 1;
  bool is_done = false;
  Loop loop(connections, [&](std::vector<Frame>& frames) {
    for (std::size_t i = 0; i < frames.size() && !is_done; ++i) {
      if (!is_meant(frames[i])) continue;
      is_done = true;
      damage(frames, i);
      break;
    }
  });
  loop.run(1, 5000);
  EXPECT_TRUE(is_done);
  EXPECT_EQ(loop.violations(), loop.violations(kind));
  return loop.violations(kind);
}

bool is_request(const Frame& frame) { return is_from_client(frame) && payload_bytes_of(frame) > 0; }

void set_last(Frame& frame, std::size_t at, std::uint8_t value) {
  frame[at] = value;
  fix_checksums(frame);
}

TEST(Violations, packet_to_another_target_within_a_connection_has_moved) {
  EXPECT_EQ(violations_after(Violation::moved, is_request,
                             [](auto& frames, auto at) { set_last(frames[at], 33, 2); }),
            1u);
}

TEST(Violations, repeated_syn_must_reach_the_same_target) {
  const auto is_syn_ack = [](const Frame& frame) {
    return has_flag(frame, core::tcp::kSyn) && has_flag(frame, core::tcp::kAck);
  };
  Connections connections = without_balancer({});
  connections.rate.per_second = 1;
  int syns = 0;
  Loop loop(connections, [&](std::vector<Frame>& frames) {
    for (Frame& frame : frames) {
      if (is_from_client(frame) && has_flag(frame, core::tcp::kSyn) && ++syns == 2) {
        set_last(frame, 33, 2);
      }
    }
    if (syns == 1) std::erase_if(frames, is_syn_ack);
  });
  loop.run(1, 5000);
  EXPECT_EQ(loop.violations(Violation::moved), 1u);
  EXPECT_EQ(loop.clients().counts().completed, 1u);
}

TEST(Violations, destination_that_is_no_target_is_wrong) {
  const auto address = [](auto& frames, auto at) { set_last(frames[at], 33, 17); };
  EXPECT_EQ(violations_after(Violation::wrong_destination, is_request, address), 1u);
  const auto port = [](auto& frames, auto at) { set_last(frames[at], 37, 81); };
  EXPECT_EQ(violations_after(Violation::wrong_destination, is_request, port), 1u);
}

TEST(Violations, source_that_is_no_client_or_not_the_vip_is_wrong) {
  EXPECT_EQ(violations_after(Violation::wrong_source, is_request,
                             [](auto& frames, auto at) { set_last(frames[at], 29, 200); }),
            1u);
  const auto is_response = [](const Frame& frame) { return !is_from_client(frame); };
  EXPECT_EQ(violations_after(Violation::wrong_source, is_response,
                             [](auto& frames, auto at) { set_last(frames[at], 29, 9); }),
            1u);
}

TEST(Violations, checksum_that_does_not_hold_is_seen_by_both_sides) {
  const auto flip = [](auto& frames, auto at) { frames[at][50] ^= 1; };
  EXPECT_EQ(violations_after(Violation::bad_checksum, is_request, flip), 1u);
  const auto is_response = [](const Frame& frame) { return !is_from_client(frame); };
  EXPECT_EQ(violations_after(Violation::bad_checksum, is_response, flip), 1u);
}

TEST(Violations, packet_that_comes_twice_is_out_of_order) {
  const auto repeat = [](auto& frames, auto at) { frames.push_back(frames[at]); };
  EXPECT_EQ(violations_after(Violation::out_of_order, is_request, repeat), 1u);
}

TEST(Violations, overtaken_packet_is_out_of_order) {
  Connections connections = without_balancer({.response_bytes = 10'000});
  connections.rate.per_second = 1;
  bool is_done = false;
  Loop loop(connections, [&](std::vector<Frame>& frames) {
    if (is_done || frames.size() < 3 || is_from_client(frames[0])) return;
    std::swap(frames[0], frames[1]);
    is_done = true;
  });
  loop.run(1, 5000);
  EXPECT_EQ(loop.violations(Violation::out_of_order), 1u);
  EXPECT_EQ(loop.violations(), 1u);
  EXPECT_EQ(loop.clients().counts().completed, 1u);
}

TEST(Violations, bytes_of_another_connection_are_wrong_content) {
  const auto restamp = [](auto& frames, auto at) { set_last(frames[at], 58, 77); };
  EXPECT_EQ(violations_after(Violation::wrong_content, is_request, restamp), 1u);
  const auto is_response = [](const Frame& frame) {
    return !is_from_client(frame) && payload_bytes_of(frame) > 0;
  };
  EXPECT_EQ(violations_after(Violation::wrong_content, is_response, restamp), 1u);
}

TEST(Violations, acknowledgement_of_what_was_never_sent_is_unexpected) {
  EXPECT_EQ(violations_after(Violation::unexpected, is_request,
                             [](auto& frames, auto at) {
                               Frame& frame = frames[at];
                               const auto acked =
                                   core::from_be32(core::load<std::uint32_t>(&frame[42]));
                               core::store(&frame[42], core::to_be32(acked + 1000));
                               fix_checksums(frame);
                             }),
            1u);
}

TEST(Violations, middle_of_a_connection_that_no_target_knows_is_unexpected) {
  const auto is_syn = [](const Frame& frame) { return has_flag(frame, core::tcp::kSyn); };
  EXPECT_EQ(violations_after(Violation::unexpected, is_syn,
                             [](auto& frames, auto at) {
                               Frame stray = frames[at];
                               stray[25 + 4] = 1;  // still a client's
                               stray[35] ^= 1;     // another flow
                               stray[47] = core::tcp::kAck;
                               fix_checksums(stray);
                               frames.push_back(stray);
                             }),
            1u);
}

TEST(Violations, reset_ends_the_connection_and_is_counted_apart) {
  Connections connections = without_balancer({});
  connections.rate.per_second = 1;
  Loop loop(connections, [&](std::vector<Frame>& frames) {
    for (Frame& frame : frames) {
      if (is_from_client(frame) || payload_bytes_of(frame) == 0) continue;
      frame[47] = core::tcp::kRst | core::tcp::kAck;
      fix_checksums(frame);
    }
  });
  loop.run(1, 5000);
  EXPECT_EQ(loop.clients().counts().reset, 1u);
  EXPECT_EQ(loop.violations(), 0u);
}

}  // namespace
}  // namespace millrace::pktgen
