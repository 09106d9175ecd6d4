// SPDX-License-Identifier: Apache-2.0
#include "dataplane/core/last_hops.h"

#include <cstring>

#include "dataplane/contract/config_abi.h"
#include "dataplane/core/mix.h"

namespace millrace::core {

// A neighbour's MAC address has no group bit (IEEE 802, first octet).
bool LastHops::is_believable(const mr_last_hop& hop) noexcept {
  return hop.in_use == 1 && hop.nic <= MR_NIC_INDEX_MAX && (hop.mac[0] & 1) == 0;
}

std::uint16_t LastHops::learn(const std::uint8_t* mac, std::uint8_t nic) noexcept {
  const std::uint64_t word = load<std::uint32_t>(mac) | std::uint64_t{load<std::uint16_t>(mac + 4)}
                                                            << 32;
  const std::uint64_t h = mix(word ^ secret_[0], nic ^ secret_[1]);
  // Linear probing over at most 16 entries. A free entry ends the search. If that entry was given
  // back and the neighbour's own entry is behind it, the neighbour gets a second one.
  for (std::uint32_t probe = 0; probe < 16; ++probe) {
    const auto index = static_cast<std::uint16_t>((h + probe) % MR_LAST_HOP_COUNT);
    if (index == 0) continue;
    mr_last_hop& hop = hops_[index];
    if (hop.in_use == 0) {
      std::memcpy(hop.mac, mac, sizeof(hop.mac));
      hop.nic = nic;
      hop.in_use = 1;
      keep(index);
      return index;
    }
    if (hop.nic != nic || std::memcmp(hop.mac, mac, sizeof(hop.mac)) != 0) continue;
    keep(index);
    return index;
  }
  return 0;
}

void LastHops::forget_unused() noexcept {
  for (std::uint16_t index = 0; index < MR_LAST_HOP_COUNT; ++index) {
    if (!is_used_[index] || !is_believable(hops_[index])) hops_[index] = mr_last_hop{};
    is_used_[index] = false;
  }
}

}  // namespace millrace::core
