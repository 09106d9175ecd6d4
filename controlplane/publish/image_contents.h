// SPDX-License-Identifier: Apache-2.0
//
// What an image says, as values: reconcile/ decides it, the publisher lays it out. Cold.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "dataplane/contract/config_abi.h"

namespace millrace::control {

// A lookup table as published. Immutable and shared: a group whose table did not change hands in
// the same one again, and the publisher then does not even look at its bytes.
struct LookupTable {
  std::vector<mr_lookup_slot> slots;  // members of the group by index
  std::uint64_t digest = 0;           // maglev_digest
  std::uint64_t checksum = 0;         // core::checksum64 over `slots`
};

struct GroupContents {
  std::uint32_t id = 0;  // 0: empty slot, all else ignored
  std::uint8_t forwarding = MR_FORWARDING_NAT;
  std::uint8_t flags = 0;                    // enum mr_group_flag
  std::uint64_t identity = 0;                // of name and protocol
  std::vector<std::uint32_t> members;        // target slots
  std::shared_ptr<const LookupTable> table;  // null: no target may get new flows

  friend bool operator==(const GroupContents&, const GroupContents&) = default;
};

struct VipContents {
  mr_addr addr{};
  std::uint32_t flags = 0;  // enum mr_vip_flag
};
static_assert(sizeof(VipContents) == 20, "compared as bytes: no holes");

// By the engine's number of the nic.
using NicAddrs = std::array<mr_nic_addrs, MR_NIC_COUNT_MAX>;

// Listeners, groups and targets are indexed by slot; entries with id 0 are empty slots.
struct ImageContents {
  std::vector<VipContents> vips;  // one listener's may be missing: it has no flag then
  std::vector<mr_listener> listeners;
  std::vector<GroupContents> groups;
  std::vector<mr_target> targets;
  std::vector<mr_addr> local_addrs;      // at most MR_LOCAL_ADDRS_MAX are used
  std::vector<mr_local_mac> local_macs;  // at most MR_LOCAL_MACS_MAX are used
  std::vector<mr_vlan> vlans;            // by VLAN slot, at most MR_VLAN_COUNT_MAX
  mr_next_hop default_next_hop_v4{};
  mr_next_hop default_next_hop_v6{};
  mr_selection_key selection_key{};
  mr_encap_source encap_source_v4{};
  mr_encap_source encap_source_v6{};
  NicAddrs nic_addrs{};
  std::uint32_t id_floor = 1;  // every id below it may have been used
};

}  // namespace millrace::control
