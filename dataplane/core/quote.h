// SPDX-License-Identifier: Apache-2.0
//
// ICMP errors and the packet that they quote (RFC 792, RFC 4443 section 3). Warm.
#pragma once

#include <cstdint>
#include <optional>

#include "dataplane/core/packet.h"
#include "dataplane/core/parse.h"
#include "dataplane/core/rewrite.h"
#include "dataplane/core/wire.h"

namespace millrace::core {

[[nodiscard]] inline bool is_icmp_error(const Packet& packet, const Parsed& parsed) noexcept {
  return parsed.shape == Shape::icmp &&
         mr_is_icmp_error(parsed.is_v4, packet.data[parsed.l4_offset()]);
}

// Bytes that an ICMP message has behind its header.
[[nodiscard]] inline std::uint32_t quoted_bytes(const Parsed& parsed) noexcept {
  return MR_ETH_BYTES + parsed.ip_bytes - parsed.l4_offset() - MR_ICMP_BYTES;
}

// What a packet would look like that answers the quoted one; it goes the same way as the error. It
// is as long as the error. Nothing when the quote has less than addresses and ports, or is of
// another protocol than TCP and UDP.
[[nodiscard]] inline std::optional<Parsed> answer_to_quoted(const Packet& packet,
                                                            const Parsed& parsed) noexcept {
  const std::uint8_t* ip = packet.data + parsed.l4_offset() + MR_ICMP_BYTES;
  const std::uint32_t bytes = quoted_bytes(parsed);
  const std::uint32_t header_bytes = parsed.is_v4 ? MR_IPV4_BYTES : MR_IPV6_BYTES;
  if (bytes < header_bytes + MR_L4_PORTS_BYTES) return std::nullopt;
  // No packet of a flow has options.
  if (parsed.is_v4 ? ip[0] != MR_IPV4_NO_OPTIONS : ip[0] >> 4 != 6) return std::nullopt;
  Parsed answer = parsed;
  if (parsed.is_v4) {
    // A fragment that is not the first has no ports.
    const auto fragment = load<std::uint16_t>(ip + MR_IPV4_FRAGMENT);
    if ((fragment & to_be16(MR_IPV4_FRAGMENT_OFFSET)) != 0) return std::nullopt;
    answer.source = v4_words_at(ip + MR_IPV4_DESTINATION);
    answer.destination = v4_words_at(ip + MR_IPV4_SOURCE);
    answer.protocol = ip[MR_IPV4_PROTOCOL];
  } else {
    answer.source = words_at(ip + MR_IPV6_DESTINATION);
    answer.destination = words_at(ip + MR_IPV6_SOURCE);
    answer.protocol = ip[MR_IPV6_NEXT_HEADER];
  }
  if (!mr_is_transport(answer.protocol)) return std::nullopt;
  const std::uint32_t protocol_bits = std::uint32_t{answer.protocol} << 16;
  const std::uint8_t* l4 = ip + header_bytes;
  answer.source_port_protocol = load<std::uint16_t>(l4 + MR_L4_DESTINATION_PORT) | protocol_bits;
  answer.destination_port_protocol = load<std::uint16_t>(l4 + MR_L4_SOURCE_PORT) | protocol_bits;
  answer.shape = Shape::transport;
  answer.tcp_flags = 0;
  return answer;
}

// The end of a flow that the two sides of this node know by different addresses.
struct RenamedEnd {
  const mr_addr& addr;  // by which the receiver of the error knows it
  std::uint16_t port_be;
};

namespace detail {

// Collects what one's-complement sums over a message lose and gain when its fields change.
class SumChange {
 public:
  // A field of 16 bits at an even place.
  void write(std::uint8_t* at, std::uint16_t value) noexcept {
    old_sum_ += load<std::uint16_t>(at);
    new_sum_ += value;
    store(at, value);
  }
  void add(std::uint64_t old_sum, std::uint64_t new_sum) noexcept {
    old_sum_ += old_sum;
    new_sum_ += new_sum;
  }
  [[nodiscard]] std::uint16_t delta() const noexcept {
    return mr_checksum_delta(old_sum_, new_sum_);
  }

