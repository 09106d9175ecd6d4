// SPDX-License-Identifier: Apache-2.0
#include "dataplane/core/checksum.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "dataplane/core/answer.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::core {
namespace {

// RFC 1071 section 3: the words 0001 f203 f4f5 f6f7 sum to ddf2.
TEST(checksum, example_of_rfc_1071) {
  const std::vector<std::uint8_t> bytes = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
  EXPECT_EQ(swap16(mr_fold(sum_bytes(bytes))), 0xddf2);
}

// RFC 1624 section 4: checksum dd2f, a word changes from 5555 to 3285; the answer is 0000, which
// the older equation gets wrong as ffff.
TEST(checksum, example_of_rfc_1624) {
  const std::uint16_t delta = mr_checksum_delta(swap16(0x5555), swap16(0x3285));
  EXPECT_EQ(mr_updated_checksum(swap16(0xdd2f), delta), 0x0000);
}

TEST(checksum, odd_length_counts_as_padded_with_zero) {
  const std::vector<std::uint8_t> odd = {1, 2, 3, 4, 5, 6, 7};
  const std::vector<std::uint8_t> even = {1, 2, 3, 4, 5, 6, 7, 0};
  EXPECT_EQ(mr_fold(sum_bytes(odd)), mr_fold(sum_bytes(even)));
}

TEST(announcement, ipv4_is_a_gratuitous_arp_request) {
  std::array<std::uint8_t, kAnnouncementBytesMax> frame{};
  const MacAddr mac{{2, 0, 0, 0, 0, 9}};
  ASSERT_EQ(build_announcement(test::addr_of("203.0.113.10"), mac, frame), 42u);
  const std::vector<std::uint8_t> expected = {
      0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,   0, 0,   0,  0, 9, 0x08, 0x06,  // link header
      0,    1,    8,    0,    6,    4,    0,   1,                             // request
      2,    0,    0,    0,    0,    9,    203, 0, 113, 10,                    // sender
      0,    0,    0,    0,    0,    0,    203, 0, 113, 10};                   // target
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), frame.begin()));
}

TEST(announcement, ipv6_is_an_advertisement_to_all_nodes) {
  std::array<std::uint8_t, kAnnouncementBytesMax> frame{};
  const MacAddr mac{{2, 0, 0, 0, 0, 9}};
  const mr_addr vip = test::addr_of("2001:db8:113::10");
  ASSERT_EQ(build_announcement(vip, mac, frame), kAnnouncementBytesMax);
  const std::uint8_t* ip = frame.data() + MR_ETH_BYTES;
  EXPECT_EQ(frame[0], 0x33);
  EXPECT_EQ(ip[MR_IPV6_HOP_LIMIT], 255);
  EXPECT_EQ(addr_of(words_at(ip + MR_IPV6_SOURCE)).bytes[15], 0x10);
  EXPECT_EQ(ip[MR_IPV6_DESTINATION], 0xff);
  const std::uint8_t* icmp = ip + MR_IPV6_BYTES;
  EXPECT_EQ(icmp[0], 136);
  EXPECT_EQ(icmp[4], 0x20) << "override";
  EXPECT_EQ(transport_checksum({ip + MR_IPV6_SOURCE, 16}, {ip + MR_IPV6_DESTINATION, 16},
                               MR_PROTOCOL_ICMPV6, {icmp, 32}),
            0);
}

}  // namespace
}  // namespace millrace::core
