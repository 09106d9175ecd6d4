// SPDX-License-Identifier: Apache-2.0
//
// Emulated targets: thousands of addresses that accept connections, answer requests, and hold every
// packet against what a load balancer owes it. HOT but for making.
//
// One record per flow for all targets together, so that a connection whose packets reach a second
// target is seen at its first wrong packet. A target has no timers: it sends again when its client
// repeats itself or asks.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "bench/pktgen/flow_map.h"
#include "bench/pktgen/outbox.h"
#include "bench/pktgen/profile.h"
#include "bench/pktgen/segment_writer.h"
#include "bench/pktgen/tcp_connection.h"
#include "bench/pktgen/violations.h"
#include "dataplane/core/packet.h"
#include "dataplane/core/parse.h"

namespace millrace::pktgen {

struct TargetCounts {
  std::uint64_t opened = 0;    // connections; UDP: first requests
  std::uint64_t requests = 0;  // whole ones
  std::uint64_t closed = 0;    // both sides
  std::uint64_t reset = 0;     // by the client or the balancer
};

class TargetEmulator {
 public:
  TargetEmulator(const Connections& connections, Outbox& outbox);

  // Takes a packet out of the one that an ipip or gue balancer put it into, so that it looks as a
  // dsr balancer would have brought it. False for any other packet, which stays as it is.
  [[nodiscard]] bool unwrap(core::Packet& packet, const core::Parsed& outer) noexcept;

  // Whether its destination is a target and no health probe's, whoever sent it: one that is not
  // from a client may be a client's whose source was changed.
  [[nodiscard]] bool is_for_target(const core::Packet& packet,
                                   const core::Parsed& parsed) const noexcept;

  // A packet from one of the clients or to one of the targets, with shape transport.
  void receive(const core::Packet& packet, const core::Parsed& parsed) noexcept;

  // Nothing for an address that no target has.
  [[nodiscard]] std::optional<Mac> mac_of(const core::AddrWords& addr) const noexcept;

  // True when `packet`, with shape transport, was part of a TCP health probe and is now what a
  // target says to it: it takes the connection, and closes it when the prober does.
  [[nodiscard]] bool answer_probe(core::Packet& packet, const core::Parsed& parsed) const noexcept;

  [[nodiscard]] const TargetCounts& counts() const { return counts_; }
  [[nodiscard]] const Violations& violations() const { return violations_; }
  // Connections by target.
  [[nodiscard]] const std::vector<std::uint64_t>& shares() const { return shares_; }
  [[nodiscard]] std::uint64_t repeated() const { return transmitter_.repeated(); }

 private:
  using Talk = TcpTransmitter::Talk;
  static constexpr std::uint32_t kNoTarget = 0xffffffffu;

  [[nodiscard]] std::uint32_t target_of(const core::AddrWords& addr) const noexcept;
  // Whom the packet was brought to.
  [[nodiscard]] std::uint32_t target_of(const core::Packet& packet,
                                        const Path& path) const noexcept;
  [[nodiscard]] Mac mac_of_number(std::uint32_t target) const noexcept;
  void receive_syn(const Talk& talk, const Segment& segment, std::uint32_t target) noexcept;
  void receive_tcp(const Talk& talk, const Segment& segment, std::uint32_t target) noexcept;
  void receive_data(const Talk& talk, const Segment& segment) noexcept;
  void receive_datagram(const Talk& talk, const Segment& segment, std::uint32_t target) noexcept;
  // Counts the segment's place in the order of its connection.
  void check_order(TcpConnection& connection, const Segment& segment) noexcept;
  void take_request_bytes(TcpConnection& connection, const Segment& segment,
                          std::uint32_t new_bytes) noexcept;

  FlowMap flows_;
  core::AddrWords first_target_;
  std::uint32_t first_host_;  // last 32 bits of the first target, host order
  std::uint32_t target_count_;
  std::uint16_t target_port_be_;
  std::uint16_t health_port_be_;
  std::uint16_t gue_port_be_;
  Forwarding forwarding_;
  Mac first_mac_;
  Endpoint vip_;
  SegmentWriter probe_writer_;
  bool is_tcp_;
  std::uint32_t request_bytes_;
  std::uint32_t response_bytes_;
  TcpTransmitter transmitter_;
  std::vector<TcpConnection> connections_;  // by flow
  std::vector<std::uint64_t> shares_;
  TargetCounts counts_;
  Violations violations_;
};

}  // namespace millrace::pktgen
