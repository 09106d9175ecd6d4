// SPDX-License-Identifier: Apache-2.0
//
// Captures: reading the file, and giving its frames other addresses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "bench/pktgen/capture.h"
#include "bench/pktgen/frame_rewrite.h"
#include "bench/pktgen/packet_template.h"
#include "dataplane/core/wire.h"
#include "tests/support/cc/frame_check.h"
#include "tests/support/cc/image_builder.h"
#include "tests/support/cc/temp_dir.h"

namespace millrace::pktgen {
namespace {

using Checksum = test::FrameFacts::Checksum;
using testing::HasSubstr;

constexpr std::uint32_t kFrameBytesMax = 2048;

class CaptureFile {
 public:
  explicit CaptureFile(bool is_swapped = false) : is_swapped_(is_swapped) {}

  CaptureFile& header(std::uint32_t magic = 0xa1b2c3d4, std::uint32_t link = 1) {
    for (const std::uint32_t word : {magic, 0x00040002u, 0u, 0u, 65535u, link}) put(word);
    return *this;
  }
  CaptureFile& frame(const Frame& frame, std::uint32_t missing_bytes = 0) {
    const auto bytes = static_cast<std::uint32_t>(frame.size());
    for (const std::uint32_t word : {1u, 2u, bytes, bytes + missing_bytes}) put(word);
    content_.append(frame.begin(), frame.end());
    return *this;
  }
  CaptureFile& cut(std::size_t bytes) {
    content_.resize(content_.size() - bytes);
    return *this;
  }
  [[nodiscard]] Result<std::vector<Frame>> read() const {
    const std::string path = directory_.file("some.pcap");
    std::ofstream(path, std::ios::binary) << content_;
    return read_capture(path, kFrameBytesMax);
  }
  [[nodiscard]] std::string error() const {
    const auto frames = read();
    return frames ? "" : frames.error().message;
  }

 private:
  void put(std::uint32_t word) {
    if (is_swapped_) word = __builtin_bswap32(word);
    for (int i = 0; i < 4; ++i) content_ += static_cast<char>(word >> (8 * i));
  }

