// SPDX-License-Identifier: Apache-2.0
//
// Frames for tests, made and judged without the code under test: plain byte-wise checksums.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dataplane/contract/flow_abi.h"

namespace millrace::test {

struct FrameSpec {
  std::string source = "192.0.2.100";
  std::string destination = "203.0.113.10";
  std::uint16_t source_port = 40000;
  std::uint16_t destination_port = 80;
  std::uint8_t protocol = MR_PROTOCOL_TCP;
  std::uint8_t tcp_flags = 0x10;
  std::uint32_t sequence = 1000;
  std::uint32_t acknowledgement = 2000;
  std::uint8_t ttl = 64;
  std::string payload;
  std::string source_mac = "02:00:00:00:00:64";
};

// A whole frame with right checksums; IPv4 or IPv6 by the form of the addresses.
[[nodiscard]] std::vector<std::uint8_t> make_frame(const FrameSpec& spec);

// What a frame says, read back byte by byte. Aborts on anything but TCP or UDP over plain IP.
[[nodiscard]] FrameSpec read_frame(const std::vector<std::uint8_t>& frame);

// True when the IPv4 header's and the transport's checksums are right (a UDP/IPv4 checksum of 0
// is).
[[nodiscard]] bool checksums_hold(const std::vector<std::uint8_t>& frame);

[[nodiscard]] std::string destination_mac(const std::vector<std::uint8_t>& frame);

}  // namespace millrace::test
