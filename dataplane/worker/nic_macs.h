// SPDX-License-Identifier: Apache-2.0
//
// The MAC addresses of the nics, which may change while the engine runs (bond failover, a virtual
// machine that moves): the main thread writes them, workers look between bursts. HOT to read.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <vector>

#include "dataplane/contract/config_abi.h"
#include "dataplane/core/answer.h"

namespace millrace::worker {

class NicMacs {
 public:
  // By nic index, at most MR_NIC_COUNT_MAX.
  void reset(const std::vector<core::MacAddr>& macs) noexcept {
    count_ = macs.size();
    for (std::size_t nic = 0; nic < count_; ++nic) set(nic, macs[nic]);
  }
  // Main thread. A worker sees the address before or the one after, as a whole.
  void set(std::size_t nic, const core::MacAddr& mac) noexcept {
    std::uint64_t word = 0;
    std::memcpy(&word, mac.bytes.data(), mac.bytes.size());
    words_[nic].store(word, std::memory_order_relaxed);
  }

  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  [[nodiscard]] core::MacAddr get(std::size_t nic) const noexcept {
    const std::uint64_t word = words_[nic].load(std::memory_order_relaxed);
    core::MacAddr mac;
    std::memcpy(mac.bytes.data(), &word, mac.bytes.size());
    return mac;
  }

 private:
  std::array<std::atomic<std::uint64_t>, MR_NIC_COUNT_MAX> words_{};
  std::size_t count_ = 0;
};

}  // namespace millrace::worker
