// SPDX-License-Identifier: Apache-2.0
//
// Every kind of packet that the generator makes, held against two readers that share nothing with
// it: the plain checker of tests/support and, for what it is to a balancer, core::parse.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "bench/pktgen/malformed.h"
#include "bench/pktgen/packet_template.h"
#include "bench/pktgen/stream_source.h"
#include "dataplane/core/parse.h"
#include "tests/support/cc/frame_check.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::pktgen {
namespace {

using Checksum = test::FrameFacts::Checksum;

constexpr std::uint32_t kRoomBytes = 2048;

Headers headers_of(Protocol protocol, bool is_v4, std::uint16_t vlan = 0) {
  return {.source_mac = {2, 0, 0, 0, 0, 2},
          .destination_mac = {2, 0, 0, 0, 0, 1},
          .vlan = vlan,
          .protocol = protocol,
          .tcp_flags = MR_TCP_ACK,
          .ttl = 64,
          .clients = {.first = test::addr_of(is_v4 ? "198.18.255.250" : "2001:db8::ffff:fffa"),
                      .address_count = 10,
                      .port_first = 65000,
                      .port_count = 536},
          .destination = test::addr_of(is_v4 ? "203.0.113.10" : "2001:db8:113::10"),
          .destination_port = 53};
}

// The frame without its VLAN tag, for readers that know none.
std::vector<std::uint8_t> untagged(const std::vector<std::uint8_t>& frame, bool is_tagged) {
  std::vector<std::uint8_t> bare(frame.begin(), frame.begin() + 12);
  bare.insert(bare.end(), frame.begin() + (is_tagged ? 16 : 12), frame.end());
  return bare;
}

core::Parsed parsed_of(std::vector<std::uint8_t>& frame) {
  core::Parsed parsed{};
  core::parse({.data = frame.data(),
               .length = static_cast<std::uint32_t>(frame.size()),
               .headroom = 0,
               .nic = 0,
               .reserved = 0},
              parsed);
  return parsed;
}

class EveryShape : public testing::TestWithParam<std::tuple<Protocol, bool, std::uint16_t, bool>> {
};

TEST_P(EveryShape, has_right_headers_and_checksums_for_any_flow_size_and_mark) {
  const auto [protocol, is_v4, vlan, is_measured] = GetParam();
  const Headers headers = headers_of(protocol, is_v4, vlan);
  const PacketTemplate built(headers, is_measured);
  Random random(7);
  std::vector<std::uint8_t> memory(kRoomBytes);
  for (std::uint32_t i = 0; i < 2000; ++i) {
    const std::uint32_t flow = i < 100 ? i : random.below(5360);
    const std::uint32_t bytes =
        i < 100 ? built.frame_bytes_min() : built.frame_bytes_min() + random.below(1400);
    const Mark mark{.stream = 3, .sequence = random.next() >> 24, .sent_ns = random.next()};
    built.write(memory.data(), {.flow = flow,
                                .frame_bytes = bytes,
                                .mark = is_measured ? words_of(mark) : MarkWords{0, 0}});
    auto frame = untagged({memory.begin(), memory.begin() + bytes}, vlan != 0);
    const auto facts = test::facts_of(frame);
    ASSERT_TRUE(facts.is_ip);
    ASSERT_EQ(facts.ip_checksum, is_v4 ? Checksum::right : Checksum::none) << "flow " << flow;
    ASSERT_EQ(facts.l4_checksum, Checksum::right) << "flow " << flow << " bytes " << bytes;
    ASSERT_EQ(facts.ip_bytes + 14, frame.size());

    const core::Parsed parsed = parsed_of(frame);
    ASSERT_EQ(parsed.shape,
              protocol == Protocol::icmp ? core::Shape::icmp : core::Shape::transport);
    const std::uint32_t host = core::from_be32(core::v4_of(headers.clients.first)) + flow / 536;
    EXPECT_EQ(core::v4_of(core::addr_of(parsed.source)), core::to_be32(host));
    EXPECT_EQ(parsed.destination, core::words_of(headers.destination));
    if (protocol != Protocol::icmp) {
      EXPECT_EQ(core::from_be16(parsed.source_port_be()), 65000 + flow % 536);
      EXPECT_EQ(core::from_be16(parsed.destination_port_be()), 53);
    }
    Mark read;
    const std::uint32_t payload = parsed.l4_offset() + (protocol == Protocol::tcp ? 20 : 8);
    ASSERT_EQ(is_measured && read_mark(&frame[payload], read), is_measured);
    if (is_measured) {
      EXPECT_EQ(read, mark);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    all, EveryShape,
    testing::Combine(testing::Values(Protocol::udp, Protocol::tcp, Protocol::icmp), testing::Bool(),
                     testing::Values(0, 100), testing::Bool()));

TEST(PacketTemplate, segment_that_opens_a_connection_has_padding_and_no_payload) {
  Headers headers = headers_of(Protocol::tcp, true);
  headers.tcp_flags = MR_TCP_SYN;
  const PacketTemplate built(headers, false);
  std::vector<std::uint8_t> frame(kRoomBytes);
  built.write(frame.data(), {.flow = 0, .frame_bytes = 60, .mark = {}});
  frame.resize(60);
  EXPECT_EQ(test::facts_of(frame).ip_bytes, 40u);
  EXPECT_EQ(test::facts_of(frame).l4_checksum, Checksum::right);
  EXPECT_EQ(parsed_of(frame).tcp_flags, MR_TCP_SYN);
}

TEST(PacketTemplate, udp_checksum_that_would_be_zero_is_sent_as_all_ones) {
  const PacketTemplate built(headers_of(Protocol::udp, true), true);
  std::vector<std::uint8_t> frame(kRoomBytes);
  std::uint32_t all_ones = 0;
  for (std::uint64_t i = 0; i < 200'000; ++i) {
    built.write(frame.data(), {.flow = 0, .frame_bytes = 60, .mark = {i, 0}});
    const auto checksum = core::load<std::uint16_t>(&frame[34 + MR_UDP_CHECKSUM]);
    ASSERT_NE(checksum, 0);
    all_ones += checksum == 0xffff;
  }
  EXPECT_GT(all_ones, 0u);
}

// ---- malformed

struct Expected {
  core::Shape shape;
  std::uint8_t reason;
};

// What core::parse says of each, for those that it is for the parser to refuse.
const std::map<std::string, Expected>& refusals() {
  using enum core::Shape;
  static const std::map<std::string, Expected> expected = {
      {"ethernet-header-alone", {drop, MR_DROP_BAD_IP_HEADER}},
      {"ip-header-cut", {drop, MR_DROP_BAD_IP_HEADER}},
      {"ipv4-header-length-4", {drop, MR_DROP_BAD_IP_HEADER}},
      {"ipv4-header-beyond-total-length", {drop, MR_DROP_BAD_IP_HEADER}},
      {"ipv4-total-length-beyond-frame", {drop, MR_DROP_BAD_IP_HEADER}},
      {"ipv4-total-length-below-header", {drop, MR_DROP_BAD_IP_HEADER}},
      {"ipv4-version-5", {drop, MR_DROP_BAD_IP_HEADER}},
      {"ipv6-version-5", {drop, MR_DROP_BAD_IP_HEADER}},
      {"ipv6-payload-beyond-frame", {drop, MR_DROP_BAD_IP_HEADER}},
      {"ipv4-checksum-wrong", {drop, MR_DROP_BAD_IP_CHECKSUM}},
      // Others follow it, but it does not end at a multiple of 8 bytes.
      {"ipv4-fragment-first", {suspicious, MR_DROP_FRAGMENT}},
      {"ipv4-fragment-later", {fragment, 0}},
      {"ipv4-fragment-last-of-64-kb", {suspicious, MR_DROP_FRAGMENT}},
      {"ipv6-fragment-first", {suspicious, MR_DROP_FRAGMENT}},
      {"ipv6-fragment-later", {fragment, 0}},
      {"ipv6-fragment-atomic", {suspicious, MR_DROP_BAD_L4}},
      {"ipv6-extension-beyond-payload", {suspicious, MR_DROP_IPV6_EXTENSION}},
      {"tcp-cut", {suspicious, MR_DROP_BAD_L4}},
      {"udp-cut", {suspicious, MR_DROP_BAD_L4}},
      {"tcp-data-offset-4", {suspicious, MR_DROP_BAD_L4}},
      {"tcp-data-offset-beyond-payload", {suspicious, MR_DROP_BAD_L4}},
      {"udp-length-7", {suspicious, MR_DROP_BAD_L4}},
      {"udp-length-beyond-payload", {suspicious, MR_DROP_BAD_L4}},
      {"icmp-too-big-forged", {icmp, 0}},
      {"icmp-too-big-inner-cut", {icmp, 0}},
      {"echo-request", {icmp, 0}},
      {"ethertype-unknown", {not_ip, 0}},
      {"llc-length", {not_ip, 0}},
      {"vlan-tags-more-1", {not_ip, 0}},
      {"ethernet-padding", {transport, 0}},
      {"ttl-0", {transport, 0}},
      {"hop-limit-1", {transport, 0}},
      {"tcp-checksum-wrong", {transport, 0}},
  };
  return expected;
}

// By the beginning of the name, for families of frames.
Expected family_of(const std::string& name) {
  using enum core::Shape;
  const auto begins = [&](const char* with) { return name.rfind(with, 0) == 0; };
  if (begins("ipv4-option")) return {suspicious, MR_DROP_IP_OPTIONS};
  if (begins("ipv6-")) return {suspicious, MR_DROP_IPV6_EXTENSION};
  if (begins("tcp-flags")) return {suspicious, MR_DROP_BAD_TCP_FLAGS};
  if (begins("source-")) return {suspicious, MR_DROP_MARTIAN};
  if (begins("tunnel-") || begins("protocol-")) return {suspicious, MR_DROP_UNSUPPORTED_PROTOCOL};
  if (begins("vlan-")) return {not_ip, 0};
  if (begins("icmp-")) return {icmp, 0};
  return {transport, 0};
}

TEST(MalformedFrames, are_what_their_names_say) {
  for (const bool is_v4 : {true, false}) {
    for (MalformedFrame& made : malformed_frames(headers_of(Protocol::udp, is_v4))) {
      const auto known = refusals().find(made.name);
      const Expected expected = known != refusals().end() ? known->second : family_of(made.name);
      const core::Parsed parsed = parsed_of(made.frame);
      EXPECT_EQ(parsed.shape, expected.shape) << made.name << (is_v4 ? " IPv4" : " IPv6");
      const bool has_reason =
          expected.shape == core::Shape::drop || expected.shape == core::Shape::suspicious;
      if (has_reason) {
        EXPECT_EQ(parsed.reason, expected.reason) << made.name;
      }
    }
  }
}

TEST(MalformedFrames, have_only_those_checksums_wrong_that_they_are_about) {
  for (const bool is_v4 : {true, false}) {
    for (const MalformedFrame& made : malformed_frames(headers_of(Protocol::udp, is_v4))) {
      const auto facts = test::facts_of(made.frame);
      if (made.name == "ipv4-checksum-wrong") {
        EXPECT_EQ(facts.ip_checksum, Checksum::wrong);
        continue;
      }
      EXPECT_NE(facts.ip_checksum, Checksum::wrong) << made.name;
      if (made.fault == 10) {
        EXPECT_EQ(facts.l4_checksum, Checksum::wrong) << made.name;
      }
      if (made.fault == 9 || made.fault == 12 || made.fault == 15 || made.fault == 16) {
        EXPECT_EQ(facts.l4_checksum, Checksum::right) << made.name << is_v4;
      }
    }
  }
}

TEST(MalformedFrames, cover_every_packet_fault_of_the_list_under_names_of_their_own) {
  std::set<int> faults;
  for (const bool is_v4 : {true, false}) {
    std::set<std::string> names;
    for (const MalformedFrame& made : malformed_frames(headers_of(Protocol::udp, is_v4))) {
      EXPECT_TRUE(names.insert(made.name).second) << made.name;
      EXPECT_GE(made.frame.size(), 14u) << made.name;
      faults.insert(made.fault);
    }
  }
  std::set<int> wanted;
  for (int fault = 1; fault <= 18; ++fault) wanted.insert(fault);
  EXPECT_EQ(faults, wanted);
}

// ---- a whole stream

Stream stream_of(std::vector<std::uint16_t> sizes, std::uint32_t flows) {
  Stream stream{.name = "udp",
                .headers = headers_of(Protocol::udp, true),
                .sizes = std::move(sizes),
                .flows = {.count = flows, .order = FlowOrder::random},
                .rate = {.unit = Rate::Unit::packets, .per_second = 1e6},
                .capture = {}};
  return stream;
}

std::vector<std::vector<std::uint8_t>> first_frames(const Stream& stream, std::uint64_t seed) {
  auto source = StreamSource::make(stream, {.index = 0, .seed = seed});
  EXPECT_TRUE(source.has_value());
  source->start(0);
  std::vector<std::vector<std::uint8_t>> frames;
  std::vector<std::uint8_t> memory(kRoomBytes);
  for (std::uint64_t now_ns = 0; frames.size() < 1000; now_ns += 10'000) {
    for (std::uint32_t left = source->plan(now_ns); left > 0; --left) {
      const std::uint32_t bytes = source->write_next(memory.data(), now_ns);
      frames.emplace_back(memory.begin(), memory.begin() + bytes);
    }
  }
  return frames;
}

TEST(StreamSource, same_seed_makes_the_same_packets_and_another_seed_others) {
  const Stream stream = stream_of({60, 590, 1514}, 5000);
  EXPECT_EQ(first_frames(stream, 1), first_frames(stream, 1));
  EXPECT_NE(first_frames(stream, 1), first_frames(stream, 2));
}

TEST(StreamSource, marks_count_up_without_a_gap) {
  std::uint64_t expected = 0;
  for (const auto& frame : first_frames(stream_of({60, 100}, 5), 1)) {
    Mark mark;
    ASSERT_TRUE(read_mark(&frame[42], mark));
    EXPECT_EQ(mark.sequence, expected++);
  }
}

TEST(StreamSource, plan_that_could_not_be_written_waits_and_is_not_made_again) {
  auto source = StreamSource::make(stream_of({60}, 5), {.index = 0, .seed = 1});
  ASSERT_TRUE(source.has_value());
  source->start(0);
  std::vector<std::uint8_t> memory(kRoomBytes);
  ASSERT_EQ(source->plan(3'000), 4u);
  (void)source->write_next(memory.data(), 3'000);  // its length is known
  EXPECT_EQ(source->plan(9'000), 3u);
}

}  // namespace
}  // namespace millrace::pktgen
