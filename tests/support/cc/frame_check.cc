// SPDX-License-Identifier: Apache-2.0
#include "tests/support/cc/frame_check.h"

namespace millrace::test {
namespace {

using Checksum = FrameFacts::Checksum;
using View = std::span<const std::uint8_t>;

constexpr std::size_t kIp = 14;  // where the IP header starts

std::uint32_t word_at(View bytes, std::size_t at) {
  const std::uint32_t low = at + 1 < bytes.size() ? bytes[at + 1] : 0;
  return std::uint32_t{bytes[at]} << 8 | low;
}

std::uint32_t sum_of(View bytes, std::uint32_t sum = 0) {
  for (std::size_t at = 0; at < bytes.size(); at += 2) {
    sum += word_at(bytes, at);
    if (sum > 0xffff) sum -= 0xffff;
  }
  return sum;
}

Checksum verdict_of(std::uint32_t sum) { return sum == 0xffff ? Checksum::right : Checksum::wrong; }

void read_transport(View ip, std::size_t header_bytes, View addresses, FrameFacts& facts) {
  const View segment = ip.subspan(header_bytes);
  const bool is_tcp = facts.protocol == 6 && segment.size() >= 20;
  const bool is_udp = facts.protocol == 17 && segment.size() >= 8;
  const bool is_icmp6 = facts.protocol == 58 && segment.size() >= 8;
  if (facts.protocol == 1 && segment.size() >= 8) facts.l4_checksum = verdict_of(sum_of(segment));
  if (is_udp && word_at(segment, 6) == 0) return;
  if (!is_tcp && !is_udp && !is_icmp6) return;
  // A UDP length below the IP payload's covers less; the rest is nobody's.
  const std::size_t covered = is_udp ? word_at(segment, 4) : segment.size();
  if (covered > segment.size()) return;
  const std::uint32_t pseudo = sum_of(addresses) + static_cast<std::uint32_t>(covered);
  facts.l4_checksum =
      verdict_of(sum_of(segment.first(covered), (pseudo + facts.protocol) % 0xffff));
}

void read_ipv4(View frame, FrameFacts& facts) {
  const View ip = frame.subspan(kIp);
  if (ip.size() < 20 || ip[0] != 0x45) return;
  facts.ip_bytes = word_at(ip, 2);
  if (facts.ip_bytes < 20 || facts.ip_bytes > ip.size()) return;
  facts.ip_checksum = verdict_of(sum_of(ip.first(20)));
  facts.protocol = ip[9];
  facts.hops = ip[8];
  facts.l4_offset = kIp + 20;
  facts.is_fragment = (word_at(ip, 6) & 0x3fff) != 0;
  facts.is_first = (word_at(ip, 6) & 0x1fff) == 0;
  if (facts.is_fragment) return;
  facts.is_ip = true;
  read_transport(ip.first(facts.ip_bytes), 20, ip.subspan(12, 8), facts);
}

void read_ipv6(View frame, FrameFacts& facts) {
  const View ip = frame.subspan(kIp);
  if (ip.size() < 40 || ip[0] >> 4 != 6) return;
  facts.ip_bytes = std::size_t{40} + word_at(ip, 4);
  if (facts.ip_bytes > ip.size()) return;
  facts.is_ip = true;
  facts.protocol = ip[6];
  facts.hops = ip[7];
  facts.l4_offset = kIp + 40;
  facts.is_fragment = facts.protocol == 44 && facts.ip_bytes >= 48;
  if (facts.is_fragment) {
    facts.l4_offset += 8;
    facts.is_first = (word_at(ip, 42) & 0xfff8) == 0;
    return;
  }
  read_transport(ip.first(facts.ip_bytes), 40, ip.subspan(8, 32), facts);
}

}  // namespace

FrameFacts facts_of(View frame) {
  FrameFacts facts;
  if (frame.size() < kIp) return facts;
  facts.ether_type = static_cast<std::uint16_t>(word_at(frame, 12));
  if (facts.ether_type == 0x0800) read_ipv4(frame, facts);
  if (facts.ether_type == 0x86dd) read_ipv6(frame, facts);
  return facts;
}

}  // namespace millrace::test
