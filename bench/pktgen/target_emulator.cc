// SPDX-License-Identifier: Apache-2.0
//
// HOT but for making.
#include "bench/pktgen/target_emulator.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "bench/pktgen/l4_checksum.h"
#include "bench/pktgen/segment_reader.h"
#include "dataplane/core/wire.h"

namespace millrace::pktgen {
namespace {

SegmentShape shape_of(const Connections& connections) {
  return {.protocol = connections.protocol,
          .is_v4 = core::is_v4(connections.first_target),
          .source_mac = connections.target_mac,
          .destination_mac = connections.target_gateway_mac};
}

SegmentShape probe_shape_of(const Connections& connections) {
  SegmentShape shape = shape_of(connections);
  shape.protocol = Protocol::tcp;
  return shape;
}

}  // namespace

TargetEmulator::TargetEmulator(const Connections& connections, Outbox& outbox)
    : flows_(connections.clients, connections.flow_count),
      first_target_(core::words_of(connections.first_target)),
      first_host_(core::from_be32(static_cast<std::uint32_t>(first_target_.high >> 32))),
      target_count_(connections.target_count),
      target_port_be_(core::to_be16(connections.target_port)),
      health_port_be_(core::to_be16(connections.health_port)),
      gue_port_be_(core::to_be16(connections.gue_port)),
      forwarding_(connections.forwarding),
      first_mac_(connections.target_mac),
      vip_{core::words_of(connections.destination), core::to_be16(connections.destination_port)},
      probe_writer_(probe_shape_of(connections)),
      is_tcp_(connections.protocol == Protocol::tcp),
      request_bytes_(connections.request_bytes),
      response_bytes_(connections.response_bytes),
      transmitter_(shape_of(connections), outbox),
      connections_(connections.flow_count),
      shares_(connections.target_count) {}

std::uint32_t TargetEmulator::target_of(const core::AddrWords& addr) const noexcept {
  const auto high = static_cast<std::uint32_t>(addr.high);
  if (addr.low != first_target_.low || high != static_cast<std::uint32_t>(first_target_.high)) {
    return kNoTarget;
  }
  const std::uint32_t number =
      core::from_be32(static_cast<std::uint32_t>(addr.high >> 32)) - first_host_;
  return number < target_count_ ? number : kNoTarget;
}

Mac TargetEmulator::mac_of_number(std::uint32_t target) const noexcept {
  Mac mac = first_mac_;
  if (forwarding_ == Forwarding::nat) return mac;
  const auto last = core::load<std::uint32_t>(mac.data() + 2);
  core::store(mac.data() + 2, core::to_be32(core::from_be32(last) + target));
  return mac;
}

std::optional<Mac> TargetEmulator::mac_of(const core::AddrWords& addr) const noexcept {
  const std::uint32_t target = target_of(addr);
  if (target == kNoTarget) return std::nullopt;
  return mac_of_number(target);
}

std::uint32_t TargetEmulator::target_of(const core::Packet& packet,
                                        const Path& path) const noexcept {
  if (forwarding_ == Forwarding::nat) {
    return path.destination.port_be == target_port_be_ ? target_of(path.destination.addr)
                                                       : kNoTarget;
  }
  if (path.destination != vip_) return kNoTarget;
  const std::uint32_t number =
      core::from_be32(core::load<std::uint32_t>(packet.data + MR_ETH_DESTINATION + 2)) -
      core::from_be32(core::load<std::uint32_t>(first_mac_.data() + 2));
  return number < target_count_ ? number : kNoTarget;
}

bool TargetEmulator::unwrap(core::Packet& packet, const core::Parsed& outer) noexcept {
  if (forwarding_ != Forwarding::ipip && forwarding_ != Forwarding::gue) return false;
  const bool is_gue = outer.shape == core::Shape::transport && outer.protocol == MR_PROTOCOL_UDP &&
                      outer.destination_port_be() == gue_port_be_;
  const bool is_ipip =
      outer.shape == core::Shape::suspicious && outer.reason == MR_DROP_UNSUPPORTED_PROTOCOL &&
      outer.protocol == (outer.is_v4 ? MR_PROTOCOL_IPV4_IN_IP : MR_PROTOCOL_IPV6_IN_IP);
  if (!(forwarding_ == Forwarding::gue ? is_gue : is_ipip)) return false;
  if (is_gue && !l4_checksum_holds(packet, outer)) {
    violations_.count(Violation::bad_checksum);
    return false;
  }
  const std::uint32_t inner_offset = outer.l4_offset() + (is_gue ? MR_UDP_BYTES : 0);
  const std::uint32_t target = target_of(outer.destination);
  if (target == kNoTarget) {
    violations_.count(Violation::wrong_destination);
    return false;
  }
  const std::uint32_t outer_bytes = inner_offset - MR_ETH_BYTES;
  std::array<std::uint8_t, MR_ETH_BYTES> link;
  std::memcpy(link.data(), packet.data, link.size());
  std::ranges::copy(mac_of_number(target), link.data());
  packet.data += outer_bytes;
  packet.length = MR_ETH_BYTES + outer.ip_bytes - outer_bytes;
  std::memcpy(packet.data, link.data(), link.size());
  return true;
}

bool TargetEmulator::is_for_target(const core::Packet& packet,
                                   const core::Parsed& parsed) const noexcept {
  return parsed.destination_port_be() != health_port_be_ &&
         target_of(packet, path_of(parsed)) != kNoTarget;
}

bool TargetEmulator::answer_probe(core::Packet& packet, const core::Parsed& parsed) const noexcept {
  const std::uint32_t target = target_of(parsed.destination);
  if (health_port_be_ == 0 || parsed.protocol != MR_PROTOCOL_TCP ||
      parsed.destination_port_be() != health_port_be_ || target == kNoTarget) {
    return false;
  }
  const Segment asked = read_segment(packet, parsed);
  const bool opens = (asked.tcp_flags & MR_TCP_SYN) != 0;
  if (!opens && (asked.tcp_flags & MR_TCP_FIN) == 0) return false;
  const Path asked_path = path_of(parsed);
  const auto flags = static_cast<std::uint8_t>(MR_TCP_ACK | (opens ? MR_TCP_SYN : MR_TCP_FIN));
  Mac prober;
  std::memcpy(prober.data(), packet.data + MR_ETH_SOURCE, prober.size());
  const Segment answer{.sequence = opens ? ~asked.sequence : asked.acknowledgement,
                       .acknowledgement = asked.sequence + asked.payload_bytes + 1,
                       .payload_bytes = 0,
                       .ordinal = 0,
                       .tcp_flags = flags,
                       .stamp = {}};
  packet.length = probe_writer_.write(
      packet.data, {.source = asked_path.destination, .destination = asked_path.source}, answer);
  std::ranges::copy(prober, packet.data + MR_ETH_DESTINATION);
  std::ranges::copy(mac_of_number(target), packet.data + MR_ETH_SOURCE);  // switches learn
  return true;
}

void TargetEmulator::receive(const core::Packet& packet, const core::Parsed& parsed) noexcept {
  const Path path = path_of(parsed);
  const std::uint32_t flow = flows_.flow_of(path.source);
  const std::uint32_t target = target_of(packet, path);
  if (target == kNoTarget) return violations_.count(Violation::wrong_destination);
  if (flow == FlowMap::kNoFlow) return violations_.count(Violation::wrong_source);
  if (!l4_checksum_holds(packet, parsed)) return violations_.count(Violation::bad_checksum);
  if ((parsed.protocol == MR_PROTOCOL_TCP) != is_tcp_) {
    return violations_.count(Violation::unexpected);
  }
  const Segment segment = read_segment(packet, parsed);
  const Talk talk{.connection = connections_[flow],
                  .path = {.source = path.destination, .destination = path.source},
                  .flow = flow};
  if (!is_tcp_) return receive_datagram(talk, segment, target);
  if ((segment.tcp_flags & MR_TCP_SYN) != 0) return receive_syn(talk, segment, target);
  receive_tcp(talk, segment, target);
}

void TargetEmulator::receive_syn(const Talk& talk, const Segment& segment,
                                 std::uint32_t target) noexcept {
  TcpConnection& connection = talk.connection;
  constexpr std::uint8_t kFlags = MR_TCP_SYN | MR_TCP_ACK;
  if (connection.state == TcpState::opening &&
      segment.sequence + 1 == connection.receive_next) {  // the client repeats it
    if (connection.peer != target) return violations_.count(Violation::moved);
    transmitter_.count_repeated();
    (void)transmitter_.send(talk, kFlags, connection.send_next - 1, 0);  // asked again
    return;
  }
  const std::uint32_t sequence = ~segment.sequence;
  connection = {.send_acked = sequence,
                .send_next = sequence + 1,
                .receive_next = segment.sequence + 1,
                .to_receive = request_bytes_,
                .peer = target,
                .ordinal = connection.ordinal,
                .seen_ordinal = segment.ordinal,
                .state = TcpState::opening};
  ++counts_.opened;
  ++shares_[target];
  (void)transmitter_.send(talk, kFlags, sequence, 0);  // the client repeats its SYN
}

void TargetEmulator::receive_tcp(const Talk& talk, const Segment& segment,
                                 std::uint32_t target) noexcept {
  TcpConnection& connection = talk.connection;
  if (connection.state == TcpState::closed) return violations_.count(Violation::unexpected);
  if (connection.peer != target) return violations_.count(Violation::moved);
  if ((segment.tcp_flags & MR_TCP_RST) != 0) {
    if (connection.state != TcpState::done) ++counts_.reset;
    connection.state = TcpState::done;
    return;
  }
  check_order(connection, segment);
  receive_data(talk, segment);
}

void TargetEmulator::check_order(TcpConnection& connection, const Segment& segment) noexcept {
  const auto ahead = static_cast<std::int16_t>(segment.ordinal - connection.seen_ordinal);
  if (ahead <= 0) return violations_.count(Violation::out_of_order);
  connection.seen_ordinal = segment.ordinal;
}

void TargetEmulator::receive_data(const Talk& talk, const Segment& segment) noexcept {
  TcpConnection& connection = talk.connection;
  const Absorbed absorbed = absorb(connection, segment);
  if (absorbed.acknowledges_unsent) return violations_.count(Violation::unexpected);
  if (absorbed.has_progress && connection.state == TcpState::opening) {
    connection.state = TcpState::open;
  }
  if (absorbed.new_bytes > 0) take_request_bytes(connection, segment, absorbed.new_bytes);
  if (connection.peer_closed) connection.wants_to_close = true;
  if (connection.state == TcpState::closing && connection.send_acked == connection.send_next) {
    connection.state = TcpState::done;
    ++counts_.closed;
    return;
  }
  const bool has_unacknowledged = connection.send_acked != connection.send_next;
  if (!absorbed.has_progress && has_unacknowledged) return transmitter_.send_again(talk);
  transmitter_.send_pending(talk, absorbed.must_acknowledge);
}

void TargetEmulator::take_request_bytes(TcpConnection& connection, const Segment& segment,
                                        std::uint32_t new_bytes) noexcept {
  // The client counts its connections in the stamp; what differs is another connection's.
  if (segment.has_stamp) {
    const auto flow = static_cast<std::uint32_t>(&connection - connections_.data());
    if (connection.number == 0) connection.number = segment.stamp.connection;
    if (segment.stamp != Stamp{.connection = connection.number, .flow = flow}) {
      violations_.count(Violation::wrong_content);
    }
  }
  if (new_bytes > connection.to_receive) violations_.count(Violation::wrong_content);
  connection.to_receive -= std::min(new_bytes, connection.to_receive);
  if (connection.to_receive > 0) return;
  ++counts_.requests;
  connection.to_send = response_bytes_;
  connection.to_receive = request_bytes_;
}

void TargetEmulator::receive_datagram(const Talk& talk, const Segment& segment,
                                      std::uint32_t target) noexcept {
  TcpConnection& connection = talk.connection;
  const std::uint32_t number = segment.has_stamp ? segment.stamp.connection : 0;
  if (segment.has_stamp && segment.stamp.flow != talk.flow) {
    return violations_.count(Violation::wrong_content);
  }
  if (connection.state == TcpState::closed || connection.number != number) {
    connection.number = number;
    connection.peer = target;
    connection.state = TcpState::open;
    connection.seen_ordinal = segment.ordinal;
    ++counts_.opened;
    ++shares_[target];
  } else if (connection.peer != target) {
    return violations_.count(Violation::moved);
  } else {
    check_order(connection, segment);
  }
  if (segment.payload_bytes != request_bytes_) violations_.count(Violation::wrong_content);
  ++counts_.requests;
  (void)transmitter_.send(talk, 0, 0, response_bytes_);  // without room it counts as lost
}

}  // namespace millrace::pktgen
