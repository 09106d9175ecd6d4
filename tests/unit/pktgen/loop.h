// SPDX-License-Identifier: Apache-2.0
//
// Clients and emulated targets without nics: what they say is handed to a middle, which a test
// chooses, and what the middle lets through to the other side. Cold. Time is the test's.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "bench/pktgen/capture.h"
#include "bench/pktgen/outbox.h"
#include "bench/pktgen/target_emulator.h"
#include "bench/pktgen/tcp_clients.h"

namespace millrace::pktgen {

class FrameBox {
 public:
  FrameBox();
  [[nodiscard]] Outbox& outbox() { return outbox_; }
  // What was written since the last call.
  [[nodiscard]] std::vector<Frame> take();

 private:
  std::vector<std::uint8_t> memory_;
  std::vector<core::Packet> packets_;
  Outbox outbox_;
};

struct LoopCase {
  Protocol protocol = Protocol::tcp;
  bool is_v4 = true;
  std::uint32_t request_bytes = 100;
  std::uint32_t response_bytes = 100;
  std::uint32_t request_count = 1;
  std::uint32_t think_ms = 0;
  Forwarding forwarding = Forwarding::nat;
};

// 1000 flows, 16 targets on port 8080 (unless nat: 80), the VIP 203.0.113.10:80 or
// 2001:db8:113::10.
[[nodiscard]] Connections connections_of(const LoopCase& loop_case);
// The same with the first target in place of the VIP.
[[nodiscard]] Connections without_balancer(const LoopCase& loop_case);

class Loop {
 public:
  // Changes, drops, adds or reorders the frames of one round on their way.
  using Middle = std::function<void(std::vector<Frame>& frames)>;

  explicit Loop(const Connections& connections, Middle middle = {});

  // Runs in steps of 0.9 ms: opens for `open_steps` at the rate of the connections, then goes on
  // until nothing is live or `rest_steps` are over.
  void run(std::uint32_t open_steps, std::uint32_t rest_steps);
  // Gives one frame to whom it is for, as it is; answers wait for the next run().
  void deliver(Frame frame);

  [[nodiscard]] const TcpClients& clients() const { return *clients_; }
  [[nodiscard]] const TargetEmulator& targets() const { return *targets_; }
  [[nodiscard]] std::uint64_t violations() const {
    return clients_->violations().total() + targets_->violations().total();
  }
  [[nodiscard]] std::uint64_t violations(Violation kind) const {
    return clients_->violations().of(kind) + targets_->violations().of(kind);
  }
  [[nodiscard]] std::uint64_t now_ns() const { return now_ns_; }

 private:
  void exchange();

  Middle middle_;
  FrameBox client_box_;
  FrameBox target_box_;
  std::unique_ptr<TcpClients> clients_;
  std::unique_ptr<TargetEmulator> targets_;
  std::uint64_t now_ns_ = 1'000'000'000;
};

}  // namespace millrace::pktgen
