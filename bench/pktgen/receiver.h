// SPDX-License-Identifier: Apache-2.0
//
// What came back: per stream how many, how late, in which order; and what nobody sent. HOT.
#pragma once

#include <cstdint>
#include <vector>

#include "bench/pktgen/histogram.h"
#include "bench/pktgen/sequence_window.h"
#include "dataplane/core/packet.h"

namespace millrace::pktgen {

struct StreamArrivals {
  std::uint64_t packets = 0;  // duplicates included
  std::uint64_t bytes = 0;    // of frames without FCS
  SequenceWindow sequence;
  Histogram latency_ns;
};

class Receiver {
 public:
  Receiver(std::size_t stream_count, bool verifies_checksums)
      : streams_(stream_count), verifies_checksums_(verifies_checksums) {}

  // Looks at packets[0, count) of `burst`; they stay the caller's.
  void receive(const core::Burst& burst, std::uint64_t now_ns) noexcept;

  [[nodiscard]] const std::vector<StreamArrivals>& streams() const { return streams_; }
  [[nodiscard]] std::uint64_t packets() const { return packets_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  // Without a mark of this run: ARP, malformed packets that came through, other people's.
  [[nodiscard]] std::uint64_t unmarked() const { return unmarked_; }
  // With a mark and an L4 checksum that does not hold. Not part of any stream's arrivals.
  [[nodiscard]] std::uint64_t corrupt() const { return corrupt_; }

 private:
  void receive_one(const core::Packet& packet, std::uint64_t now_ns) noexcept;

  std::vector<StreamArrivals> streams_;
  std::uint64_t packets_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t unmarked_ = 0;
  std::uint64_t corrupt_ = 0;
  bool verifies_checksums_;
};

}  // namespace millrace::pktgen
