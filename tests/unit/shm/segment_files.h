// SPDX-License-Identifier: Apache-2.0
//
// Segment files as tests need them: real ones, then damaged.
#pragma once

#include <cstddef>
#include <cstring>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "dataplane/shm/segment.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::test {

inline std::vector<std::byte> read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  std::vector<std::byte> bytes(static_cast<std::size_t>(in.tellg()));
  in.seekg(0);
  in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

// Overwrites the file in place: same inode, as damage would.
inline void write_file(const std::string& path, std::span<const std::byte> bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
}

// A config with two groups, five targets and three listeners, IPv4 and IPv6.
inline Image small_image(std::uint64_t generation) {
  ImageBuilder builder;
  const std::uint32_t tcp = builder.add_group({});
  const std::uint32_t udp = builder.add_group({.forwarding = MR_FORWARDING_DSR});
  for (const char* addr : {"10.0.1.11", "10.0.1.12", "10.0.1.13"}) {
    builder.add_target({.group_slot = tcp, .addr = addr_of(addr), .port = 8080});
  }
  for (const char* addr : {"2001:db8:1::11", "2001:db8:1::12"}) {
    builder.add_target(
        {.group_slot = udp, .addr = addr_of(addr), .port = 53, .protocol = MR_PROTOCOL_UDP});
  }
  builder.add_listener({.vip_addr = addr_of("203.0.113.10"), .port = 80, .group_slot = tcp});
  builder.add_listener({.vip_addr = addr_of("203.0.113.10"), .port = 443, .group_slot = tcp});
  builder.add_listener({.vip_addr = addr_of("2001:db8::10"),
                        .port = 53,
                        .protocol = MR_PROTOCOL_UDP,
                        .group_slot = udp});
  return builder.build(generation);
}

// The bytes of a config segment that holds `image`.
inline std::vector<std::byte> config_segment_bytes(Image& image) {
  const std::span<std::byte> segment = image.segment();
  auto& header = *reinterpret_cast<mr_segment_header*>(segment.data());
  std::memcpy(header.struct_bytes, shm::kConfigSpec.struct_bytes.data(),
              sizeof(header.struct_bytes));
  return {segment.begin(), segment.end()};
}

}  // namespace millrace::test
