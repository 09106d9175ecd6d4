// SPDX-License-Identifier: Apache-2.0
//
// Unaligned access to the fields of headers (rules/header_rule.h says where they are), byte order,
// addresses as words. HOT. Everything that reads or writes a frame does it through these.
//
// Values named `_be` are as on the wire: compare and copy them, convert only to calculate.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "dataplane/contract/flow_abi.h"
#include "dataplane/rules/address_rule.h"
#include "dataplane/rules/header_rule.h"

namespace millrace::core {

template <typename T>
[[nodiscard]] inline T load(const std::uint8_t* at) noexcept {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

template <typename T>
inline void store(std::uint8_t* at, T value) noexcept {
  std::memcpy(at, &value, sizeof(T));
}

[[nodiscard]] constexpr std::uint16_t swap16(std::uint16_t value) noexcept {
  return __builtin_bswap16(value);
}

static_assert(std::endian::native == std::endian::little,
              "to_be and the segment magic assume a little-endian host");
[[nodiscard]] constexpr std::uint16_t to_be16(std::uint16_t host) noexcept { return swap16(host); }
[[nodiscard]] constexpr std::uint16_t from_be16(std::uint16_t be) noexcept { return swap16(be); }
[[nodiscard]] constexpr std::uint32_t to_be32(std::uint32_t host) noexcept {
  return __builtin_bswap32(host);
}
[[nodiscard]] constexpr std::uint64_t to_be64(std::uint64_t host) noexcept {
  return __builtin_bswap64(host);
}
[[nodiscard]] constexpr std::uint32_t from_be32(std::uint32_t be) noexcept {
  return __builtin_bswap32(be);
}

enum class EtherType : std::uint16_t {  // in host byte order
  ipv4 = MR_ETH_TYPE_IPV4,
  arp = MR_ETH_TYPE_ARP,
  vlan = MR_ETH_TYPE_VLAN,
  ipv6 = MR_ETH_TYPE_IPV6,
};
[[nodiscard]] constexpr std::uint16_t be(EtherType type) noexcept {
  return to_be16(static_cast<std::uint16_t>(type));
}

// Where the fields of a family lie in a frame, for code that is written once for both.
struct Ipv4Frame {
  static constexpr bool kIsV4 = true;
  static constexpr EtherType kType = EtherType::ipv4;
  static constexpr std::uint32_t kHops = MR_ETH_BYTES + MR_IPV4_TTL;
  static constexpr std::uint32_t kSource = MR_ETH_BYTES + MR_IPV4_SOURCE;
  static constexpr std::uint32_t kDestination = MR_ETH_BYTES + MR_IPV4_DESTINATION;
  static constexpr std::uint32_t kL4 = MR_ETH_BYTES + MR_IPV4_BYTES;
};
struct Ipv6Frame {
  static constexpr bool kIsV4 = false;
  static constexpr EtherType kType = EtherType::ipv6;
  static constexpr std::uint32_t kHops = MR_ETH_BYTES + MR_IPV6_HOP_LIMIT;
  static constexpr std::uint32_t kSource = MR_ETH_BYTES + MR_IPV6_SOURCE;
  static constexpr std::uint32_t kDestination = MR_ETH_BYTES + MR_IPV6_DESTINATION;
  static constexpr std::uint32_t kL4 = MR_ETH_BYTES + MR_IPV6_BYTES;
};

inline constexpr std::uint32_t kV4InMapped = 12;  // offset of the IPv4 address in a v4-mapped one

[[nodiscard]] inline mr_addr v4_mapped(std::uint32_t addr_be) noexcept {
  mr_addr addr{};
  addr.bytes[10] = 0xff;
  addr.bytes[11] = 0xff;
  std::memcpy(addr.bytes + kV4InMapped, &addr_be, sizeof(addr_be));
  return addr;
}

[[nodiscard]] inline bool is_v4(const mr_addr& addr) noexcept {
  return load<std::uint64_t>(addr.bytes) == 0 &&
         load<std::uint32_t>(addr.bytes + 8) == MR_V4_MAPPED;
}

[[nodiscard]] inline std::uint32_t v4_of(const mr_addr& addr) noexcept {
  return load<std::uint32_t>(addr.bytes + kV4InMapped);
}

// An address as two words, the form in which the packet path compares and hashes it.
struct AddrWords {
  std::uint64_t low;   // bytes 0-7 as loaded
  std::uint64_t high;  // bytes 8-15 as loaded

  friend bool operator==(const AddrWords&, const AddrWords&) = default;
};

[[nodiscard]] inline AddrWords words_of(const mr_addr& addr) noexcept {
  return {load<std::uint64_t>(addr.bytes), load<std::uint64_t>(addr.bytes + 8)};
}
// A raw IPv6 address in a frame.
[[nodiscard]] inline AddrWords words_at(const std::uint8_t* at) noexcept {
  return {load<std::uint64_t>(at), load<std::uint64_t>(at + 8)};
}
// An IPv4 address as loaded from a frame, v4-mapped.
[[nodiscard]] inline AddrWords v4_words(std::uint32_t addr) noexcept {
  return {0, mr_v4_mapped_high(addr)};
}
[[nodiscard]] inline AddrWords v4_words_at(const std::uint8_t* at) noexcept {
  return v4_words(load<std::uint32_t>(at));
}
[[nodiscard]] inline mr_addr addr_of(const AddrWords& words) noexcept {
  mr_addr addr;
  store(addr.bytes, words.low);
  store(addr.bytes + 8, words.high);
  return addr;
}

}  // namespace millrace::core
