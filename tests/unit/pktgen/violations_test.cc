// SPDX-License-Identifier: Apache-2.0
//
// What a balancer must never do, done to connections on purpose: each is seen, and under its name.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "bench/pktgen/l4_checksum.h"
#include "bench/pktgen/segment_reader.h"
#include "dataplane/core/checksum.h"
#include "tests/support/cc/image_builder.h"
#include "tests/unit/pktgen/loop.h"

namespace millrace::pktgen {
namespace {

void fix_checksums(Frame& frame) {
  std::uint8_t* ip = frame.data() + MR_ETH_BYTES;
  core::store(ip + MR_IPV4_CHECKSUM, std::uint16_t{0});
  core::store(ip + MR_IPV4_CHECKSUM,
              static_cast<std::uint16_t>(~mr_fold(core::sum_bytes({ip, 20}))));
  std::uint8_t* l4 = ip + 20;
  const std::size_t bytes = core::from_be16(core::load<std::uint16_t>(ip + 2)) - 20u;
  core::store(l4 + MR_TCP_CHECKSUM, std::uint16_t{0});
  core::store(l4 + MR_TCP_CHECKSUM,
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
    return has_flag(frame, MR_TCP_SYN) && has_flag(frame, MR_TCP_ACK);
  };
  Connections connections = without_balancer({});
  connections.rate.per_second = 1;
  int syns = 0;
  Loop loop(connections, [&](std::vector<Frame>& frames) {
    for (Frame& frame : frames) {
      if (is_from_client(frame) && has_flag(frame, MR_TCP_SYN) && ++syns == 2) {
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
  const auto is_syn = [](const Frame& frame) { return has_flag(frame, MR_TCP_SYN); };
  EXPECT_EQ(violations_after(Violation::unexpected, is_syn,
                             [](auto& frames, auto at) {
                               Frame stray = frames[at];
                               stray[25 + 4] = 1;  // still a client's
                               stray[35] ^= 1;     // another flow
                               stray[47] = MR_TCP_ACK;
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
      frame[47] = MR_TCP_RST | MR_TCP_ACK;
      fix_checksums(frame);
    }
  });
  loop.run(1, 5000);
  EXPECT_EQ(loop.clients().counts().reset, 1u);
  EXPECT_EQ(loop.violations(), 0u);
}

}  // namespace
}  // namespace millrace::pktgen
