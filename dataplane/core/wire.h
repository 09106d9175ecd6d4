// SPDX-License-Identifier: Apache-2.0
//
// Where the fields of Ethernet, ARP, IP, TCP, UDP and ICMP headers are, and unaligned access to
// them. HOT. Everything that reads or writes a frame does it through these loads and stores.
//
// Values named `_be` are as on the wire: compare and copy them, convert only to calculate.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "dataplane/contract/flow_abi.h"

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
[[nodiscard]] constexpr std::uint32_t from_be32(std::uint32_t be) noexcept {
  return __builtin_bswap32(be);
}

namespace eth {
inline constexpr std::uint32_t kBytes = 14;
inline constexpr std::uint32_t kDestination = 0;
inline constexpr std::uint32_t kSource = 6;
inline constexpr std::uint32_t kType = 12;
}  // namespace eth

namespace vlan {  // IEEE 802.1Q: behind the MAC addresses, before the type
inline constexpr std::uint32_t kBytes = 4;
inline constexpr std::uint32_t kControl = 2;  // from the tag's start
inline constexpr std::uint16_t kIdMask = 0x0fff;
}  // namespace vlan

enum class EtherType : std::uint16_t {  // in host byte order
  ipv4 = 0x0800,
  arp = 0x0806,
  vlan = 0x8100,
  ipv6 = 0x86dd,
};
[[nodiscard]] constexpr std::uint16_t be(EtherType type) noexcept {
  return to_be16(static_cast<std::uint16_t>(type));
}

namespace arp {
inline constexpr std::uint32_t kBytes = 28;
inline constexpr std::uint32_t kOperation = 6;
inline constexpr std::uint32_t kSenderMac = 8;
inline constexpr std::uint32_t kSenderIp = 14;
inline constexpr std::uint32_t kTargetMac = 18;
inline constexpr std::uint32_t kTargetIp = 24;
}  // namespace arp

namespace ipv4 {
inline constexpr std::uint32_t kBytes = 20;  // without options
inline constexpr std::uint32_t kTotalLength = 2;
inline constexpr std::uint32_t kId = 4;
inline constexpr std::uint32_t kFragment = 6;
inline constexpr std::uint32_t kTtl = 8;
inline constexpr std::uint32_t kProtocol = 9;
inline constexpr std::uint32_t kChecksum = 10;
inline constexpr std::uint32_t kSource = 12;
inline constexpr std::uint32_t kDestination = 16;
inline constexpr std::uint16_t kFragmentMask =
    0x3fff;  // more-fragments flag and offset, host order
}  // namespace ipv4

namespace ipv6 {
inline constexpr std::uint32_t kBytes = 40;
inline constexpr std::uint32_t kFragmentBytes = 8;  // a fragment header
inline constexpr std::uint32_t kPayloadLength = 4;
inline constexpr std::uint32_t kNextHeader = 6;
inline constexpr std::uint32_t kHopLimit = 7;
inline constexpr std::uint32_t kSource = 8;
inline constexpr std::uint32_t kDestination = 24;
}  // namespace ipv6

namespace tcp {
inline constexpr std::uint32_t kBytes = 20;  // without options
inline constexpr std::uint32_t kSequence = 4;
inline constexpr std::uint32_t kAcknowledgement = 8;
inline constexpr std::uint32_t kDataOffset = 12;
inline constexpr std::uint32_t kFlags = 13;
inline constexpr std::uint32_t kChecksum = 16;
inline constexpr std::uint8_t kFin = 0x01;
inline constexpr std::uint8_t kSyn = 0x02;
inline constexpr std::uint8_t kRst = 0x04;
inline constexpr std::uint8_t kAck = 0x10;
}  // namespace tcp

namespace udp {
inline constexpr std::uint32_t kBytes = 8;
inline constexpr std::uint32_t kLength = 4;
inline constexpr std::uint32_t kChecksum = 6;
}  // namespace udp

