// SPDX-License-Identifier: Apache-2.0
#include "bench/pktgen/frame_rewrite.h"

#include <algorithm>

#include "dataplane/core/checksum.h"
#include "dataplane/core/wire.h"

namespace millrace::pktgen {
namespace {

using namespace core;  // wire.h's offsets, loads and stores

struct IpPlace {
  std::uint32_t offset = 0;
  bool is_v4 = false;
};

std::optional<IpPlace> find_ip(std::span<const std::uint8_t> frame) {
  std::uint32_t offset = MR_ETH_BYTES;
  if (frame.size() < offset + MR_VLAN_BYTES) return std::nullopt;
  if (load<std::uint16_t>(frame.data() + MR_ETH_TYPE) == be(EtherType::vlan))
    offset += MR_VLAN_BYTES;
  const auto type = load<std::uint16_t>(frame.data() + offset - 2);
  if (type == be(EtherType::ipv4) && frame.size() >= offset + MR_IPV4_BYTES)
    return {{offset, true}};
  if (type == be(EtherType::ipv6) && frame.size() >= offset + MR_IPV6_BYTES) {
    return {{offset, false}};
  }
  return std::nullopt;
}

// Where the checksum over the pseudo-header is, if there is one and it is in the frame.
std::uint8_t* find_l4_checksum(std::span<std::uint8_t> frame, const IpPlace& place) {
  std::uint8_t* ip = frame.data() + place.offset;
  const std::uint8_t protocol = ip[place.is_v4 ? MR_IPV4_PROTOCOL : MR_IPV6_NEXT_HEADER];
  std::uint32_t at = place.offset + (place.is_v4 ? (ip[0] & 0x0fu) * 4u : MR_IPV6_BYTES);
  if (place.is_v4 && (load<std::uint16_t>(ip + MR_IPV4_FRAGMENT) & to_be16(0x1fff)) != 0) {
    return nullptr;  // a later fragment: no L4 header
  }
  if (protocol == MR_PROTOCOL_TCP) {
    at += MR_TCP_CHECKSUM;
  } else if (protocol == MR_PROTOCOL_UDP) {
    at += MR_UDP_CHECKSUM;
  } else if (protocol == MR_PROTOCOL_ICMPV6 && !place.is_v4) {
    at += MR_ICMP_CHECKSUM;
  } else {
    return nullptr;
  }
  if (at + 2 > frame.size()) return nullptr;
  const bool has_none = protocol == MR_PROTOCOL_UDP && load<std::uint16_t>(&frame[at]) == 0;
  return has_none ? nullptr : &frame[at];
}

void update_checksum(std::uint8_t* at, std::uint16_t delta) {
  store(at, mr_updated_checksum(load<std::uint16_t>(at), delta));
}

void replace_addr(std::span<std::uint8_t> frame, const IpPlace& place, std::uint32_t at,
                  const mr_addr& addr) {
  const std::uint32_t bytes = place.is_v4 ? 4 : 16;
  std::uint8_t* field = frame.data() + place.offset + at;
  const std::uint8_t* replacement = addr.bytes + (16 - bytes);
  const std::uint16_t delta =
      mr_checksum_delta(sum_bytes({field, bytes}), sum_bytes({replacement, bytes}));
  if (std::uint8_t* l4 = find_l4_checksum(frame, place)) update_checksum(l4, delta);
  if (place.is_v4) update_checksum(frame.data() + place.offset + MR_IPV4_CHECKSUM, delta);
  std::copy_n(replacement, bytes, field);
}

}  // namespace

void rewrite_frame(std::span<std::uint8_t> frame, const FrameRewrite& rewrite) {
  if (frame.size() < MR_ETH_BYTES) return;
  std::ranges::copy(rewrite.destination_mac, frame.data() + MR_ETH_DESTINATION);
  std::ranges::copy(rewrite.source_mac, frame.data() + MR_ETH_SOURCE);
  const auto place = find_ip(frame);
  if (!place) return;
  const std::uint32_t source = place->is_v4 ? MR_IPV4_SOURCE : MR_IPV6_SOURCE;
  const std::uint32_t destination = place->is_v4 ? MR_IPV4_DESTINATION : MR_IPV6_DESTINATION;
  if (rewrite.destination && is_v4(*rewrite.destination) == place->is_v4) {
    replace_addr(frame, *place, destination, *rewrite.destination);
  }
  if (rewrite.clients && is_v4(rewrite.clients->first) == place->is_v4) {
    const std::uint8_t* last = frame.data() + place->offset + source + (place->is_v4 ? 0 : 12);
    const std::uint32_t number = from_be32(load<std::uint32_t>(last));
    mr_addr addr = rewrite.clients->first;
    store(addr.bytes + kV4InMapped,
          to_be32(from_be32(v4_of(addr)) + number % rewrite.clients->address_count));
    replace_addr(frame, *place, source, addr);
  }
}

}  // namespace millrace::pktgen
