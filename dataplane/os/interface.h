// SPDX-License-Identifier: Apache-2.0
//
// The kernel's interfaces as both engines need them. Cold.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dataplane/core/answer.h"
#include "dataplane/core/result.h"

namespace millrace::os {

// That there is such an Ethernet interface. Errors name it.
[[nodiscard]] Status check_interface(const std::string& name);

// What the interface with this index is called now, "" when it is gone. Programs and sockets stay
// with the index when somebody renames it, so an engine follows the name. One ioctl.
[[nodiscard]] std::string name_of_interface(std::uint32_t index);

// The MAC address that the interface has at the moment. One socket and one ioctl: may be asked for
// ten times a second. Errors name the interface.
[[nodiscard]] Result<core::MacAddr> mac_of_interface(const std::string& name);

// Makes the interface, and those that a bond is made of, leave the VLAN tag in the frame. The
// kernel's default is that the NIC takes it off and says it in metadata, which neither AF_XDP nor
// XDP (before Linux 6.8) gets to see: a packet of any VLAN would pass for an untagged one. Needs
// CAP_NET_ADMIN where something is to change. Returns the interfaces that were changed; fails for
// one whose driver cannot.
[[nodiscard]] Result<std::vector<std::string>> keep_vlan_tags(const std::string& name);

}  // namespace millrace::os