namespace icmp {
inline constexpr std::uint32_t kBytes = 8;
inline constexpr std::uint32_t kChecksum = 2;
inline constexpr std::uint32_t kMtu = 4;  // of "too big": 32 bits; here the first 16 are unused
inline constexpr std::uint8_t kEchoReply = 0;
inline constexpr std::uint8_t kUnreachable = 3;
inline constexpr std::uint8_t kFragmentationNeeded = 4;  // code of kUnreachable
inline constexpr std::uint8_t kTimeExceeded = 11;
inline constexpr std::uint8_t kParameterProblem = 12;
inline constexpr std::uint8_t kEchoRequest = 8;
}  // namespace icmp

namespace icmpv6 {
inline constexpr std::uint32_t kBytes = 8;
inline constexpr std::uint32_t kChecksum = 2;
inline constexpr std::uint32_t kNeighbourBytes = 24;  // solicitation or advertisement, no options
inline constexpr std::uint32_t kNeighbourTarget = 8;
inline constexpr std::uint32_t kMtu = 4;
inline constexpr std::uint8_t kErrorFirst = 1;  // unreachable, too big, time exceeded, parameter
inline constexpr std::uint8_t kErrorLast = 4;
inline constexpr std::uint8_t kPacketTooBig = 2;
inline constexpr std::uint8_t kEchoRequest = 128;
inline constexpr std::uint8_t kEchoReply = 129;
inline constexpr std::uint8_t kNeighbourSolicitation = 135;
inline constexpr std::uint8_t kNeighbourAdvertisement = 136;
}  // namespace icmpv6

// Where the fields of a family lie in a frame, for code that is written once for both.
struct Ipv4Frame {
  static constexpr bool kIsV4 = true;
  static constexpr EtherType kType = EtherType::ipv4;
  static constexpr std::uint32_t kHops = eth::kBytes + ipv4::kTtl;
  static constexpr std::uint32_t kSource = eth::kBytes + ipv4::kSource;
  static constexpr std::uint32_t kDestination = eth::kBytes + ipv4::kDestination;
  static constexpr std::uint32_t kL4 = eth::kBytes + ipv4::kBytes;
};
struct Ipv6Frame {
  static constexpr bool kIsV4 = false;
  static constexpr EtherType kType = EtherType::ipv6;
  static constexpr std::uint32_t kHops = eth::kBytes + ipv6::kHopLimit;
  static constexpr std::uint32_t kSource = eth::kBytes + ipv6::kSource;
  static constexpr std::uint32_t kDestination = eth::kBytes + ipv6::kDestination;
  static constexpr std::uint32_t kL4 = eth::kBytes + ipv6::kBytes;
};

namespace ip_protocol {
inline constexpr std::uint8_t kIcmp = 1;
inline constexpr std::uint8_t kIpv4InIp = 4;
inline constexpr std::uint8_t kTcp = MR_PROTOCOL_TCP;
inline constexpr std::uint8_t kUdp = MR_PROTOCOL_UDP;
inline constexpr std::uint8_t kIpv6InIp = 41;
inline constexpr std::uint8_t kFragment = 44;
inline constexpr std::uint8_t kIcmpv6 = 58;
// Extension headers of RFC 8200 that precede a transport header.
inline constexpr std::uint8_t kHopByHop = 0;
inline constexpr std::uint8_t kRouting = 43;
inline constexpr std::uint8_t kEsp = 50;
inline constexpr std::uint8_t kAuthentication = 51;
inline constexpr std::uint8_t kNoNext = 59;
inline constexpr std::uint8_t kDestinationOptions = 60;
}  // namespace ip_protocol

inline constexpr std::uint32_t kV4InMapped = 12;  // offset of the IPv4 address in a v4-mapped one

[[nodiscard]] inline mr_addr v4_mapped(std::uint32_t addr_be) noexcept {
  mr_addr addr{};
  addr.bytes[10] = 0xff;
  addr.bytes[11] = 0xff;
  std::memcpy(addr.bytes + kV4InMapped, &addr_be, sizeof(addr_be));
  return addr;
}

[[nodiscard]] inline bool is_v4(const mr_addr& addr) noexcept {
  return load<std::uint64_t>(addr.bytes) == 0 && load<std::uint32_t>(addr.bytes + 8) == 0xffff0000u;
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
  return {0, 0xffff0000u | std::uint64_t{addr} << 32};
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
