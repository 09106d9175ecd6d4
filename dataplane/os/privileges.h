// SPDX-License-Identifier: Apache-2.0
//
// What the engine gives up once everything is open. Cold.
//
// Start-up needs capabilities (AF_XDP sockets and their XDP program, the TAP device, VFIO,
// hugepages); running needs none: sockets, TAP and memory are open, the config segment is opened by
// path as an ordinary reader. So all capabilities go, for good. The price: detaching the XDP
// program at the end would need them, so it stays attached, without a socket behind it, and passes
// everything to the kernel; the next start uses it again, `ip link set dev NIC xdp off` removes it.
#pragma once

#include <span>

#include "dataplane/core/result.h"

namespace millrace::os {

// Gives up all capabilities of the calling thread but those in `kept` that it has (CAP_ numbers),
// and the way back to them (no_new_privs). They are each thread's own: call it on every thread,
// after start-up.
[[nodiscard]] Status drop_privileges(std::span<const unsigned> kept = {});

}  // namespace millrace::os
