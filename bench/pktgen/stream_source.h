// SPDX-License-Identifier: Apache-2.0
//
// One stream while it runs: when its next packets are due, how long they are, which flows they
// belong to, and their bytes. HOT but for make(). Knows nothing of nics: generator.h gives it
// frames to fill.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "bench/pktgen/capture.h"
#include "bench/pktgen/flow_chooser.h"
#include "bench/pktgen/packet_template.h"
#include "bench/pktgen/profile.h"
#include "bench/pktgen/rate_clock.h"
#include "dataplane/core/packet.h"
#include "dataplane/core/result.h"

namespace millrace::pktgen {

struct StreamPlace {
  std::uint8_t index = 0;  // in the profile; what marks carry
  std::uint64_t seed = 0;  // the run's
};

class StreamSource {
 public:
  // Errors: a capture that cannot be read.
  [[nodiscard]] static Result<StreamSource> make(const Stream& stream, const StreamPlace& place);

  void start(std::uint64_t now_ns) noexcept { clock_.start(now_ns); }

  // How many packets are waiting to be written, at most core::kBurstMax: those that are due at
  // `now_ns`, or what is left of the last plan.
  [[nodiscard]] std::uint32_t plan(std::uint64_t now_ns) noexcept;
  // Writes the next planned packet into `frame` (kFrameBytesUsual bytes of room, zero if the stream
  // is built from headers) and returns its length. `now_ns` goes into the mark.
  [[nodiscard]] std::uint32_t write_next(std::uint8_t* frame, std::uint64_t now_ns) noexcept;

  [[nodiscard]] std::uint64_t given_up_ns() const { return clock_.given_up_ns(); }
  [[nodiscard]] std::uint64_t written() const { return sequence_; }

 private:
  StreamSource(const Stream& stream, const StreamPlace& place, std::vector<Frame> frames);

  std::uint8_t index_;
  bool is_measured_;
  RateClock clock_;
  FlowChooser chooser_;
  Random sizes_random_;
  std::vector<std::uint16_t> sizes_;
  std::optional<PacketTemplate> template_;  // none: frames_ are sent in turn
  std::vector<Frame> frames_;
  std::size_t next_frame_ = 0;
  std::uint64_t sequence_ = 0;
  std::uint32_t planned_ = 0;
  std::uint32_t taken_ = 0;  // of the planned
  std::array<std::uint32_t, core::kBurstMax> flows_{};
  std::array<std::uint16_t, core::kBurstMax> lengths_{};
};

}  // namespace millrace::pktgen
