// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/pktgen/loop.h"

#include "bench/pktgen/deliver.h"
#include "tests/support/cc/image_builder.h"

namespace millrace::pktgen {
namespace {

constexpr std::size_t kFrameRoomBytes = 2048;
constexpr std::uint64_t kStepNs = 900'000;  // no whole millisecond, so that rounding shows
// Rounds within a step; a connection needs eight, a message of many windows more.
constexpr int kRounds = 400;

}  // namespace

FrameBox::FrameBox() : memory_(kOutboxFrames * kFrameRoomBytes), packets_(kOutboxFrames) {
  for (std::uint32_t i = 0; i < kOutboxFrames; ++i) {
    packets_[i] = {
        .data = &memory_[i * kFrameRoomBytes], .length = 0, .headroom = 0, .nic = 0, .reserved = 0};
  }
  outbox_.lend(packets_);
}

std::vector<Frame> FrameBox::take() {
  std::vector<Frame> frames;
  for (std::uint32_t i = 0; i < outbox_.written(); ++i) {
    frames.emplace_back(packets_[i].data, packets_[i].data + packets_[i].length);
  }
  outbox_.lend(packets_);
  return frames;
}

Connections connections_of(const LoopCase& loop_case) {
  const bool is_v4 = loop_case.is_v4;
  const bool is_nat = loop_case.forwarding == Forwarding::nat;
  return {.protocol = loop_case.protocol,
          .clients = {.first = test::addr_of(is_v4 ? "198.18.0.1" : "2001:db8:18::1"),
                      .address_count = 10,
                      .port_first = 2000,
                      .port_count = 100},
          .flow_count = 1000,
          .destination = test::addr_of(is_v4 ? "203.0.113.10" : "2001:db8:113::10"),
          .destination_port = 80,
          .client_mac = {2, 0, 0, 0, 0, 2},
          .client_gateway_mac = {2, 0, 0, 0, 0, 1},
          .rate = {.unit = Rate::Unit::packets, .per_second = 10'000},
          .request_bytes = loop_case.request_bytes,
          .response_bytes = loop_case.response_bytes,
          .request_count = loop_case.request_count,
          .think_ms = loop_case.think_ms,
          .first_target = test::addr_of(is_v4 ? "10.0.1.1" : "2001:db8:1::1"),
          .target_count = 16,
          .target_port = static_cast<std::uint16_t>(is_nat ? 8080 : 80),
          .health_port = 8081,
          .forwarding = loop_case.forwarding,
          .target_mac = {2, 0, 0, 0, 0, 3},
          .target_gateway_mac = {2, 0, 0, 0, 0, static_cast<std::uint8_t>(is_nat ? 1 : 2)}};
}

Connections without_balancer(const LoopCase& loop_case) {
  Connections connections = connections_of(loop_case);
  connections.destination = connections.first_target;
  connections.destination_port = connections.target_port;
  connections.forwarding = Forwarding::nat;
  return connections;
}

Loop::Loop(const Connections& connections, Middle middle)
    : middle_(std::move(middle)),
      clients_(std::make_unique<TcpClients>(connections, client_box_.outbox())),
      targets_(std::make_unique<TargetEmulator>(connections, target_box_.outbox())) {}

void Loop::run(std::uint32_t open_steps, std::uint32_t rest_steps) {
  clients_->start(now_ns_);
  for (std::uint32_t step = 0; step < open_steps + rest_steps; ++step, now_ns_ += kStepNs) {
    if (step < open_steps) clients_->open_due(now_ns_);
    clients_->serve_timers(now_ns_);
    exchange();
    if (step >= open_steps && clients_->live() == 0) return;
  }
}

void Loop::exchange() {
  for (int round = 0; round < kRounds; ++round) {
    std::vector<Frame> frames = client_box_.take();
    for (Frame& frame : target_box_.take()) frames.push_back(std::move(frame));
    if (middle_) middle_(frames);
    if (frames.empty()) return;
    for (Frame& frame : frames) deliver(std::move(frame));
  }
}

void Loop::deliver(Frame frame) {
  core::Packet packet{.data = frame.data(),
                      .length = static_cast<std::uint32_t>(frame.size()),
                      .headroom = 0,
                      .nic = 0,
                      .reserved = 0};
  (void)pktgen::deliver(packet, {*clients_, targets_.get(), true}, now_ns_);  // or is lost
}

}  // namespace millrace::pktgen
