// SPDX-License-Identifier: Apache-2.0
//
// ICMP errors about packets that the node has put around clients' packets.
#include "controlplane/net/outer_error.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <random>
#include <string>
#include <vector>

#include "dataplane/contract/config_abi.h"
#include "dataplane/rules/header_rule.h"
#include "tests/support/cc/address.h"

namespace millrace::control {
namespace {

using test::ip;

using Bytes = std::vector<std::uint8_t>;

void append(Bytes& to, const Bytes& bytes) { to.insert(to.end(), bytes.begin(), bytes.end()); }

// An IP header without options; nothing reads its checksum and lengths.
Bytes ip_header(const std::string& source, const std::string& destination, std::uint8_t protocol) {
  const IpAddress from = ip(source);
  const IpAddress to = ip(destination);
  if (from.is_v4()) {
    Bytes header(MR_IPV4_BYTES);
    header[0] = MR_IPV4_NO_OPTIONS;
    header[MR_IPV4_PROTOCOL] = protocol;
    std::copy_n(from.addr.bytes + 12, 4, header.begin() + MR_IPV4_SOURCE);
    std::copy_n(to.addr.bytes + 12, 4, header.begin() + MR_IPV4_DESTINATION);
    return header;
  }
  Bytes header(MR_IPV6_BYTES);
  header[0] = 0x60;
  header[MR_IPV6_NEXT_HEADER] = protocol;
  std::copy_n(from.addr.bytes, 16, header.begin() + MR_IPV6_SOURCE);
  std::copy_n(to.addr.bytes, 16, header.begin() + MR_IPV6_DESTINATION);
  return header;
}

Bytes ports(std::uint16_t source, std::uint16_t destination) {
  return {static_cast<std::uint8_t>(source >> 8),
          static_cast<std::uint8_t>(source & 0xff),
          static_cast<std::uint8_t>(destination >> 8),
          static_cast<std::uint8_t>(destination & 0xff),
          0,
          0,
          0,
          0};
}

Bytes joined(std::initializer_list<Bytes> parts) {
  Bytes out;
  for (const Bytes& part : parts) append(out, part);
  return out;
}

Bytes inner_v4() {
  return joined({ip_header("192.0.2.7", "203.0.113.10", MR_PROTOCOL_TCP), ports(4711, 80)});
}

// As a raw socket gives them.
Bytes error_v4(const Bytes& quote, std::uint8_t type = 3, std::uint8_t code = 4) {
  return joined(
      {ip_header("10.0.9.9", "10.0.1.1", 1), {type, code, 0, 0, 0, 0, 0x05, 0x14}, quote});
}
Bytes error_v6(const Bytes& quote, std::uint8_t type = 2) {
  return joined({{type, 0, 0, 0, 0, 0, 0x05, 0x14}, quote});
}

TEST(OuterErrorTest, ipip_is_read_with_what_is_inside) {
  const auto error =
      read_outer_error(true, error_v4(joined({ip_header("10.0.1.1", "10.0.2.11", 4), inner_v4()})));
  ASSERT_TRUE(error);
  EXPECT_EQ(error->source, ip("10.0.1.1"));
  EXPECT_EQ(error->destination, ip("10.0.2.11"));
  EXPECT_EQ(error->protocol, MR_PROTOCOL_IPV4_IN_IP);
  EXPECT_EQ(error->mtu, 1300);
  ASSERT_TRUE(error->inner);
  EXPECT_EQ(error->inner->vip, ip("203.0.113.10"));
  EXPECT_EQ(error->inner->protocol, MR_PROTOCOL_TCP);
  EXPECT_EQ(error->inner->vip_port, 80);
}

TEST(OuterErrorTest, gue_over_ipv6_with_ipv4_inside) {
  const auto error =
      read_outer_error(false, error_v6(joined({ip_header("fd00::1", "fd00::11", MR_PROTOCOL_UDP),
                                               ports(50000, 6080), inner_v4()})));
  ASSERT_TRUE(error);
  EXPECT_EQ(error->destination, ip("fd00::11"));
  EXPECT_EQ(error->protocol, MR_PROTOCOL_UDP);
  EXPECT_EQ(error->destination_port, 6080);
  ASSERT_TRUE(error->inner);
  EXPECT_EQ(error->inner->vip_port, 80);
}

TEST(OuterErrorTest, eight_bytes_of_quote_tell_nothing_of_the_inside) {
  Bytes quote = joined({ip_header("10.0.1.1", "10.0.2.11", 4), inner_v4()});
  quote.resize(MR_IPV4_BYTES + 8);
  const auto error = read_outer_error(true, error_v4(quote));
  ASSERT_TRUE(error);
  EXPECT_FALSE(error->inner);
}

TEST(OuterErrorTest, later_fragment_inside_has_no_ports) {
  Bytes inner = inner_v4();
  inner[MR_IPV4_FRAGMENT + 1] = 185;
  const auto error =
      read_outer_error(true, error_v4(joined({ip_header("10.0.1.1", "10.0.2.11", 4), inner})));
  ASSERT_TRUE(error);
  EXPECT_FALSE(error->inner);
}

TEST(OuterErrorTest, mtu_over_16_bits_is_no_limit) {
  Bytes message = error_v6(joined({ip_header("fd00::1", "fd00::11", 41), inner_v4()}));
  message[5] = 1;
  const auto error = read_outer_error(false, message);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->mtu, UINT16_MAX);
}

TEST(OuterErrorTest, fault_16_other_messages_and_other_packets_are_nothing) {
  const Bytes quote_v4 = joined({ip_header("10.0.1.1", "10.0.2.11", 4), inner_v4()});
  const Bytes quote_v6 = joined({ip_header("fd00::1", "fd00::11", 41), inner_v4()});
  ASSERT_TRUE(read_outer_error(true, error_v4(quote_v4)));
  ASSERT_TRUE(read_outer_error(false, error_v6(quote_v6)));
  EXPECT_FALSE(read_outer_error(true, error_v4(quote_v4, 3, 3)));
  EXPECT_FALSE(read_outer_error(true, error_v4(quote_v4, 11, 0)));
  EXPECT_FALSE(read_outer_error(false, error_v6(quote_v6, 1)));
  EXPECT_FALSE(read_outer_error(true, error_v4(quote_v6))) << "a family that it does not quote";
  EXPECT_FALSE(read_outer_error(false, error_v6(quote_v4)));
  EXPECT_FALSE(read_outer_error(true, error_v4(inner_v4()))) << "not encapsulated";
  Bytes without_mtu = error_v4(quote_v4);
  without_mtu[MR_IPV4_BYTES + 6] = without_mtu[MR_IPV4_BYTES + 7] = 0;
  EXPECT_FALSE(read_outer_error(true, without_mtu));
}

TEST(OuterErrorTest, cut_and_random_messages_are_read_within_their_bounds) {
  const Bytes gue =
      joined({ip_header("fd00::1", "fd00::11", MR_PROTOCOL_UDP), ports(50000, 6080), inner_v4()});
  const Bytes ipip = joined({ip_header("10.0.1.1", "10.0.2.11", 4), inner_v4()});
  std::mt19937 random(1);
  for (const bool is_v4 : {true, false}) {
    const Bytes whole = is_v4 ? error_v4(ipip) : error_v6(gue);
    for (std::size_t bytes = 0; bytes <= whole.size(); ++bytes) {
      // A block of its own size, so that sanitizers see what is read behind it.
      Bytes message(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(bytes));
      message.shrink_to_fit();
      (void)read_outer_error(is_v4, message);
      for (int i = 0; i < 200 && !message.empty(); ++i) {
        message[random() % message.size()] = static_cast<std::uint8_t>(random());
        (void)read_outer_error(is_v4, message);
      }
    }
  }
}

}  // namespace
}  // namespace millrace::control
