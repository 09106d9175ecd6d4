// SPDX-License-Identifier: Apache-2.0
//
// The kernel's interfaces as the XDP engine needs them. Cold.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dataplane/contract/stats_abi.h"
#include "dataplane/core/answer.h"
#include "dataplane/core/result.h"

namespace millrace::xdp {

struct Nic {
  std::string name;
  std::uint32_t ifindex = 0;
  core::MacAddr mac;
  std::uint32_t mtu = 0;
};

// Errors name the interface.
[[nodiscard]] Result<Nic> find_nic(const std::string& name);

// Writes the drop counters of `shown`: what the kernel says that the interface dropped before a
// program could see it, and what of its sends the driver dropped, since it exists. How many for
// want of a buffer, no driver says; frames that the program or the kernel's stack dropped are not
// among them. Drivers that count no lost sends of XDP (Intel's) have none. About 30 us, with NICs
// of many queues a few times that.
void count_drops(const Nic& nic, mr_nic& shown);

// Why its driver throws away what it is given to send, or what tells.
[[nodiscard]] std::string cause_of_lost_sends(const Nic& nic);

// Indices of the interfaces that a bond sends and receives by; none of another interface.
[[nodiscard]] std::vector<std::uint32_t> bond_members(const Nic& nic);

// How a message names an interface of which the index is known, also when it is gone: "interface
// eth1", "interface 7 (gone)".
[[nodiscard]] std::string interface_text(std::uint32_t ifindex);

// Brings the name up to date, by which everything below is asked for. True when it is another one
// than before; an interface that is gone keeps its last.
[[nodiscard]] bool follow_name(Nic& nic);

// The kernel has the interface no more, whoever has its name.
[[nodiscard]] bool is_gone(const Nic& nic);
// False also when the interface is gone.
[[nodiscard]] bool link_is_up(const Nic& nic);
// Brings `links_up`, by nic, up to date (at first: all up). True when some link changed.
[[nodiscard]] bool note_links(const std::vector<Nic>& nics, std::vector<bool>& links_up);

}  // namespace millrace::xdp
