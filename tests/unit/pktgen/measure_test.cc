// SPDX-License-Identifier: Apache-2.0
//
// When packets are due, and what the receiver makes of what comes back.
#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "bench/pktgen/packet_template.h"
#include "bench/pktgen/rate_clock.h"
#include "bench/pktgen/receiver.h"
#include "bench/pktgen/sequence_window.h"
#include "dataplane/core/nanoseconds.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::pktgen {
namespace {

// Packets that leave in [0, seconds) when the clock is looked at every `step_ns`.
std::uint64_t packets_sent(const Rate& rate, std::uint32_t frame_bytes, std::uint64_t step_ns) {
  RateClock clock(rate);
  clock.start(0);
  std::uint64_t packets = 0;
  for (std::uint64_t now_ns = 0; now_ns < kSecondNs; now_ns += step_ns) {
    clock.give_up_lost_time(now_ns);
    for (; clock.is_due(now_ns); ++packets) clock.charge(frame_bytes);
  }
  EXPECT_EQ(clock.given_up_ns(), 0u);
  return packets;
}

TEST(RateClock, keeps_a_packet_rate_to_the_packet) {
  for (const double rate : {1.0, 3.0, 1000.0, 14'880'952.0}) {
    const auto sent = packets_sent({Rate::Unit::packets, rate}, 60, 1000);
    EXPECT_NEAR(static_cast<double>(sent), rate, 1 + rate / 1e6) << rate;
  }
}

TEST(RateClock, ten_gigabits_are_line_rate_at_every_size) {
  const Rate rate{Rate::Unit::bits, 10e9};
  EXPECT_NEAR(static_cast<double>(packets_sent(rate, 60, 1000)), 14'880'952, 16);
  EXPECT_NEAR(static_cast<double>(packets_sent(rate, 1514, 1000)), 812'743, 2);
}

TEST(RateClock, late_packets_leave_at_once_and_the_schedule_stays) {
  RateClock clock({Rate::Unit::packets, 1e6});
  clock.start(0);
  std::uint32_t due = 0;
  for (; clock.is_due(10'500); ++due) clock.charge(60);
  EXPECT_EQ(due, 11u);  // at 0, 1000, ..., 10000
  EXPECT_FALSE(clock.is_due(10'999));
  EXPECT_TRUE(clock.is_due(11'000));
}

TEST(RateClock, what_cannot_be_caught_up_is_given_up_and_said) {
  RateClock clock({Rate::Unit::packets, 1e6});
  clock.start(0);
  clock.give_up_lost_time(RateClock::kBehindMaxNs);
  EXPECT_EQ(clock.given_up_ns(), 0u);
  clock.give_up_lost_time(RateClock::kBehindMaxNs + 1);
  EXPECT_EQ(clock.given_up_ns(), RateClock::kBehindMaxNs + 1);
  clock.charge(60);
  EXPECT_FALSE(clock.is_due(RateClock::kBehindMaxNs + 500));
}

TEST(SequenceWindow, counts_each_number_once_in_any_order) {
  SequenceWindow window;
  for (const std::uint64_t sequence : {0, 1, 4, 2, 3, 5}) window.record(sequence);
  EXPECT_EQ(window.unique(), 6u);
  EXPECT_EQ(window.reordered(), 2u);  // 2 and 3 came after 4
  EXPECT_EQ(window.duplicates(), 0u);
}

TEST(SequenceWindow, second_arrival_is_a_duplicate_and_no_arrival) {
  SequenceWindow window;
  for (const std::uint64_t sequence : {0, 1, 1, 0, 2, 2}) window.record(sequence);
  EXPECT_EQ(window.unique(), 3u);
  EXPECT_EQ(window.duplicates(), 3u);
  EXPECT_EQ(window.reordered(), 0u);
}

TEST(SequenceWindow, forgets_what_is_further_back_than_its_window) {
  SequenceWindow window;
  window.record(0);
  window.record(SequenceWindow::kWindow);  // takes the place of 0
  EXPECT_EQ(window.duplicates(), 0u);
  window.record(1);  // the oldest place
  EXPECT_EQ(window.reordered(), 1u);
  window.record(0);
  EXPECT_EQ(window.stale(), 1u);
  window.record(10 * SequenceWindow::kWindow);
  window.record(10 * SequenceWindow::kWindow - 1);
  EXPECT_EQ(window.duplicates(), 0u);
  EXPECT_EQ(window.unique(), 5u);
}

// ---- receiver

class ReceiverTest : public testing::Test {
 protected:
  // As sent at 1000 ns, received 500 ns later.
  void receive(std::uint64_t sequence, std::uint8_t stream = 0,
               const std::function<void(std::vector<std::uint8_t>&)>& damage = {}) {
    const Headers headers{.protocol = Protocol::udp,
                          .clients = {.first = test::addr_of("198.18.0.1")},
                          .destination = test::addr_of("203.0.113.10"),
                          .destination_port = 53};
    std::vector<std::uint8_t> frame(2048);
    const Mark mark{.stream = stream, .sequence = sequence, .sent_ns = 1000};
    PacketTemplate(headers, true)
        .write(frame.data(), {.flow = 0, .frame_bytes = 80, .mark = words_of(mark)});
    frame.resize(80);
    if (damage) damage(frame);
    core::Burst burst;
    burst.count = 1;
    burst.packets[0] = {.data = frame.data(),
                        .length = static_cast<std::uint32_t>(frame.size()),
                        .headroom = 0,
                        .nic = 0,
                        .reserved = 0};
    receiver_.receive(burst, 1500);
  }

  Receiver receiver_{2, true};
};

TEST_F(ReceiverTest, knows_stream_number_and_latency) {
  receive(0, 0);
  receive(0, 1);
  receive(1, 1);
  EXPECT_EQ(receiver_.streams()[0].packets, 1u);
  EXPECT_EQ(receiver_.streams()[1].sequence.unique(), 2u);
  EXPECT_EQ(receiver_.streams()[1].latency_ns.max(), 500u);
  EXPECT_EQ(receiver_.bytes(), 240u);
}

TEST_F(ReceiverTest, sees_the_mark_behind_a_vlan_tag) {
  receive(0, 0, [](std::vector<std::uint8_t>& frame) {
    const std::uint8_t tag[] = {0x81, 0x00, 0x00, 0x64};
    frame.insert(frame.begin() + 12, std::begin(tag), std::end(tag));
  });
  EXPECT_EQ(receiver_.streams()[0].packets, 1u);
}

TEST_F(ReceiverTest, wrong_checksum_is_counted_and_is_no_arrival) {
  receive(0, 0, [](std::vector<std::uint8_t>& frame) { frame[70] ^= 1; });
  EXPECT_EQ(receiver_.corrupt(), 1u);
  EXPECT_EQ(receiver_.streams()[0].packets, 0u);
}

TEST_F(ReceiverTest, packets_of_others_are_counted_apart) {
  receive(0, 2);  // no such stream
  receive(0, 0, [](std::vector<std::uint8_t>& frame) { frame[12] = 0x99; });
  receive(0, 0, [](std::vector<std::uint8_t>& frame) { frame[42] = 0; });  // no mark
  receive(0, 0, [](std::vector<std::uint8_t>& frame) { frame.resize(20); });
  EXPECT_EQ(receiver_.unmarked(), 4u);
  EXPECT_EQ(receiver_.packets(), 4u);
}

}  // namespace
}  // namespace millrace::pktgen
