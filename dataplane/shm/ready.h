// SPDX-License-Identifier: Apache-2.0
//
// Tells the service manager that the program does its work, so that `systemctl start` returns then
// and not before, and fails when it never does (sd_notify(3), Type=notify). Cold.
#pragma once

namespace millrace::shm {

// Nothing where no service manager asked for it.
void tell_ready();

}  // namespace millrace::shm
