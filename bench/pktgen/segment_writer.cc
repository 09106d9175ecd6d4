// SPDX-License-Identifier: Apache-2.0
//
// HOT: write().
#include "bench/pktgen/segment_writer.h"

#include <algorithm>
#include <cstring>

#include "bench/pktgen/l4_checksum.h"
#include "bench/pktgen/packet_template.h"
#include "dataplane/core/checksum.h"

namespace millrace::pktgen {
namespace {

using namespace core;  // wire.h's offsets, loads and stores

constexpr std::uint16_t kDontFragment = 0x4000;
constexpr std::uint16_t kTcpWindow = 65535;
constexpr std::uint8_t kTtl = 64;
constexpr std::uint8_t kDataOffset = 5 << 4;

std::uint64_t sum_of_addr(const AddrWords& addr, bool is_v4) noexcept {
  return is_v4 ? addr.high >> 32 : sum_of_words(addr.low) + sum_of_words(addr.high);
}

}  // namespace

SegmentWriter::SegmentWriter(const SegmentShape& shape)
    : is_v4_(shape.is_v4), is_tcp_(shape.protocol == Protocol::tcp) {
  std::ranges::copy(shape.destination_mac, head_.data() + eth::kDestination);
  std::ranges::copy(shape.source_mac, head_.data() + eth::kSource);
  std::uint8_t* ip = head_.data() + eth::kBytes;
  const std::uint8_t protocol = is_tcp_ ? ip_protocol::kTcp : ip_protocol::kUdp;
  header_bytes_ =
      eth::kBytes + (is_v4_ ? ipv4::kBytes : ipv6::kBytes) + (is_tcp_ ? tcp::kBytes : udp::kBytes);
  store(head_.data() + eth::kType, be(is_v4_ ? EtherType::ipv4 : EtherType::ipv6));
  if (is_v4_) {
    ip[0] = 0x45;
    store(ip + ipv4::kFragment, to_be16(kDontFragment));
    ip[ipv4::kTtl] = kTtl;
    ip[ipv4::kProtocol] = protocol;
    ip_sum_ = sum_bytes({ip, ipv4::kBytes});
  } else {
    ip[0] = 0x60;
    ip[ipv6::kNextHeader] = protocol;
    ip[ipv6::kHopLimit] = kTtl;
  }
  if (is_tcp_) {
    std::uint8_t* l4 = ip + (is_v4_ ? ipv4::kBytes : ipv6::kBytes);
    store(l4 + 14, to_be16(kTcpWindow));
    l4_sum_ = to_be16(kTcpWindow);
  }
  l4_sum_ += to_be16(protocol);
}

std::uint32_t SegmentWriter::write(std::uint8_t* frame, const Path& path,
                                   const Segment& segment) const noexcept {
  std::memcpy(frame, head_.data(), 64);
  if (header_bytes_ + kStampBytes > 64) std::memcpy(frame + 64, head_.data() + 64, 64);
  std::uint8_t* ip = frame + eth::kBytes;
  std::uint8_t* l4 = ip + (is_v4_ ? ipv4::kBytes : ipv6::kBytes);
  const std::uint32_t end = header_bytes_ + segment.payload_bytes;
  const auto l4_bytes = static_cast<std::uint16_t>(frame + end - l4);
  const std::uint16_t ordinal_be = to_be16(segment.ordinal);
  if (is_v4_) {
    const std::uint16_t ip_bytes_be = to_be16(static_cast<std::uint16_t>(end - eth::kBytes));
    const auto source = static_cast<std::uint32_t>(path.source.addr.high >> 32);
    const auto destination = static_cast<std::uint32_t>(path.destination.addr.high >> 32);
    store(ip + ipv4::kTotalLength, ip_bytes_be);
    store(ip + 4, ordinal_be);
    store(ip + ipv4::kSource, source);
    store(ip + ipv4::kDestination, destination);
    const std::uint64_t sum =
        ip_sum_ + ip_bytes_be + ordinal_be + std::uint64_t{source} + destination;
    store(ip + ipv4::kChecksum, static_cast<std::uint16_t>(~fold(sum)));
  } else {
    store(ip + 2, ordinal_be);
    store(ip + ipv6::kPayloadLength, to_be16(l4_bytes));
    store(ip + ipv6::kSource, path.source.addr);
    store(ip + ipv6::kDestination, path.destination.addr);
  }
  store(l4, path.source.port_be);
  store(l4 + 2, path.destination.port_be);
  std::uint64_t sum = l4_sum_ + to_be16(l4_bytes) + path.source.port_be + path.destination.port_be +
                      sum_of_addr(path.source.addr, is_v4_) +
                      sum_of_addr(path.destination.addr, is_v4_);
  if (is_tcp_) {
    const std::uint32_t sequence = to_be32(segment.sequence);
    const std::uint32_t acknowledgement = to_be32(segment.acknowledgement);
    const auto flags = static_cast<std::uint16_t>(kDataOffset | segment.tcp_flags << 8);
    store(l4 + tcp::kSequence, sequence);
    store(l4 + tcp::kAcknowledgement, acknowledgement);
    store(l4 + tcp::kDataOffset, flags);
    sum += std::uint64_t{sequence} + acknowledgement + flags;
  } else {
    store(l4 + udp::kLength, to_be16(l4_bytes));
    sum += to_be16(l4_bytes);
  }
  if (segment.payload_bytes >= kStampBytes) {
    store(frame + header_bytes_, segment.stamp);
    sum += std::uint64_t{segment.stamp.connection} + segment.stamp.flow;
  }
  auto checksum = static_cast<std::uint16_t>(~fold(sum));
  if (checksum == 0 && !is_tcp_) checksum = 0xffff;  // 0 means "none" (RFC 768)
  store(l4 + (is_tcp_ ? tcp::kChecksum : udp::kChecksum), checksum);
  return std::max(end, kFrameBytesMin);
}

}  // namespace millrace::pktgen
