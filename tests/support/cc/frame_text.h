// SPDX-License-Identifier: Apache-2.0
//
// Frames written as text, one line each, in the manner of Scapy:
//
//   eth client > node / ip 198.51.100.7 > 203.0.113.10 ttl 64 / tcp 40000 > 80 flags S / "hello"
//
// Lengths and checksums are right unless the text says otherwise; the checksum code here is plain
// and shares nothing with core, so that a frame can be held against what core made of it. The
// layers and their fields are described in tests/packets/README.md. Cold.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/contract/flow_abi.h"
#include "dataplane/core/result.h"

namespace millrace::test {

using Bytes = std::vector<std::uint8_t>;

// Names that a text may use instead of addresses.
struct FrameNames {
  std::map<std::string, Bytes> macs;  // 6 bytes each
  std::map<std::string, mr_addr> addrs;
};

[[nodiscard]] Result<Bytes> frame_of(const std::string& text, const FrameNames& names);

[[nodiscard]] Result<Bytes> mac_of(const std::string& text, const FrameNames& names);
[[nodiscard]] Result<mr_addr> named_addr_of(const std::string& text, const FrameNames& names);
// "0102 ff" -> bytes; an odd number of digits is an error.
[[nodiscard]] Result<Bytes> hex_of(const std::string& text);
[[nodiscard]] Result<std::uint64_t> number_of(const std::string& text);

// Words between blanks; a quoted string is one word, with its quotes.
[[nodiscard]] std::vector<std::string> words_of_line(std::string_view line);

// Both frames as rows of hex with the differing bytes marked; for failure messages.
[[nodiscard]] std::string difference_of(const Bytes& expected, const Bytes& actual);

}  // namespace millrace::test
