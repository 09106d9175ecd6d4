// SPDX-License-Identifier: Apache-2.0
//
// The neighbours that one worker's clients send by: a reply leaves by the router or host that the
// client's packets came from. HOT: one entry is read for each packet.
//
// Flow records name a neighbour by its index. Entry 0 stands for none. The memory is part of the
// flow table's (flow_table_abi.h); only this class writes it.
#pragma once

#include <cstdint>
#include <vector>

#include "dataplane/contract/flow_table_abi.h"
#include "dataplane/core/wire.h"

namespace millrace::core {

class LastHops {
 public:
  LastHops() = default;
  // `hops`: MR_LAST_HOP_COUNT entries, which outlive this. `secret`: two words of the table's.
  LastHops(mr_last_hop* hops, const std::uint64_t* secret) noexcept
      : hops_(hops), secret_{secret[0], secret[1]} {}

  [[nodiscard]] static bool is_believable(const mr_last_hop& hop) noexcept;

  // Index of the neighbour (mac, nic), entered if new; 0 when there is no room. `mac` points at 6
  // bytes.
  [[nodiscard]] std::uint16_t learn(const std::uint8_t* mac, std::uint8_t nic) noexcept;

  [[nodiscard]] const mr_last_hop& at(std::uint16_t index) const noexcept {
    return hops_[index % MR_LAST_HOP_COUNT];
  }

  // True when entry `index` has both the 6-byte `mac` and the nic: a router may have one MAC
  // address for all its interfaces. Reads 8 bytes from `mac`, so it must lie in a frame.
  [[nodiscard]] bool is(std::uint16_t index, const std::uint8_t* mac,
                        std::uint8_t nic) const noexcept {
    const auto known = load<std::uint64_t>(at(index).mac);
    const std::uint64_t seen = load<std::uint64_t>(mac) << 16 >> 16 | std::uint64_t{nic} << 48;
    return (seen ^ known) << 8 == 0;
  }

  // Gives back the neighbours that no flow needs. A round over the flows calls keep() for each
  // record, and forget_unused() at its end.
  void keep(std::uint16_t index) noexcept { is_used_[index % MR_LAST_HOP_COUNT] = true; }
  // Also those that cannot be believed, which an earlier process may have left.
  void forget_unused() noexcept;

 private:
  mr_last_hop* hops_ = nullptr;
  std::uint64_t secret_[2] = {};
  std::vector<bool> is_used_ = std::vector<bool>(MR_LAST_HOP_COUNT);  // in this round
};

}  // namespace millrace::core
