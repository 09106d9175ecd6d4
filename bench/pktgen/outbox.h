// SPDX-License-Identifier: Apache-2.0
//
// Where clients and emulated targets put what they have to say: frames lent by somebody who sends
// them after the burst. HOT.
#pragma once

#include <cstdint>
#include <span>

#include "dataplane/core/packet.h"

namespace millrace::pktgen {

// One burst may make every connection of it send a window.
inline constexpr std::uint32_t kOutboxFrames = 512;

class Outbox {
 public:
  // `free` are frames with room for kFrameBytesUsual, zero behind the headers; the first
  // written() of them have been filled when the burst is over.
  void lend(std::span<core::Packet> free) noexcept {
    free_ = free;
    written_ = 0;
  }

  // The next frame to write; null when all are used up. Nobody waits for room: what could not be
  // said is said again when a timer asks for it.
  [[nodiscard]] std::uint8_t* room() noexcept {
    if (written_ < free_.size()) [[likely]]
      return free_[written_].data;
    ++refused_;
    return nullptr;
  }
  void commit(std::uint32_t bytes) noexcept { free_[written_++].length = bytes; }

  [[nodiscard]] bool is_half_full() const noexcept {
    return free_.size() - written_ < kOutboxFrames / 2;
  }
  [[nodiscard]] std::uint32_t written() const noexcept { return written_; }
  [[nodiscard]] std::uint64_t refused() const noexcept { return refused_; }

 private:
  std::span<core::Packet> free_;
  std::uint32_t written_ = 0;
  std::uint64_t refused_ = 0;
};

}  // namespace millrace::pktgen
