// SPDX-License-Identifier: Apache-2.0
//
// One 802.1Q tag: taking it off a frame and putting it back. Warm: no untagged frame comes here.
#pragma once

#include <cstdint>
#include <cstring>

#include "dataplane/contract/config_abi.h"
#include "dataplane/core/packet.h"
#include "dataplane/core/wire.h"

namespace millrace::core {

// Leaves the tag in the four bytes in front of the frame, for give_back(). The frame has
// MR_ETH_BYTES + MR_VLAN_BYTES.
inline void take_off(Packet& packet) noexcept {
  const auto tag = load<std::uint32_t>(packet.data + MR_ETH_TYPE);
  std::memmove(packet.data + MR_VLAN_BYTES, packet.data, MR_ETH_TYPE);
  store(packet.data, tag);
  packet.data += MR_VLAN_BYTES;
  packet.length -= MR_VLAN_BYTES;
  packet.headroom = static_cast<std::uint16_t>(packet.headroom + MR_VLAN_BYTES);
}

// `tag` as it lies in a frame. The frame has MR_VLAN_BYTES of headroom.
inline void put_on(Packet& packet, std::uint32_t tag) noexcept {
  packet.data -= MR_VLAN_BYTES;
  packet.length += MR_VLAN_BYTES;
  packet.headroom = static_cast<std::uint16_t>(packet.headroom - MR_VLAN_BYTES);
  std::memmove(packet.data, packet.data + MR_VLAN_BYTES, MR_ETH_TYPE);
  store(packet.data + MR_ETH_TYPE, tag);
}

// Undoes take_off() of a frame that nobody has changed since.
inline void give_back(Packet& packet) noexcept {
  put_on(packet, load<std::uint32_t>(packet.data - MR_VLAN_BYTES));
}

// What the IP header is behind.
[[nodiscard]] inline std::uint32_t link_bytes_of(const Packet& packet) noexcept {
  const bool is_tagged = load<std::uint16_t>(packet.data + MR_ETH_TYPE) == be(EtherType::vlan);
  return is_tagged ? MR_ETH_BYTES + MR_VLAN_BYTES : MR_ETH_BYTES;
}

// A next hop as loaded from memory, resolved and on a nic of ours.
struct NicHop {
  std::uint64_t word;
  std::uint32_t nic;  // which is also in the word
};
// A next hop in a VLAN, as one on the VLAN's nic.
[[nodiscard]] inline NicHop hop_on_nic(std::uint64_t hop, const mr_vlan& vlan) noexcept {
  return {.word = (hop & ~(std::uint64_t{0xff} << 48)) | std::uint64_t{vlan.nic} << 48,
          .nic = vlan.nic};
}

}  // namespace millrace::core
