// SPDX-License-Identifier: Apache-2.0
//
// HOT: every received packet.
#include "bench/pktgen/receiver.h"

#include "bench/pktgen/l4_checksum.h"
#include "bench/pktgen/mark.h"
#include "dataplane/core/parse.h"
#include "dataplane/core/wire.h"

namespace millrace::pktgen {
namespace {

// The packet without its VLAN tag, as far as the parser looks: the type in front of the IP header
// is where it expects it, only the MACs are not.
core::Packet untagged(const core::Packet& packet) noexcept {
  core::Packet view = packet;
  if (packet.length >= MR_ETH_BYTES + MR_VLAN_BYTES &&
      core::load<std::uint16_t>(packet.data + MR_ETH_TYPE) == core::be(core::EtherType::vlan)) {
    view.data += MR_VLAN_BYTES;
    view.length -= MR_VLAN_BYTES;
  }
  return view;
}

std::uint32_t l4_header_bytes(const core::Packet& packet, const core::Parsed& parsed) noexcept {
  if (parsed.protocol != MR_PROTOCOL_TCP) return MR_UDP_BYTES;  // and ICMP's
  return (packet.data[parsed.l4_offset() + MR_TCP_DATA_OFFSET] >> 4) * 4u;
}

}  // namespace

void Receiver::receive(const core::Burst& burst, std::uint64_t now_ns) noexcept {
  for (std::uint32_t i = 0; i < burst.count; ++i) receive_one(burst.packets[i], now_ns);
}

void Receiver::receive_one(const core::Packet& packet, std::uint64_t now_ns) noexcept {
  ++packets_;
  bytes_ += packet.length;
  const core::Packet view = untagged(packet);
  core::Parsed parsed;
  core::parse(view, parsed);
  if (parsed.shape != core::Shape::transport && parsed.shape != core::Shape::icmp) {
    ++unmarked_;
    return;
  }
  const std::uint32_t payload = parsed.l4_offset() + l4_header_bytes(view, parsed);
  Mark mark;
  if (payload + kMarkBytes > MR_ETH_BYTES + parsed.ip_bytes ||
      !read_mark(view.data + payload, mark) || mark.stream >= streams_.size()) {
    ++unmarked_;
    return;
  }
  if (verifies_checksums_ && !l4_checksum_holds(view, parsed)) {
    ++corrupt_;
    return;
  }
  StreamArrivals& stream = streams_[mark.stream];
  ++stream.packets;
  stream.bytes += packet.length;
  stream.sequence.record(mark.sequence);
  stream.latency_ns.record(now_ns > mark.sent_ns ? now_ns - mark.sent_ns : 0);
}

}  // namespace millrace::pktgen
