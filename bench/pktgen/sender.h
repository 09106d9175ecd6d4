// SPDX-License-Identifier: Apache-2.0
//
// Puts a stream's packets on a nic: packet buffers in front, tx queue behind. HOT but for making.
//
// What the nic does not take at once is kept and offered again in the next turn, in order; only
// then is more written. So a packet is never dropped here, and a full nic shows as schedule given
// up.
#pragma once

#include <cstdint>

#include "bench/pktgen/stream_source.h"
#include "dataplane/dpdk/mbuf_burst.h"
#include "dataplane/dpdk/mbuf_pool.h"
#include "dataplane/dpdk/nic.h"

namespace millrace::pktgen {

// What a turn came to: had it anything to send, and did a nic leave some of that?
struct SendWork {
  bool has_sent = false;
  bool is_blocked = false;
};

class Sender {
 public:
  // Of the pool. More than nics and rings hold.
  static constexpr std::uint32_t kMbufs = 8191;

  // `pool` is from make_zero_pool() and for this stream alone: checksums rely on the zeros. `queue`
  // outlives the sender.
  Sender(StreamSource source, dpdk::TxQueue& queue, const dpdk::MbufPool& pool);
  ~Sender();
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;

  // The schedule begins.
  void start(std::uint64_t now_ns) noexcept { source_.start(now_ns); }
  // Sends what is due, at most one burst.
  void send_due(std::uint64_t now_ns, SendWork& work) noexcept;

  [[nodiscard]] std::uint64_t packets() const { return packets_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }  // of frames without FCS
  [[nodiscard]] std::uint64_t given_up_ns() const { return source_.given_up_ns(); }

 private:
  void fill_burst(std::uint64_t now_ns) noexcept;

  StreamSource source_;
  dpdk::TxQueue& queue_;
  const dpdk::MbufPool& pool_;
  dpdk::MbufBurst burst_;   // [sent_, view.count) are still ours
  std::uint32_t sent_ = 0;  // of the burst
  std::uint64_t packets_ = 0;
  std::uint64_t bytes_ = 0;
};

}  // namespace millrace::pktgen
