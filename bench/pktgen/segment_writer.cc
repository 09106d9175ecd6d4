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
  std::ranges::copy(shape.destination_mac, head_.data() + MR_ETH_DESTINATION);
  std::ranges::copy(shape.source_mac, head_.data() + MR_ETH_SOURCE);
  std::uint8_t* ip = head_.data() + MR_ETH_BYTES;
  const std::uint8_t protocol = is_tcp_ ? MR_PROTOCOL_TCP : MR_PROTOCOL_UDP;
  header_bytes_ = MR_ETH_BYTES + (is_v4_ ? MR_IPV4_BYTES : MR_IPV6_BYTES) +
                  (is_tcp_ ? MR_TCP_BYTES : MR_UDP_BYTES);
  store(head_.data() + MR_ETH_TYPE, be(is_v4_ ? EtherType::ipv4 : EtherType::ipv6));
  if (is_v4_) {
    ip[0] = 0x45;
    store(ip + MR_IPV4_FRAGMENT, to_be16(kDontFragment));
    ip[MR_IPV4_TTL] = kTtl;
    ip[MR_IPV4_PROTOCOL] = protocol;
    ip_sum_ = sum_bytes({ip, MR_IPV4_BYTES});
  } else {
    ip[0] = 0x60;
    ip[MR_IPV6_NEXT_HEADER] = protocol;
    ip[MR_IPV6_HOP_LIMIT] = kTtl;
  }
  if (is_tcp_) {
    std::uint8_t* l4 = ip + (is_v4_ ? MR_IPV4_BYTES : MR_IPV6_BYTES);
    store(l4 + 14, to_be16(kTcpWindow));
    l4_sum_ = to_be16(kTcpWindow);
  }
  l4_sum_ += to_be16(protocol);
}

std::uint32_t SegmentWriter::write(std::uint8_t* frame, const Path& path,
                                   const Segment& segment) const noexcept {
  std::memcpy(frame, head_.data(), 64);
  if (header_bytes_ + kStampBytes > 64) std::memcpy(frame + 64, head_.data() + 64, 64);
  std::uint8_t* ip = frame + MR_ETH_BYTES;
  std::uint8_t* l4 = ip + (is_v4_ ? MR_IPV4_BYTES : MR_IPV6_BYTES);
  const std::uint32_t end = header_bytes_ + segment.payload_bytes;
  const auto l4_bytes = static_cast<std::uint16_t>(frame + end - l4);
  const std::uint16_t ordinal_be = to_be16(segment.ordinal);
  if (is_v4_) {
    const std::uint16_t ip_bytes_be = to_be16(static_cast<std::uint16_t>(end - MR_ETH_BYTES));
    const auto source = static_cast<std::uint32_t>(path.source.addr.high >> 32);
    const auto destination = static_cast<std::uint32_t>(path.destination.addr.high >> 32);
    store(ip + MR_IPV4_TOTAL_LENGTH, ip_bytes_be);
    store(ip + 4, ordinal_be);
    store(ip + MR_IPV4_SOURCE, source);
    store(ip + MR_IPV4_DESTINATION, destination);
    const std::uint64_t sum =
        ip_sum_ + ip_bytes_be + ordinal_be + std::uint64_t{source} + destination;
    store(ip + MR_IPV4_CHECKSUM, static_cast<std::uint16_t>(~mr_fold(sum)));
  } else {
    store(ip + 2, ordinal_be);
    store(ip + MR_IPV6_PAYLOAD_LENGTH, to_be16(l4_bytes));
    store(ip + MR_IPV6_SOURCE, path.source.addr);
    store(ip + MR_IPV6_DESTINATION, path.destination.addr);
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
    store(l4 + MR_TCP_SEQUENCE, sequence);
    store(l4 + MR_TCP_ACKNOWLEDGEMENT, acknowledgement);
    store(l4 + MR_TCP_DATA_OFFSET, flags);
    sum += std::uint64_t{sequence} + acknowledgement + flags;
  } else {
    store(l4 + MR_UDP_LENGTH, to_be16(l4_bytes));
    sum += to_be16(l4_bytes);
  }
  if (segment.payload_bytes >= kStampBytes) {
    store(frame + header_bytes_, segment.stamp);
    sum += std::uint64_t{segment.stamp.connection} + segment.stamp.flow;
  }
  auto checksum = static_cast<std::uint16_t>(~mr_fold(sum));
  if (checksum == 0 && !is_tcp_) checksum = 0xffff;  // 0 means "none" (RFC 768)
  store(l4 + (is_tcp_ ? MR_TCP_CHECKSUM : MR_UDP_CHECKSUM), checksum);
  return std::max(end, kFrameBytesMin);
}

}  // namespace millrace::pktgen
