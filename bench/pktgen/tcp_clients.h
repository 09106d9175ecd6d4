// SPDX-License-Identifier: Apache-2.0
//
// Clients: open connections by the clock, ask, wait for the answer, close. HOT but for making.
//
//   SYN -> SYN ACK -> request -> response [think, request, response]... -> FIN -> FIN ACK -> ACK
//
// Flows are used in turn. One that is still busy when its turn comes is left out and counted: the
// rate does not wait for it. UDP: a request is one datagram, the response another, and what does
// not come within the timeouts is lost.
#pragma once

#include <cstdint>
#include <vector>

#include "bench/pktgen/delay_queue.h"
#include "bench/pktgen/flow_map.h"
#include "bench/pktgen/histogram.h"
#include "bench/pktgen/outbox.h"
#include "bench/pktgen/profile.h"
#include "bench/pktgen/rate_clock.h"
#include "bench/pktgen/tcp_connection.h"
#include "bench/pktgen/violations.h"
#include "dataplane/core/packet.h"
#include "dataplane/core/parse.h"

namespace millrace::pktgen {

struct ClientCounts {
  std::uint64_t opened = 0;       // first packet sent
  std::uint64_t established = 0;  // TCP
  std::uint64_t completed = 0;    // every response came; TCP: and both sides closed
  std::uint64_t responses = 0;
  std::uint64_t timed_out = 0;
  std::uint64_t reset = 0;
  std::uint64_t cut_short = 0;  // the other side closed before all responses came
  std::uint64_t flow_busy = 0;  // not opened: the flow's last connection was not over
};

class TcpClients {
 public:
  // 200 ms: what is lost is sent again after that, six times, then the connection has failed.
  static constexpr std::uint32_t kTimeoutMs = 200;
  static constexpr std::uint8_t kTriesMax = 6;

  TcpClients(const Connections& connections, Outbox& outbox);

  void start(std::uint64_t now_ns) noexcept { clock_.start(now_ns); }
  // Opens what is due, at most a burst, and serves timers.
  void open_due(std::uint64_t now_ns) noexcept;
  void serve_timers(std::uint64_t now_ns) noexcept;

  // A packet to one of the clients, with shape transport.
  void receive(const core::Packet& packet, const core::Parsed& parsed,
               std::uint64_t now_ns) noexcept;

  [[nodiscard]] const FlowMap& flows() const { return flows_; }
  [[nodiscard]] const ClientCounts& counts() const { return counts_; }
  [[nodiscard]] const Violations& violations() const { return violations_; }
  [[nodiscard]] const Histogram& connect_ns() const { return connect_ns_; }
  [[nodiscard]] const Histogram& response_ns() const { return response_ns_; }
  [[nodiscard]] std::uint64_t repeated() const { return transmitter_.repeated(); }
  [[nodiscard]] std::uint64_t given_up_ns() const { return clock_.given_up_ns(); }
  // Connections that are neither completed nor failed.
  [[nodiscard]] std::uint64_t live() const {
    return counts_.opened - counts_.completed - counts_.timed_out - counts_.reset -
           counts_.cut_short;
  }

 private:
  using Talk = TcpTransmitter::Talk;

  void open(std::uint32_t flow, std::uint64_t now_ns) noexcept;
  void ask(const Talk& talk, std::uint64_t now_ns) noexcept;
  void receive_opening(const Talk& talk, const Segment& segment, std::uint64_t now_ns) noexcept;
  void receive_open(const Talk& talk, const Segment& segment, std::uint64_t now_ns) noexcept;
  void take_response_bytes(const Talk& talk, const Segment& segment, std::uint32_t new_bytes,
                           std::uint64_t now_ns) noexcept;
  void receive_datagram(const Talk& talk, const Segment& segment, std::uint64_t now_ns) noexcept;
  void finish(TcpConnection& connection, std::uint64_t& count) noexcept;
  void time_out(std::uint32_t flow, std::uint32_t now_ms) noexcept;
  [[nodiscard]] Talk talk_of(std::uint32_t flow) noexcept;

  FlowMap flows_;
  Endpoint vip_;
  bool is_tcp_;
  std::uint32_t request_bytes_;
  std::uint32_t response_bytes_;
  std::uint32_t request_count_;
  std::uint32_t next_flow_ = 0;
  RateClock clock_;
  TcpTransmitter transmitter_;
  DelayQueue timers_;
  DelayQueue thinking_;
  std::vector<TcpConnection> connections_;  // by flow
  ClientCounts counts_;
  Violations violations_;
  Histogram connect_ns_;
  Histogram response_ns_;
};

}  // namespace millrace::pktgen