  test::TempDir directory_;
  bool is_swapped_;
  std::string content_;
};

TEST(Capture, frames_are_read_in_either_byte_order_and_resolution) {
  const Frame first{1, 2, 3};
  const Frame second(100, 7);
  for (const bool is_swapped : {false, true}) {
    for (const std::uint32_t magic : {0xa1b2c3d4u, 0xa1b23c4du}) {
      const auto frames = CaptureFile(is_swapped).header(magic).frame(first).frame(second).read();
      ASSERT_TRUE(frames.has_value()) << frames.error().message;
      EXPECT_EQ(*frames, (std::vector<Frame>{first, second}));
    }
  }
}

TEST(Capture, unusable_file_is_refused_with_what_is_wrong) {
  const Frame frame(60, 1);
  EXPECT_THAT(CaptureFile().error(), HasSubstr("empty or too short"));
  EXPECT_THAT(CaptureFile().header(0x0a0d0d0a).error(), HasSubstr("editcap"));
  EXPECT_THAT(CaptureFile().header(0x12345678).error(), HasSubstr("not a pcap file"));
  EXPECT_THAT(CaptureFile().header(0xa1b2c3d4, 113).error(), HasSubstr("link type 113"));
  EXPECT_THAT(CaptureFile().header().error(), HasSubstr("no frames"));
  EXPECT_THAT(CaptureFile().header().frame(frame).cut(1).error(), HasSubstr("frame 1 is cut"));
  EXPECT_THAT(CaptureFile().header().frame(frame).frame(frame).cut(61).error(),
              HasSubstr("frame 2 is cut"));
  EXPECT_THAT(CaptureFile().header().frame(frame, 20).error(), HasSubstr("tcpdump -s 0"));
  EXPECT_THAT(CaptureFile().header().frame(Frame(2049)).error(), HasSubstr("2049 bytes"));
}

Frame packet(Protocol protocol, bool is_v4, std::uint16_t vlan) {
  const Headers headers{.vlan = vlan,
                        .protocol = protocol,
                        .tcp_flags = MR_TCP_ACK,
                        .clients = {.first = test::addr_of(is_v4 ? "192.0.2.77" : "2001:db8:7::77"),
                                    .address_count = 1},
                        .destination = test::addr_of(is_v4 ? "192.0.2.1" : "2001:db8:7::1"),
                        .destination_port = 80};
  Frame frame(kFrameBytesMax);
  PacketTemplate(headers, false).write(frame.data(), {.flow = 5, .frame_bytes = 90, .mark = {}});
  frame.resize(90);
  return frame;
}

FrameRewrite rewrite_to(bool is_v4) {
  return {.source_mac = {2, 0, 0, 0, 0, 2},
          .destination_mac = {2, 0, 0, 0, 0, 1},
          .destination = test::addr_of(is_v4 ? "203.0.113.10" : "2001:db8:113::10"),
          .clients = Clients{.first = test::addr_of(is_v4 ? "198.18.0.0" : "2001:db8:1::"),
                             .address_count = 8}};
}

TEST(FrameRewrite, gives_new_addresses_and_keeps_checksums_right) {
  for (const Protocol protocol : {Protocol::udp, Protocol::tcp, Protocol::icmp}) {
    for (const bool is_v4 : {true, false}) {
      for (const std::uint16_t vlan : {0, 100}) {
        Frame frame = packet(protocol, is_v4, vlan);
        const FrameRewrite rewrite = rewrite_to(is_v4);
        rewrite_frame(frame, rewrite);
        EXPECT_TRUE(std::equal(frame.begin(), frame.begin() + 6, rewrite.destination_mac.begin()));
        if (vlan != 0) frame.erase(frame.begin() + 12, frame.begin() + 16);
        const auto facts = test::facts_of(frame);
        EXPECT_EQ(facts.ip_checksum, is_v4 ? Checksum::right : Checksum::none);
        EXPECT_EQ(facts.l4_checksum, Checksum::right);
        // 0x4d (77) and 0x77, modulo 8
        const std::uint8_t* last = &frame[is_v4 ? 29 : 37];
        EXPECT_EQ(*last, is_v4 ? 5 : 7);
        EXPECT_EQ(frame[is_v4 ? 33 : 53], is_v4 ? 10 : 0x10);
      }
    }
  }
}

TEST(FrameRewrite, wrong_checksum_stays_wrong) {
  Frame frame = packet(Protocol::tcp, true, 0);
  frame[80] ^= 1;
  rewrite_frame(frame, rewrite_to(true));
  EXPECT_EQ(test::facts_of(frame).l4_checksum, Checksum::wrong);
}

TEST(FrameRewrite, udp_without_a_checksum_stays_without) {
  Frame frame = packet(Protocol::udp, true, 0);
  frame[40] = frame[41] = 0;
  rewrite_frame(frame, rewrite_to(true));
  EXPECT_EQ(frame[40] | frame[41], 0);
}

TEST(FrameRewrite, other_family_and_other_protocols_keep_all_but_their_macs) {
  Frame frame = packet(Protocol::udp, true, 0);
  const Frame before = frame;
  rewrite_frame(frame, rewrite_to(false));
  EXPECT_TRUE(std::equal(frame.begin() + 12, frame.end(), before.begin() + 12));
  Frame arp(60);
  arp[12] = 8;
  arp[13] = 6;
  rewrite_frame(arp, rewrite_to(true));
  EXPECT_EQ(std::count(arp.begin() + 14, arp.end(), 0), 46);
  Frame runt{1, 2, 3};
  rewrite_frame(runt, rewrite_to(true));
  EXPECT_EQ(runt, (Frame{1, 2, 3}));
}

}  // namespace
}  // namespace millrace::pktgen
