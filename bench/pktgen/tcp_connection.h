// SPDX-License-Identifier: Apache-2.0
//
// What both ends of a TCP connection do alike: take in a segment, send what may be sent, send
// again what was lost. HOT.
//
// A real state machine (RFC 9293) without what a load balancer never sees the difference of: the
// window is fixed at ten segments, nothing is reassembled (what comes out of order is asked for
// again), and clients alone have timers; a target sends again when its client asks.
#pragma once

#include <algorithm>
#include <cstdint>

#include "bench/pktgen/outbox.h"
#include "bench/pktgen/segment_writer.h"
#include "dataplane/core/wire.h"

namespace millrace::pktgen {

enum class TcpState : std::uint8_t {
  closed,
  opening,  // SYN, or SYN and ACK, is out
  open,
  closing,  // our FIN is out
  done,     // both FINs are acknowledged; kept so that a late segment is understood
};

struct TcpConnection {
  std::uint64_t since_ns = 0;  // begin of what is timed now: the connection, or a request
  std::uint32_t number = 0;    // of the flow's connections, from 1; target: 0 until the client says
  std::uint32_t progress_ms = 0;  // when the peer last said something new
  std::uint32_t send_acked = 0;
  std::uint32_t send_next = 0;
  std::uint32_t receive_next = 0;
  std::uint32_t to_send = 0;     // bytes of this side's message that were never sent
  std::uint32_t to_receive = 0;  // bytes of the other's that have not come
  std::uint32_t peer = 0;        // target: which one; client: requests that are left
  std::uint16_t ordinal = 0;     // of the last segment sent
  std::uint16_t seen_ordinal = 0;
  TcpState state = TcpState::closed;
  std::uint8_t tries = 0;  // since the last progress
  bool wants_to_close = false;
  bool peer_closed = false;
  bool is_thinking = false;  // client: between a response and the next request
  bool has_timer = false;    // client: has an entry in the queue of that name
  bool has_think_timer = false;
};
static_assert(sizeof(TcpConnection) == 56, "a million connections in 56 MB");

// What a segment brought.
struct Absorbed {
  std::uint32_t new_bytes = 0;
  bool has_progress = false;  // new data, FIN or acknowledgement
  bool must_acknowledge = false;
  bool acknowledges_unsent = false;  // the peer must never do that
};

// a is before b, modulo 2^32.
[[nodiscard]] inline bool is_before(std::uint32_t a, std::uint32_t b) noexcept {
  return static_cast<std::int32_t>(a - b) < 0;
}

// A segment of an open or closing connection, without SYN and RST. A FIN sets peer_closed.
[[nodiscard]] inline Absorbed absorb(TcpConnection& connection, const Segment& segment) noexcept {
  Absorbed absorbed;
  if (is_before(connection.send_next, segment.acknowledgement)) {
    absorbed.acknowledges_unsent = true;
    return absorbed;
  }
  if (is_before(connection.send_acked, segment.acknowledgement)) {
    connection.send_acked = segment.acknowledgement;
    absorbed.has_progress = true;
  }
  const bool has_fin = (segment.tcp_flags & MR_TCP_FIN) != 0;
  if (segment.payload_bytes == 0 && !has_fin) return absorbed;
  absorbed.must_acknowledge = true;
  if (segment.sequence != connection.receive_next) return absorbed;  // a gap, or seen before
  connection.receive_next += segment.payload_bytes;
  absorbed.new_bytes = segment.payload_bytes;
  absorbed.has_progress = true;
  if (has_fin) {
    ++connection.receive_next;
    connection.peer_closed = true;
  }
  return absorbed;
}

class TcpTransmitter {
 public:
  static constexpr std::uint32_t kWindowSegments = 10;

  TcpTransmitter(const SegmentShape& shape, Outbox& outbox)
      : writer_(shape), outbox_(outbox), segment_bytes_(writer_.payload_bytes_max()) {}

  struct Talk {
    TcpConnection& connection;
    Path path;
    std::uint32_t flow;
  };

  // One segment as the connection stands, from `sequence` on. False when there was no room.
  bool send(const Talk& talk, std::uint8_t flags, std::uint32_t sequence,
            std::uint32_t payload_bytes) noexcept {
    std::uint8_t* frame = outbox_.room();
    if (frame == nullptr) return false;
    TcpConnection& connection = talk.connection;
    const Segment segment{.sequence = sequence,
                          .acknowledgement = connection.receive_next,
                          .payload_bytes = payload_bytes,
                          .ordinal = ++connection.ordinal,
                          .tcp_flags = flags,
                          .stamp = {.connection = connection.number, .flow = talk.flow}};
    outbox_.commit(writer_.write(frame, talk.path, segment));
    ++segments_;
    return true;
  }

  // Data as far as the window goes, then the FIN if wanted, and an acknowledgement if none of them
  // could carry it.
  void send_pending(const Talk& talk, bool must_acknowledge) noexcept {
    TcpConnection& connection = talk.connection;
    while (connection.to_send > 0 &&
           connection.send_next - connection.send_acked < kWindowSegments * segment_bytes_) {
      const std::uint32_t bytes = std::min(connection.to_send, segment_bytes_);
      if (!send(talk, MR_TCP_ACK, connection.send_next, bytes)) return;
      connection.send_next += bytes;
      connection.to_send -= bytes;
      must_acknowledge = false;
    }
    if (connection.wants_to_close && connection.to_send == 0 &&
        connection.state == TcpState::open) {
      constexpr std::uint8_t kFlags = MR_TCP_FIN | MR_TCP_ACK;
      if (!send(talk, kFlags, connection.send_next, 0)) return;
      ++connection.send_next;
      connection.state = TcpState::closing;
      must_acknowledge = false;
    }
    if (must_acknowledge) (void)send(talk, MR_TCP_ACK, connection.send_next, 0);  // asked again
  }

  // The first segment that is not acknowledged; if there is none, an acknowledgement, so that a
  // peer with something unacknowledged sends that again.
  void send_again(const Talk& talk) noexcept {
    const TcpConnection& connection = talk.connection;
    ++repeated_;
    const std::uint32_t out = connection.send_next - connection.send_acked;
    if (out == 0) {
      (void)send(talk, MR_TCP_ACK, connection.send_next, 0);  // the timer comes again
      return;
    }
    const bool has_fin = connection.state == TcpState::closing;
    const std::uint32_t data_bytes = out - (has_fin ? 1 : 0);
    const std::uint32_t bytes = std::min(data_bytes, segment_bytes_);
    const bool is_fin = data_bytes == 0;
    const auto flags = static_cast<std::uint8_t>(MR_TCP_ACK | (is_fin ? MR_TCP_FIN : 0));
    (void)send(talk, flags, connection.send_acked, bytes);  // likewise
  }

  [[nodiscard]] std::uint64_t segments() const noexcept { return segments_; }
  [[nodiscard]] std::uint64_t repeated() const noexcept { return repeated_; }
  [[nodiscard]] bool is_short_of_room() const noexcept { return outbox_.is_half_full(); }
  void count_repeated() noexcept { ++repeated_; }

 private:
  SegmentWriter writer_;
  Outbox& outbox_;
  std::uint32_t segment_bytes_;
  std::uint64_t segments_ = 0;
  std::uint64_t repeated_ = 0;
};

}  // namespace millrace::pktgen
