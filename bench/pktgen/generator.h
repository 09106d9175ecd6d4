// SPDX-License-Identifier: Apache-2.0
//
// One run on one CPU: each turn receives what came on every nic and sends what is due of every
// stream. Making is cold, run() is the loop around the hot parts.
//
//   StreamSource -> Sender -> nic -> ... -> nic -> Receiver
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/pktgen/connection_load.h"
#include "bench/pktgen/profile.h"
#include "bench/pktgen/receiver.h"
#include "bench/pktgen/sender.h"
#include "dataplane/core/result.h"
#include "dataplane/dpdk/clock.h"
#include "dataplane/dpdk/mbuf_pool.h"
#include "dataplane/dpdk/nic.h"

namespace millrace::pktgen {

struct GeneratorOptions {
  Profile profile;
  // As NicOptions::device. Streams and clients send by the first, emulated targets by the last.
  std::vector<std::string> devices;
  // How long to only listen and answer before the first packet, so that a balancer finds its
  // neighbours and takes the emulated targets for healthy.
  double warm_up_seconds = 0;
  // And until this file is there, for who knows better than a clock; empty to not wait for one.
  std::string start_file;
  double drain_seconds = 0.2;  // how long to listen after the last packet
};

// Hugepage memory that a run needs, for EalOptions::memory_bytes.
[[nodiscard]] std::uint64_t memory_bytes_for(const GeneratorOptions& options);
// What the devices need of the EAL, for EalOptions::extra.
[[nodiscard]] std::vector<std::string> eal_arguments_for(const GeneratorOptions& options);

class Generator {
 public:
  // Opens the nics and waits for their links: memif and vhost-user have one when their other end is
  // there. Errors name the nic, the stream or the memory that is missing.
  [[nodiscard]] static Result<std::unique_ptr<Generator>> make(const GeneratorOptions& options);

  // Warms up, sends for the profile's duration or until `should_stop`, then drains, no longer than
  // the connections need if there are no streams. `report` is called about once a second, between
  // turns.
  void run(const std::function<bool()>& should_stop, const std::function<void()>& report);

  [[nodiscard]] const Profile& profile() const { return options_.profile; }
  [[nodiscard]] const std::vector<std::unique_ptr<Sender>>& senders() const { return senders_; }
  // Null without connections in the profile.
  [[nodiscard]] const ConnectionLoad* connections() const { return connections_.get(); }
  [[nodiscard]] const Receiver& receiver() const { return receiver_; }
  // From the first packet sent to the last; in the middle of a run, to now.
  [[nodiscard]] std::uint64_t sending_ns() const { return sending_ns_; }
  // Of that time: spent on packets, and with a nic that did not take all it was given. A generator
  // that is busy nearly always is its own limit; one that is blocked is at its nic's, or, where a
  // ring is the nic, at that of whoever empties it.
  [[nodiscard]] std::uint64_t busy_ns() const { return busy_ns_; }
  [[nodiscard]] std::uint64_t blocked_ns() const { return blocked_ns_; }

 private:
  Generator(const GeneratorOptions& options, dpdk::MbufPool pool)
      : options_(options),
        rx_pool_(std::move(pool)),
        receiver_(options.profile.streams.size(), options.profile.verifies_checksums) {}

  [[nodiscard]] Status open();
  [[nodiscard]] Status open_senders();
  [[nodiscard]] Status open_connections();
  [[nodiscard]] Status wait_for_links();
  // Receives and answers for so long, without sending anything new.
  void listen(double seconds, const std::function<bool()>& is_over) noexcept;
  void warm_up(const std::function<bool()>& should_stop) noexcept;
  void turn(bool is_sending) noexcept;
  void account(std::uint64_t now_ns, bool has_received) noexcept;
  // How many packets there were.
  std::uint32_t receive(dpdk::Nic& nic) noexcept;
  void receive_connections(dpdk::Nic& nic, std::uint64_t now_ns) noexcept;

  GeneratorOptions options_;
  // Before the nics, which give back what they still hold when they are closed.
  dpdk::MbufPool rx_pool_;
  std::optional<dpdk::MbufPool> connection_pool_;
  std::vector<dpdk::MbufPool> stream_pools_;
  std::vector<std::unique_ptr<dpdk::Nic>> nics_;
  std::vector<std::unique_ptr<Sender>> senders_;
  std::unique_ptr<ConnectionLoad> connections_;
  Receiver receiver_;
  dpdk::Clock clock_;
  dpdk::MbufBurst burst_;
  std::uint64_t start_ns_ = 0;
  std::uint64_t sending_ns_ = 0;
  std::uint64_t turn_ns_ = 0;  // when the last turn began to send
  SendWork work_;              // of the last turn
  std::uint64_t busy_ns_ = 0;
  std::uint64_t blocked_ns_ = 0;
};

}  // namespace millrace::pktgen
