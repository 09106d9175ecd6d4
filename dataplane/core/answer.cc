// SPDX-License-Identifier: Apache-2.0
#include "dataplane/core/answer.h"

#include <algorithm>
#include <cstring>

#include "dataplane/core/checksum.h"
#include "dataplane/core/rewrite.h"
#include "dataplane/core/wire.h"

namespace millrace::core {
namespace {

void write_macs(std::uint8_t* frame, const std::uint8_t* destination,
                const std::uint8_t* source) noexcept {
  std::memcpy(frame + eth::kDestination, destination, 6);
  std::memcpy(frame + eth::kSource, source, 6);
}

constexpr std::array<std::uint8_t, 6> kBroadcastMac = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
constexpr std::array<std::uint8_t, 6> kAllNodesMac = {0x33, 0x33, 0, 0, 0, 1};
constexpr std::array<std::uint8_t, 16> kAllNodes = {0xff, 2, 0, 0, 0, 0, 0, 0,
                                                    0,    0, 0, 0, 0, 0, 0, 1};
// The eight fixed bytes of Ethernet/IPv4 ARP: hardware and protocol type and lengths, operation.
constexpr std::array<std::uint8_t, 8> kArpRequest = {0, 1, 8, 0, 6, 4, 0, 1};
constexpr std::array<std::uint8_t, 8> kArpReply = {0, 1, 8, 0, 6, 4, 0, 2};

constexpr std::uint8_t kTargetLinkLayerOption = 2;  // RFC 4861 section 4.6.1, one unit of 8 bytes
constexpr std::uint8_t kSolicited = 0x40;
constexpr std::uint8_t kOverride = 0x20;
constexpr std::uint8_t kHopLimitNeighbour = 255;
constexpr std::uint8_t kHopLimitOwn = 64;
constexpr std::uint32_t kQuotedPayloadMax = 64;  // 8 are required (RFC 792)
constexpr std::uint32_t kIpv6MtuMin = 1280;      // RFC 8200 section 5
constexpr std::uint32_t kAdvertisementBytes = icmpv6::kNeighbourBytes + 8;
static_assert(eth::kBytes + ipv6::kBytes + kAdvertisementBytes == kAnnouncementBytesMax);

template <std::size_t N>
void put(std::uint8_t* at, const std::array<std::uint8_t, N>& bytes) {
  std::memcpy(at, bytes.data(), N);
}

void swap_bytes(std::uint8_t* a, std::uint8_t* b, std::size_t count) {
  std::swap_ranges(a, a + count, b);
}

// Back to the neighbour that sent the frame.
void turn_link_header(std::uint8_t* frame, const MacAddr& mac) {
  std::array<std::uint8_t, 6> neighbour;
  std::memcpy(neighbour.data(), frame + eth::kSource, neighbour.size());
  write_macs(frame, neighbour.data(), mac.bytes.data());
}

std::uint16_t ipv6_l4_checksum(const std::uint8_t* ip, std::uint8_t protocol, std::uint32_t bytes) {
  return transport_checksum({ip + ipv6::kSource, 16}, {ip + ipv6::kDestination, 16}, protocol,
                            {ip + ipv6::kBytes, bytes});
}

void write_ipv4_checksum(std::uint8_t* ip) {
  store(ip + ipv4::kChecksum, std::uint16_t{0});
  store(ip + ipv4::kChecksum,
        static_cast<std::uint16_t>(~fold(sum_bytes({ip, std::size_t{ipv4::kBytes}}))));
}

// Everything of an advertisement of `bytes` behind the IPv6 addresses, which are in place.
void write_advertisement(std::uint8_t* frame, std::uint32_t bytes, std::uint8_t flags,
                         const MacAddr& mac) {
  std::uint8_t* ip = frame + eth::kBytes;
  store(ip, to_be32(0x60000000));
  store(ip + ipv6::kPayloadLength, to_be16(static_cast<std::uint16_t>(bytes)));
  ip[ipv6::kNextHeader] = ip_protocol::kIcmpv6;
  ip[ipv6::kHopLimit] = kHopLimitNeighbour;
  std::uint8_t* icmp = ip + ipv6::kBytes;
  icmp[0] = icmpv6::kNeighbourAdvertisement;
  icmp[1] = 0;
  store(icmp + icmpv6::kChecksum, std::uint16_t{0});
  store(icmp + 4, std::uint32_t{flags});
  if (bytes == kAdvertisementBytes) {
    std::uint8_t* option = icmp + icmpv6::kNeighbourBytes;
    option[0] = kTargetLinkLayerOption;
    option[1] = 1;
    put(option + 2, mac.bytes);
  }
  store(icmp + icmpv6::kChecksum, ipv6_l4_checksum(ip, ip_protocol::kIcmpv6, bytes));
}

// What a RST needs of a TCP segment, in host order.
struct Segment {
  std::uint32_t sequence = 0;
  std::uint32_t acknowledgement = 0;
  std::uint8_t flags = 0;
  std::uint32_t occupied = 0;  // sequence numbers: payload, and one each for SYN and FIN
};

Segment segment_of(const Packet& packet, const Parsed& parsed) {
  const std::uint8_t* l4 = packet.data + parsed.l4_offset();
  const std::uint8_t flags = l4[tcp::kFlags];
  return {.sequence = from_be32(load<std::uint32_t>(l4 + tcp::kSequence)),
          .acknowledgement = from_be32(load<std::uint32_t>(l4 + tcp::kAcknowledgement)),
          .flags = flags,
          .occupied = tcp_payload_bytes(packet, parsed) + ((flags & tcp::kSyn) != 0) +
                      ((flags & tcp::kFin) != 0)};
}

// Addresses and ports are in place; `reset` says the numbers and the flags besides RST.
void write_reset(Packet& packet, const Parsed& parsed, const Segment& reset) {
  std::uint8_t* ip = packet.data + eth::kBytes;
  std::uint8_t* l4 = packet.data + parsed.l4_offset();
  store(l4 + tcp::kSequence, to_be32(reset.sequence));
  store(l4 + tcp::kAcknowledgement, to_be32(reset.acknowledgement));
  l4[tcp::kDataOffset] = 5 << 4;
  l4[tcp::kFlags] = tcp::kRst | reset.flags;
  std::memset(l4 + tcp::kFlags + 1, 0, 6);  // window, checksum, urgent pointer
  if (parsed.is_v4) {
    store(ip + ipv4::kTotalLength, to_be16(ipv4::kBytes + tcp::kBytes));
    write_ipv4_checksum(ip);
    store(l4 + tcp::kChecksum,
          transport_checksum({ip + ipv4::kSource, 4}, {ip + ipv4::kDestination, 4},
                             ip_protocol::kTcp, {l4, std::size_t{tcp::kBytes}}));
  } else {
    store(ip + ipv6::kPayloadLength, to_be16(tcp::kBytes));
    store(l4 + tcp::kChecksum, ipv6_l4_checksum(ip, ip_protocol::kTcp, tcp::kBytes));
  }
  packet.length = parsed.l4_offset() + tcp::kBytes;
}

}  // namespace

bool is_arp_request(const Packet& packet) noexcept {
  return packet.length >= eth::kBytes + arp::kBytes &&
         load<std::uint16_t>(packet.data + eth::kType) == be(EtherType::arp) &&
         std::memcmp(packet.data + eth::kBytes, kArpRequest.data(), kArpRequest.size()) == 0;
}

AddrWords arp_target(const Packet& packet) noexcept {
  return v4_words_at(packet.data + eth::kBytes + arp::kTargetIp);
}

void answer_arp(Packet& packet, const MacAddr& mac) noexcept {
  std::uint8_t* body = packet.data + eth::kBytes;
  put(body, kArpReply);
  swap_bytes(body + arp::kSenderMac, body + arp::kTargetMac, 6 + 4);
  put(body + arp::kSenderMac, mac.bytes);
  write_macs(packet.data, body + arp::kTargetMac, mac.bytes.data());
}

bool is_neighbour_solicitation(const Packet& packet, const Parsed& parsed) noexcept {
  const std::uint8_t* ip = packet.data + eth::kBytes;
  const std::uint8_t* icmp = packet.data + parsed.l4_offset();
  const std::uint32_t bytes = parsed.ip_bytes - ipv6::kBytes;
  if (parsed.is_v4 || icmp[0] != icmpv6::kNeighbourSolicitation || icmp[1] != 0 ||
      bytes < icmpv6::kNeighbourBytes || ip[ipv6::kHopLimit] != kHopLimitNeighbour ||
      icmp[icmpv6::kNeighbourTarget] == 0xff) {
    return false;
  }
  // A right checksum sums to 0xffff with itself in place, whose complement is 0.
  return ipv6_l4_checksum(ip, ip_protocol::kIcmpv6, bytes) == 0;
}

AddrWords solicited_target(const Packet& packet) noexcept {
  return words_at(packet.data + eth::kBytes + ipv6::kBytes + icmpv6::kNeighbourTarget);
}

bool answer_neighbour_solicitation(Packet& packet, const Parsed& parsed,
                                   const MacAddr& mac) noexcept {
  std::uint8_t* ip = packet.data + eth::kBytes;
  // The frame's buffer may end where the frame does. A solicitation with an option (source
  // link-layer address, nonce) has room for ours; one without is answered without, as section 7.2.4
  // allows for unicast. Only a duplicate address probe without a nonce can't be answered in place.
  const bool is_probe = parsed.source == AddrWords{0, 0};
  const bool has_room = packet.length >= eth::kBytes + ipv6::kBytes + kAdvertisementBytes;
  if (is_probe && !has_room) return false;
  const std::uint32_t bytes = has_room ? kAdvertisementBytes : icmpv6::kNeighbourBytes;
  if (is_probe) {
    put(ip + ipv6::kDestination, kAllNodes);
    write_macs(packet.data, kAllNodesMac.data(), mac.bytes.data());
  } else {
    std::memcpy(ip + ipv6::kDestination, ip + ipv6::kSource, 16);
    turn_link_header(packet.data, mac);
  }
  std::memcpy(ip + ipv6::kSource, ip + ipv6::kBytes + icmpv6::kNeighbourTarget, 16);
  write_advertisement(packet.data, bytes, is_probe ? kOverride : kSolicited | kOverride, mac);
  packet.length = eth::kBytes + ipv6::kBytes + bytes;
  return true;
}

bool is_echo_request(const Packet& packet, const Parsed& parsed) noexcept {
  const std::uint8_t* icmp = packet.data + parsed.l4_offset();
  return icmp[0] == (parsed.is_v4 ? icmp::kEchoRequest : icmpv6::kEchoRequest) && icmp[1] == 0;
}

void answer_echo(Packet& packet, const Parsed& parsed, const MacAddr& mac) noexcept {
  std::uint8_t* ip = packet.data + eth::kBytes;
  std::uint8_t* icmp = packet.data + parsed.l4_offset();
  const std::uint8_t type = icmp[0];
  icmp[0] = parsed.is_v4 ? icmp::kEchoReply : icmpv6::kEchoReply;
  // Swapping the addresses leaves the pseudo-header's sum as it was; only the type changes.
  const std::uint16_t checksum = load<std::uint16_t>(icmp + icmp::kChecksum);
  const std::uint16_t updated = updated_checksum(checksum, checksum_delta(type, icmp[0]));
  // RFC 1624 cannot tell the two zeros apart; 0xffff is right for both, also when all else is 0.
  store(icmp + icmp::kChecksum, updated == 0 ? std::uint16_t{0xffff} : updated);
  if (parsed.is_v4) {
    swap_bytes(ip + ipv4::kSource, ip + ipv4::kDestination, 4);
    ip[ipv4::kTtl] = kHopLimitOwn;
    write_ipv4_checksum(ip);
  } else {
    swap_bytes(ip + ipv6::kSource, ip + ipv6::kDestination, 16);
    ip[ipv6::kHopLimit] = kHopLimitOwn;
  }
  turn_link_header(packet.data, mac);
}

void answer_with_reset(Packet& packet, const Parsed& parsed, const MacAddr& mac) noexcept {
  std::uint8_t* ip = packet.data + eth::kBytes;
  std::uint8_t* l4 = packet.data + parsed.l4_offset();
  const Segment segment = segment_of(packet, parsed);
  const bool has_ack = (segment.flags & tcp::kAck) != 0;
  swap_bytes(l4, l4 + 2, 2);
  if (parsed.is_v4) {
    swap_bytes(ip + ipv4::kSource, ip + ipv4::kDestination, 4);
    ip[ipv4::kTtl] = kHopLimitOwn;
  } else {
    swap_bytes(ip + ipv6::kSource, ip + ipv6::kDestination, 16);
    ip[ipv6::kHopLimit] = kHopLimitOwn;
  }
  turn_link_header(packet.data, mac);
  if (has_ack) return write_reset(packet, parsed, {.sequence = segment.acknowledgement});
  write_reset(packet, parsed,
              {.acknowledgement = segment.sequence + segment.occupied, .flags = tcp::kAck});
}

void become_reset(Packet& packet, Parsed& parsed) noexcept {
  const Segment segment = segment_of(packet, parsed);
  // Some senders put a byte of garbage into a keep-alive (RFC 9293 section 3.8.4).
  const bool may_be_keep_alive = segment.occupied <= 1 && (segment.flags & tcp::kFin) == 0;
  write_reset(packet, parsed, {.sequence = segment.sequence + may_be_keep_alive});
  parsed.tcp_flags = tcp::kRst;
  parsed.ip_bytes = packet.length - eth::kBytes;
}

void answer_with_too_big(Packet& packet, const Parsed& parsed, const MacAddr& mac,
                         std::uint32_t mtu) noexcept {
  const std::uint32_t room = too_big_headroom(parsed);
  const std::uint32_t quoted =
      std::min(parsed.ip_bytes, parsed.l4_offset() - eth::kBytes + kQuotedPayloadMax);
  const std::uint8_t* quote = packet.data + eth::kBytes;
  packet.data -= room;
  packet.headroom = static_cast<std::uint16_t>(packet.headroom - room);
  packet.length = eth::kBytes + room + quoted;
  std::memmove(packet.data, packet.data + room, eth::kBytes);
  turn_link_header(packet.data, mac);
  std::uint8_t* ip = packet.data + eth::kBytes;
  if (parsed.is_v4) {
    const std::uint32_t bytes = ipv4::kBytes + icmp::kBytes + quoted;
    store(ip,
          std::uint32_t{0x45} | std::uint32_t{to_be16(static_cast<std::uint16_t>(bytes))} << 16);
    store(ip + 4, std::uint32_t{0});  // identification, fragment
    ip[ipv4::kTtl] = kHopLimitOwn;
    ip[ipv4::kProtocol] = ip_protocol::kIcmp;
    std::memcpy(ip + ipv4::kSource, quote + ipv4::kDestination, 4);
    std::memcpy(ip + ipv4::kDestination, quote + ipv4::kSource, 4);
    write_ipv4_checksum(ip);
    std::uint8_t* message = ip + ipv4::kBytes;
    store(message, std::uint32_t{icmp::kUnreachable | icmp::kFragmentationNeeded << 8});
    store(message + icmp::kMtu, to_be32(mtu));
    store(message + icmp::kChecksum,
          static_cast<std::uint16_t>(~fold(sum_bytes({message, icmp::kBytes + quoted}))));
    return;
  }
  store(ip, to_be32(0x60000000));
  store(ip + ipv6::kPayloadLength, to_be16(static_cast<std::uint16_t>(icmpv6::kBytes + quoted)));
  ip[ipv6::kNextHeader] = ip_protocol::kIcmpv6;
  ip[ipv6::kHopLimit] = kHopLimitOwn;
  std::memcpy(ip + ipv6::kSource, quote + ipv6::kDestination, 16);
  std::memcpy(ip + ipv6::kDestination, quote + ipv6::kSource, 16);
  std::uint8_t* message = ip + ipv6::kBytes;
  store(message, std::uint32_t{icmpv6::kPacketTooBig});
  store(message + icmpv6::kMtu, to_be32(std::max(mtu, kIpv6MtuMin)));
  store(message + icmpv6::kChecksum,
        ipv6_l4_checksum(ip, ip_protocol::kIcmpv6, icmpv6::kBytes + quoted));
}

std::uint32_t build_announcement(const mr_addr& vip, const MacAddr& mac,
                                 std::span<std::uint8_t> frame) noexcept {
  std::uint8_t* body = frame.data() + eth::kBytes;
  if (is_v4(vip)) {
    write_macs(frame.data(), kBroadcastMac.data(), mac.bytes.data());
    store(frame.data() + eth::kType, be(EtherType::arp));
    put(body, kArpRequest);
    put(body + arp::kSenderMac, mac.bytes);
    store(body + arp::kSenderIp, v4_of(vip));
    std::memset(body + arp::kTargetMac, 0, 6);
    store(body + arp::kTargetIp, v4_of(vip));
    return eth::kBytes + arp::kBytes;
  }
  write_macs(frame.data(), kAllNodesMac.data(), mac.bytes.data());
  store(frame.data() + eth::kType, be(EtherType::ipv6));
  std::memcpy(body + ipv6::kSource, vip.bytes, 16);
  put(body + ipv6::kDestination, kAllNodes);
  std::memcpy(body + ipv6::kBytes + icmpv6::kNeighbourTarget, vip.bytes, 16);
  write_advertisement(frame.data(), kAdvertisementBytes, kOverride, mac);
  return kAnnouncementBytesMax;
}

}  // namespace millrace::core