 private:
  std::uint64_t old_sum_ = 0;
  std::uint64_t new_sum_ = 0;
};

template <typename Frame>
[[nodiscard]] std::uint64_t sum_of_addr_at(const std::uint8_t* at) noexcept {
  if constexpr (Frame::kIsV4) return sum_of(v4_mapped(load<std::uint32_t>(at)));
  return sum_of(addr_of(words_at(at)));
}

}  // namespace detail

// Translates an ICMP error about a flow (RFC 5508 section 4). The *renamed end* is the end of the
// flow that its two sides know by different addresses.
//
// Outer header: towards a target, the destination becomes the renamed end. Towards a client, the
// source does. (The source was a router's own address, which clients need not know and networks may
// filter.) Quoted packet: the renamed end, which is its source or its destination, gets the address
// and port that the receiver knows.
//
// All checksums are updated, so that a wrong one stays wrong. TCP's is left alone if it is not
// quoted. The hop count is at least 2. `answer` is answer_to_quoted().
template <typename Frame>
void translate_error(Packet& packet, const Parsed& answer, bool is_to_target,
                     const RenamedEnd& end) noexcept {
  std::uint8_t* frame = packet.data;
  std::uint8_t* icmp = frame + Frame::kL4;
  std::uint8_t* ip = icmp + MR_ICMP_BYTES;
  constexpr std::uint32_t kHeaderBytes = Frame::kL4 - MR_ETH_BYTES;
  std::uint8_t* l4 = ip + kHeaderBytes;
  const std::uint32_t l4_bytes = quoted_bytes(answer) - kHeaderBytes;
  const std::uint64_t new_sum = sum_of(end.addr);

  detail::SumChange icmp_change;
  // The error's destination is the quoted packet's source. Both lie at the same distance from their
  // IP header.
  std::uint8_t* addr = ip + (is_to_target ? Frame::kSource : Frame::kDestination) - MR_ETH_BYTES;
  const std::uint64_t old_sum = detail::sum_of_addr_at<Frame>(addr);
  icmp_change.add(old_sum, new_sum);
  detail::rewrite_addr<Frame>(addr, end.addr);
  if constexpr (Frame::kIsV4) {
    std::uint8_t* field = ip + MR_IPV4_CHECKSUM;
    icmp_change.write(field, mr_updated_checksum(load<std::uint16_t>(field),
                                                 mr_checksum_delta(old_sum, new_sum)));
  }
  std::uint8_t* port = l4 + (is_to_target ? MR_L4_SOURCE_PORT : MR_L4_DESTINATION_PORT);
  const std::uint16_t l4_delta =
      mr_checksum_delta(old_sum + load<std::uint16_t>(port), new_sum + end.port_be);
  icmp_change.write(port, end.port_be);
  const bool is_tcp = answer.protocol == MR_PROTOCOL_TCP;
  const std::uint32_t checksum_at = is_tcp ? MR_TCP_CHECKSUM : MR_UDP_CHECKSUM;
  if (l4_bytes >= checksum_at + sizeof(std::uint16_t)) {
    std::uint8_t* field = l4 + checksum_at;
    const auto checksum = load<std::uint16_t>(field);
    icmp_change.write(field, is_tcp ? mr_updated_checksum(checksum, l4_delta)
                                    : mr_updated_udp_checksum(checksum, l4_delta));
  }

  std::uint8_t* outer_addr = frame + (is_to_target ? Frame::kDestination : Frame::kSource);
  const std::uint64_t outer_sum = detail::sum_of_addr_at<Frame>(outer_addr);
  // ICMPv6 has a pseudo-header (RFC 4443 section 2.3).
  if constexpr (!Frame::kIsV4) icmp_change.add(outer_sum, new_sum);
  std::uint8_t* icmp_checksum = icmp + MR_ICMP_CHECKSUM;
  store(icmp_checksum,
        mr_updated_checksum(load<std::uint16_t>(icmp_checksum), icmp_change.delta()));
  detail::use_up_hop<Frame>(frame, mr_checksum_delta(outer_sum, new_sum));
  detail::rewrite_addr<Frame>(outer_addr, end.addr);
}

}  // namespace millrace::core
