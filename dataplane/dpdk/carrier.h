// SPDX-License-Identifier: Apache-2.0
//
// Whether a kernel interface has link. Cold. DPDK's AF_XDP driver (22.11) says "up" from its start
// on, whatever becomes of the interface below it.
#pragma once

#include <string>

namespace millrace::dpdk {

// By the kernel's IFF_RUNNING; false also when there is no such interface any more. Needs no
// privilege: the engine has given its own up by the time it asks.
[[nodiscard]] bool interface_has_link(const std::string& interface);

}  // namespace millrace::dpdk
