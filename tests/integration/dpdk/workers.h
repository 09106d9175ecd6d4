// SPDX-License-Identifier: Apache-2.0
//
// Real workers on a nic of DPDK's ring driver: what a test puts into the rx rings comes out of the
// tx rings, through the very code that drives a network card.
//
// The config has VIPs 203.0.113.10 and 2001:db8:113::10 (TCP 80, UDP 53), each with two targets
// (10.0.1.11 and .12, fd00::11 and ::12) in nat mode.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dataplane/worker/poll_loop.h"
#include "tests/integration/dpdk/environment.h"
#include "tests/support/cc/frame_text.h"
#include "tests/support/cc/image_builder.h"

struct rte_ring;

namespace millrace::test {

inline constexpr std::uint64_t kStartNs = std::uint64_t{1000} << 30;
inline constexpr core::MacAddr kNicMac{{2, 0, 0, 0, 0, 0x10}};

// A frame written as text (frame_text.h) with the names client, node and target.
[[nodiscard]] Bytes frame(const std::string& text);
// The first packet of a client's flow: TCP with SYN to the IPv4 VIP.
[[nodiscard]] Bytes syn(std::uint32_t client);
// The answer of a target to what the workers forwarded to it: addresses and ports turned round.
[[nodiscard]] Bytes answer_to(const Bytes& request, std::uint8_t tcp_flags);

[[nodiscard]] Image balancer_image(std::uint64_t generation,
                                   mr_forwarding forwarding = MR_FORWARDING_NAT);

// The same, with a VLAN of the nic.
[[nodiscard]] Image vlan_image(std::uint64_t generation, std::uint16_t id);

struct WorkersOptions {
  std::uint32_t worker_count = 1;
  std::uint32_t queue_count = 1;      // of the nic, rx and tx
  std::uint32_t tx_ring_size = 4096;  // holds one less
  std::uint32_t flow_capacity = 4096;
};

class Workers {
 public:
  explicit Workers(const WorkersOptions& options);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  void publish(const Image& image);  // `image` outlives the workers
  // Puts frames into an rx queue of the nic. Aborts when it is full.
  void receive(std::uint32_t queue, const std::vector<Bytes>& frames);
  // Turns all workers, in order, until none has anything to do.
  void turn(std::uint64_t now_ns = kStartNs);
  // What went out since the last call.
  [[nodiscard]] std::vector<Bytes> sent();

  [[nodiscard]] worker::Worker& worker(std::uint32_t index) { return *workers_[index]; }
  [[nodiscard]] const mr_worker_stats& stats(std::uint32_t index) const {
    return published_[index];
  }
  [[nodiscard]] std::uint32_t flow_count(std::uint32_t index) const {
    return workers_[index]->flows().used();
  }
  [[nodiscard]] std::uint64_t sum_of(mr_counter counter) const;
  [[nodiscard]] std::uint64_t sum_of(mr_drop_reason reason) const;
  [[nodiscard]] const dpdk::MbufPool& pool() const { return pool_; }
  [[nodiscard]] dpdk::MbufRing& announcements() { return *announcements_; }
  [[nodiscard]] worker::ConfigExchange& configs() { return configs_; }

  // rx + handover_in = forwarded + replied + punted + handover_out + drops, for every worker.
  void expect_balance() const;

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  void make_nic();
  void make_worker(std::uint32_t index);

  WorkersOptions options_;
  dpdk::MbufPool pool_;
  std::vector<rte_ring*> rx_rings_;
  std::vector<rte_ring*> tx_rings_;
  std::unique_ptr<dpdk::Nic> nic_;
  worker::ConfigExchange configs_;
  std::unique_ptr<worker::HandoverRings> handover_rings_;
  std::unique_ptr<dpdk::MbufRing> announcements_;
  std::vector<std::unique_ptr<std::byte[], Free>> table_memory_;
  std::vector<mr_worker_stats> published_;
  std::vector<std::vector<mr_listener_stats>> listener_stats_;
  std::vector<std::vector<mr_target_stats>> target_stats_;
  std::vector<std::unique_ptr<worker::Worker>> workers_;
};

}  // namespace millrace::test
