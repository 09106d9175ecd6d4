// SPDX-License-Identifier: Apache-2.0
//
// A frame read by plain code that shares nothing with core: where its headers are and whether its
// checksums hold. For fuzz targets and property tests, which know no expected bytes. Cold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace millrace::test {

struct FrameFacts {
  enum class Checksum : std::uint8_t { none, right, wrong };  // none: not there, or UDP's 0

  std::uint16_t ether_type = 0;  // 0: no whole Ethernet header
  bool is_ip = false;            // IPv4 without options or IPv6, whole; no fragment of IPv4
  std::uint8_t protocol = 0;
  std::uint8_t hops = 0;      // TTL or hop limit
  std::size_t ip_bytes = 0;   // as the header says
  std::size_t l4_offset = 0;  // from the start of the frame
  bool is_fragment = false;   // with what is behind the fragment header as transport
  bool is_first = false;      // of the fragments
  Checksum ip_checksum = Checksum::none;
  Checksum l4_checksum = Checksum::none;  // of TCP, UDP, ICMP and ICMPv6
};

[[nodiscard]] FrameFacts facts_of(std::span<const std::uint8_t> frame);

}  // namespace millrace::test
