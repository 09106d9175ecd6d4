// SPDX-License-Identifier: Apache-2.0
//
// Clients and emulated targets on nics: packets in, what they have to say out. HOT but for making.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "bench/pktgen/deliver.h"
#include "bench/pktgen/outbox.h"
#include "bench/pktgen/profile.h"
#include "bench/pktgen/sender.h"
#include "bench/pktgen/target_emulator.h"
#include "bench/pktgen/tcp_clients.h"
#include "dataplane/core/packet.h"
#include "dataplane/dpdk/mbuf_burst.h"
#include "dataplane/dpdk/mbuf_pool.h"
#include "dataplane/dpdk/nic.h"

namespace millrace::pktgen {

// An outbox whose frames are packet buffers that go to one tx queue.
class NicOutbox {
 public:
  // `pool` is used by nothing but outboxes of one address family and protocol, and zero.
  NicOutbox(const dpdk::MbufPool& pool, dpdk::TxQueue& queue);
  ~NicOutbox();
  NicOutbox(const NicOutbox&) = delete;
  NicOutbox& operator=(const NicOutbox&) = delete;

  [[nodiscard]] Outbox& outbox() noexcept { return outbox_; }

  // Sends what was written, after what the nic did not take before, and lends new frames.
  void flush(SendWork& work) noexcept;

  [[nodiscard]] std::uint64_t packets() const noexcept { return packets_; }

 private:
  void refill(std::uint32_t from, std::uint32_t to) noexcept;

  const dpdk::MbufPool& pool_;
  dpdk::TxQueue& queue_;
  Outbox outbox_;
  // [0, pending_) wait for the nic, [pending_, ready_) are lent.
  std::array<dpdk::Mbuf*, kOutboxFrames> mbufs_;
  std::array<core::Packet, kOutboxFrames> packets_of_;
  std::uint32_t pending_ = 0;
  std::uint32_t ready_ = 0;
  std::uint64_t packets_ = 0;
};

class ConnectionLoad {
 public:
  static constexpr std::uint32_t kMbufs = 8191;

  // Clients send by the first queue, targets by the second; both may be the same.
  struct Ways {
    const dpdk::MbufPool& pool;  // of kMbufs, from make_zero_pool()
    dpdk::TxQueue& clients;
    dpdk::TxQueue& targets;
    bool are_alone;  // as in Ends
  };
  ConnectionLoad(const Connections& connections, const Ways& ways);

  void start(std::uint64_t now_ns) noexcept { clients_.start(now_ns); }
  // True when the packet was a connection's.
  [[nodiscard]] bool receive(core::Packet& packet, std::uint64_t now_ns) noexcept;
  // True when `packet` asked for the link address of a client or target, or for the health of a
  // target, and is now the answer.
  [[nodiscard]] bool answer(core::Packet& packet) const noexcept;
  // Sends what receive() led to.
  void flush(SendWork& work) noexcept;
  // Opens what is due (if `opens`), serves timers, sends.
  void turn(std::uint64_t now_ns, bool opens, SendWork& work) noexcept;

  [[nodiscard]] const TcpClients& clients() const { return clients_; }
  [[nodiscard]] const std::optional<TargetEmulator>& targets() const { return targets_; }
  [[nodiscard]] std::uint64_t packets_sent() const {
    return client_outbox_.packets() + target_outbox_.packets();
  }

 private:
  [[nodiscard]] std::optional<Mac> mac_of(const core::AddrWords& addr) const noexcept;

  Connections connections_;
  NicOutbox client_outbox_;
  NicOutbox target_outbox_;
  TcpClients clients_;
  std::optional<TargetEmulator> targets_;
  bool are_alone_;
};

}  // namespace millrace::pktgen
