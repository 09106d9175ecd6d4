// SPDX-License-Identifier: Apache-2.0
//
// A bond: several NICs that DPDK's bonding driver makes one device of, by LACP (IEEE 802.1AX, once
// 802.3ad) or with one that carries and others that wait. Cold.
//
// The driver leaves some things to those who use it: to come by regularly (bond_turn.h), the
// members' MAC address (share_mac()), and memory (member_memory_bytes()).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "dataplane/core/answer.h"
#include "dataplane/core/result.h"

namespace millrace::dpdk {

struct BondForm {
  bool has_lacp = true;  // else active-backup: one member carries, the others wait
  std::vector<std::string> members;
};

// Whether `device` is meant as a bond; parse_bond() says whether it is one.
[[nodiscard]] bool is_bond(const std::string& device);

// "bond:0000:01:00.0,0000:01:00.1", or the same after "bond-active-backup:". Errors, which follow
// the device's name: fewer than two members, one that is named twice, one that is neither a PCI
// address nor a virtual device.
[[nodiscard]] Result<BondForm> parse_bond(const std::string& device);

// The members of a bond; of anything else itself. Nothing when parse_bond() has an error.
[[nodiscard]] std::vector<std::string> parts_of(const std::string& device);

// What the driver takes for a member when that has link for the first time. This may be long after
// the start, when the engine gets no memory any more, and without it the driver ends the process:
// it must be kept on the member's node (EalOptions::kept_on_nodes).
[[nodiscard]] std::uint64_t member_memory_bytes(std::uint32_t tx_queue_count);

// A member that a bond cannot count on; `why` is a clause that has it as its subject.
struct IdleMember {
  std::string name;
  std::string why;
  bool operator==(const IdleMember&) const = default;
};

class Bond {
 public:
  // Makes a device that is called `name`. The members are devices that the EAL has; the bond's MAC
  // address is the first one's. PCI devices that are gone are left out while there are others: a
  // NIC that broke shall not keep those down that are there in its place. If the first one is, the
  // MAC address is `known_mac`. Errors name the member.
  [[nodiscard]] static Result<Bond> make(const BondForm& form, const std::string& name,
                                         const std::optional<core::MacAddr>& known_mac);

  [[nodiscard]] std::uint16_t device() const { return device_; }
  [[nodiscard]] std::span<const std::uint16_t> members() const { return members_; }
  [[nodiscard]] bool has_lacp() const { return has_lacp_; }
  // The member by which the switch finds the bond; the first one with LACP, where it is all.
  [[nodiscard]] std::uint16_t carrier() const;
  // The members that carry nothing, or could not in place of another: for want of link, with LACP
  // also because no switch has agreed, or another one than that of the first; and those that are
  // gone.
  [[nodiscard]] std::vector<IdleMember> idle_members() const;
  // Some member carries.
  [[nodiscard]] bool has_link() const;
  // Once the bond has started, all members take frames for its address. With LACP the driver gives
  // it to those alone that have link by then.
  void share_mac() const;

 private:
  Bond(std::uint16_t device, bool has_lacp) : device_(device), has_lacp_(has_lacp) {}
  [[nodiscard]] Status add(const std::string& member);
  [[nodiscard]] bool is_idle(std::uint16_t member) const;
  // Empty when nothing is wrong. `first` is the first that carries, if any does.
  [[nodiscard]] std::string why_idle(std::uint16_t member,
                                     std::optional<std::uint16_t> first) const;

  std::uint16_t device_;
  bool has_lacp_;
  std::vector<std::uint16_t> members_;
  std::vector<std::string> gone_;
};

}  // namespace millrace::dpdk
