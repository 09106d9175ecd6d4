// SPDX-License-Identifier: Apache-2.0
//
// HOT but for making.
#include "bench/pktgen/tcp_clients.h"

#include "bench/pktgen/l4_checksum.h"
#include "bench/pktgen/segment_reader.h"
#include "dataplane/core/wire.h"

namespace millrace::pktgen {
namespace {

constexpr std::uint8_t kSynAck = MR_TCP_SYN | MR_TCP_ACK;

std::uint32_t ms_of(std::uint64_t ns) noexcept {
  return static_cast<std::uint32_t>(ns / 1'000'000);
}

// Spread over the number space, so that no two connections of a flow look alike (RFC 6528 is about
// attackers; there are none here).
std::uint32_t first_sequence(std::uint32_t flow, std::uint32_t number) noexcept {
  return flow * 2654435761u + number * 2246822519u;
}

SegmentShape client_shape_of(const Connections& connections) {
  return {.protocol = connections.protocol,
          .is_v4 = core::is_v4(connections.destination),
          .source_mac = connections.client_mac,
          .destination_mac = connections.client_gateway_mac};
}

}  // namespace

TcpClients::TcpClients(const Connections& connections, Outbox& outbox)
    : flows_(connections.clients, connections.flow_count),
      vip_{core::words_of(connections.destination), core::to_be16(connections.destination_port)},
      is_tcp_(connections.protocol == Protocol::tcp),
      request_bytes_(connections.request_bytes),
      response_bytes_(connections.response_bytes),
      request_count_(connections.request_count),
      clock_(connections.rate),
      transmitter_(client_shape_of(connections), outbox),
      timers_(kTimeoutMs, connections.flow_count),
      thinking_(connections.think_ms, connections.flow_count),
      connections_(connections.flow_count) {}

TcpClients::Talk TcpClients::talk_of(std::uint32_t flow) noexcept {
  return {.connection = connections_[flow],
          .path = {.source = flows_.endpoint_of(flow), .destination = vip_},
          .flow = flow};
}

void TcpClients::open_due(std::uint64_t now_ns) noexcept {
  clock_.give_up_lost_time(now_ns);
  // Connections that are open already come first when the nic does not take what they say.
  if (transmitter_.is_short_of_room()) return;
  for (std::uint32_t i = 0; i < core::kBurstMax && clock_.is_due(now_ns); ++i) {
    clock_.charge(0);
    const std::uint32_t flow = next_flow_;
    next_flow_ = next_flow_ + 1 == connections_.size() ? 0 : next_flow_ + 1;
    const TcpState state = connections_[flow].state;
    if (state == TcpState::closed || state == TcpState::done) {
      open(flow, now_ns);
    } else {
      ++counts_.flow_busy;
    }
  }
}

void TcpClients::open(std::uint32_t flow, std::uint64_t now_ns) noexcept {
  TcpConnection& connection = connections_[flow];
  const std::uint32_t number = connection.number + 1;
  const std::uint32_t sequence = first_sequence(flow, number);
  connection = {.since_ns = now_ns,
                .number = number,
                .progress_ms = ms_of(now_ns),
                .send_acked = sequence,
                .send_next = sequence,
                .peer = request_count_,
                .ordinal = connection.ordinal,
                .state = is_tcp_ ? TcpState::opening : TcpState::open,
                .has_timer = connection.has_timer,
                .has_think_timer = connection.has_think_timer};
  ++counts_.opened;
  if (!connection.has_timer) {
    connection.has_timer = true;
    timers_.push(connection.progress_ms, flow);
  }
  const Talk talk = talk_of(flow);
  if (!is_tcp_) return ask(talk, now_ns);
  (void)transmitter_.send(talk, MR_TCP_SYN, sequence, 0);  // without room the timer sends it
  ++connection.send_next;
}

void TcpClients::ask(const Talk& talk, std::uint64_t now_ns) noexcept {
  TcpConnection& connection = talk.connection;
  connection.is_thinking = false;
  connection.since_ns = now_ns;
  connection.progress_ms = ms_of(now_ns);
  connection.tries = 0;
  connection.to_receive = response_bytes_;
  if (is_tcp_) {
    connection.to_send = request_bytes_;
    return transmitter_.send_pending(talk, true);
  }
  (void)transmitter_.send(talk, 0, 0, request_bytes_);  // without room it counts as lost
}

void TcpClients::receive(const core::Packet& packet, const core::Parsed& parsed,
                         std::uint64_t now_ns) noexcept {
  const Path path = path_of(parsed);
  const std::uint32_t flow = flows_.flow_of(path.destination);
  if (!l4_checksum_holds(packet, parsed)) return violations_.count(Violation::bad_checksum);
  if (path.source != vip_) return violations_.count(Violation::wrong_source);
  const Segment segment = read_segment(packet, parsed);
  const Talk talk = talk_of(flow);
  TcpConnection& connection = talk.connection;
  const bool is_tcp = parsed.protocol == MR_PROTOCOL_TCP;
  if (is_tcp != is_tcp_) return violations_.count(Violation::unexpected);
  if (connection.state == TcpState::closed) return violations_.count(Violation::unexpected);
  if (!is_tcp) return receive_datagram(talk, segment, now_ns);
  if ((segment.tcp_flags & MR_TCP_RST) != 0) {
    if (connection.state != TcpState::done) finish(connection, counts_.reset);
    return;
  }
  if (connection.state == TcpState::opening) return receive_opening(talk, segment, now_ns);
  if ((segment.tcp_flags & MR_TCP_SYN) != 0) {  // our acknowledgement of it was lost
    return transmitter_.send_again(talk);
  }
  receive_open(talk, segment, now_ns);
}

void TcpClients::receive_opening(const Talk& talk, const Segment& segment,
                                 std::uint64_t now_ns) noexcept {
  TcpConnection& connection = talk.connection;
  if ((segment.tcp_flags & kSynAck) != kSynAck || segment.acknowledgement != connection.send_next) {
    return;  // what is left of the flow's last connection
  }
  connection.send_acked = segment.acknowledgement;
  connection.receive_next = segment.sequence + 1;
  connection.seen_ordinal = segment.ordinal;
  connection.state = TcpState::open;
  ++counts_.established;
  connect_ns_.record(now_ns - connection.since_ns);
  ask(talk, now_ns);
}

void TcpClients::receive_open(const Talk& talk, const Segment& segment,
                              std::uint64_t now_ns) noexcept {
  TcpConnection& connection = talk.connection;
  const auto ahead = static_cast<std::int16_t>(segment.ordinal - connection.seen_ordinal);
  if (ahead <= 0) {
    violations_.count(Violation::out_of_order);
  } else {
    connection.seen_ordinal = segment.ordinal;
  }
  const Absorbed absorbed = absorb(connection, segment);
  if (absorbed.acknowledges_unsent) return violations_.count(Violation::unexpected);
  if (absorbed.has_progress) {
    connection.progress_ms = ms_of(now_ns);
    connection.tries = 0;
  }
  if (absorbed.new_bytes > 0) take_response_bytes(talk, segment, absorbed.new_bytes, now_ns);
  if (connection.peer_closed && connection.state == TcpState::closing &&
      connection.send_acked == connection.send_next) {
    (void)transmitter_.send(talk, MR_TCP_ACK, connection.send_next, 0);  // asked for again if lost
    return finish(connection, connection.peer == 0 ? counts_.completed : counts_.cut_short);
  }
  if (connection.peer_closed && connection.state == TcpState::open)
    connection.wants_to_close = true;
  transmitter_.send_pending(talk, absorbed.must_acknowledge);
}

void TcpClients::take_response_bytes(const Talk& talk, const Segment& segment,
                                     std::uint32_t new_bytes, std::uint64_t now_ns) noexcept {
  TcpConnection& connection = talk.connection;
  const Stamp expected{.connection = connection.number, .flow = talk.flow};
  if (new_bytes > connection.to_receive || (segment.has_stamp && segment.stamp != expected)) {
    violations_.count(Violation::wrong_content);
  }
  connection.to_receive -= std::min(new_bytes, connection.to_receive);
  if (connection.to_receive > 0) return;
  ++counts_.responses;
  response_ns_.record(now_ns - connection.since_ns);
  if (--connection.peer == 0) {
    connection.wants_to_close = true;
  } else if (thinking_.delay_ms() == 0) {
    connection.since_ns = now_ns;
    connection.to_receive = response_bytes_;
    connection.to_send = request_bytes_;
  } else {
    connection.is_thinking = true;
    connection.since_ns = now_ns;
    if (!connection.has_think_timer) thinking_.push(ms_of(now_ns), talk.flow);
    connection.has_think_timer = true;
  }
}

void TcpClients::receive_datagram(const Talk& talk, const Segment& segment,
                                  std::uint64_t now_ns) noexcept {
  TcpConnection& connection = talk.connection;
  const Stamp expected{.connection = connection.number, .flow = talk.flow};
  if (segment.has_stamp && segment.stamp != expected) {
    return violations_.count(Violation::wrong_content);
  }
  const auto ahead = static_cast<std::int16_t>(segment.ordinal - connection.seen_ordinal);
  const bool is_first = connection.peer == request_count_;
  if (connection.state == TcpState::done || connection.is_thinking || (!is_first && ahead <= 0)) {
    return violations_.count(Violation::out_of_order);  // delivered twice
  }
  connection.seen_ordinal = segment.ordinal;
  if (segment.payload_bytes != response_bytes_) violations_.count(Violation::wrong_content);
  ++counts_.responses;
  response_ns_.record(now_ns - connection.since_ns);
  if (--connection.peer == 0) return finish(connection, counts_.completed);
  if (thinking_.delay_ms() == 0) return ask(talk, now_ns);
  connection.is_thinking = true;
  connection.since_ns = now_ns;
  if (!connection.has_think_timer) thinking_.push(ms_of(now_ns), talk.flow);
  connection.has_think_timer = true;
}

void TcpClients::finish(TcpConnection& connection, std::uint64_t& count) noexcept {
  connection.state = TcpState::done;
  connection.is_thinking = false;
  ++count;
}

void TcpClients::serve_timers(std::uint64_t now_ns) noexcept {
  const std::uint32_t now_ms = ms_of(now_ns);
  std::uint32_t flow = 0;
  for (std::uint32_t i = 0; i < core::kBurstMax && timers_.pop_due(now_ms, flow); ++i) {
    time_out(flow, now_ms);
  }
  for (std::uint32_t i = 0; i < core::kBurstMax && thinking_.pop_due(now_ms, flow); ++i) {
    TcpConnection& connection = connections_[flow];
    connection.has_think_timer = false;
    if (!connection.is_thinking) continue;
    if (now_ms - ms_of(connection.since_ns) < thinking_.delay_ms()) {
      connection.has_think_timer = true;  // of a connection before this one
      thinking_.push(now_ms, flow);
      continue;
    }
    ask(talk_of(flow), now_ns);
  }
}

void TcpClients::time_out(std::uint32_t flow, std::uint32_t now_ms) noexcept {
  TcpConnection& connection = connections_[flow];
  connection.has_timer = false;
  if (connection.state == TcpState::closed || connection.state == TcpState::done) return;
  connection.has_timer = true;
  timers_.push(now_ms, flow);
  if (connection.is_thinking || now_ms - connection.progress_ms < kTimeoutMs) return;
  if (++connection.tries > kTriesMax) return finish(connection, counts_.timed_out);
  if (!is_tcp_) return;  // nothing is sent again
  const Talk talk = talk_of(flow);
  if (connection.state == TcpState::opening) {
    transmitter_.count_repeated();
    (void)transmitter_.send(talk, MR_TCP_SYN, connection.send_acked, 0);  // the timer comes again
    return;
  }
  transmitter_.send_again(talk);
  transmitter_.send_pending(talk, false);
}

}  // namespace millrace::pktgen
