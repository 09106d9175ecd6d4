// SPDX-License-Identifier: Apache-2.0
//
// Which clients may have a flow that the flow table does not have, because it was full. HOT when
// the table is full; asked about packets of targets that belong to no flow.
//
// Without this memory every packet from a target's service port would look like the reply of such a
// flow. But it may be the answer to a host that talks to the target itself, past the VIP, or a
// question of the target's own. There is one bit per hash of a client, so after a flood some
// clients are taken for others.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "dataplane/contract/flow_abi.h"

namespace millrace::core {

class NoRoom {
 public:
  // The default idle timeout of TCP (deploy/nlb.md, "Idle timeouts"): after that, no flow can be
  // alive that a reply could belong to. In ticks.
  static constexpr std::uint32_t kRememberedTicks = 350'000'000'000ULL >> MR_TICK_SHIFT;

  // `hash`: FlowTable::hash() of the client.
  void add(std::uint64_t hash) noexcept { newer_[word_of(hash)] |= bit_of(hash); }
  [[nodiscard]] bool has(std::uint64_t hash) const noexcept {
    return ((newer_[word_of(hash)] | older_[word_of(hash)]) & bit_of(hash)) != 0;
  }

  // Forgets what is older than kRememberedTicks; once in that time it writes 128 KiB.
  void age(std::uint32_t tick) noexcept {
    if (tick - turned_tick_ < kRememberedTicks) return;
    turned_tick_ = tick;
    newer_.swap(older_);
    std::ranges::fill(newer_, 0);
  }

 private:
  static constexpr std::uint32_t kBits = 1u << 20;

  [[nodiscard]] static std::size_t word_of(std::uint64_t hash) noexcept {
    return hash % kBits / 64;
  }
  [[nodiscard]] static std::uint64_t bit_of(std::uint64_t hash) noexcept {
    return std::uint64_t{1} << hash % 64;
  }

  std::vector<std::uint64_t> newer_ = std::vector<std::uint64_t>(kBits / 64);
  std::vector<std::uint64_t> older_ = std::vector<std::uint64_t>(kBits / 64);
  std::uint32_t turned_tick_ = 0;
};

// Fragmented datagrams of targets. Only the first fragment shows ports, so the others are treated
// as the first one was. There is an entry per datagram under way, which later ones overwrite.
class FragmentMemory {
 public:
  struct Datagram {
    std::uint64_t source = 0;  // the low words of addresses are alike for IPv4
    std::uint64_t destination = 0;
    std::uint32_t id = 0;
    friend bool operator==(const Datagram&, const Datagram&) = default;
  };
  void add(const Datagram& datagram) noexcept { entry(datagram) = datagram; }
  [[nodiscard]] bool has(const Datagram& datagram) const noexcept {
    return datagrams_[index_of(datagram)] == datagram;
  }

 private:
  static constexpr std::size_t kCount = 64;
  [[nodiscard]] static std::size_t index_of(const Datagram& datagram) noexcept {
    const std::uint64_t mixed =
        (datagram.source ^ datagram.destination ^ datagram.id) * 0x9e3779b97f4a7c15ULL;
    return mixed >> 58;
  }
  [[nodiscard]] Datagram& entry(const Datagram& datagram) noexcept {
    return datagrams_[index_of(datagram)];
  }
  std::array<Datagram, kCount> datagrams_{};
};

}  // namespace millrace::core
