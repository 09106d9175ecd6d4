// SPDX-License-Identifier: Apache-2.0
//
// What an engine has in the runtime directory, made again when somebody removes it while the engine
// runs. Without the stats segment the control plane sees no engine and judges no health; without
// the lock a second engine could start. Cold.
#pragma once

#include <string>

#include "dataplane/core/result.h"
#include "dataplane/os/process_lock.h"
#include "dataplane/shm/stats_writer.h"

namespace millrace::shm {

// True when something was missing, or cut short, and is there again. To be called often: of a stats
// segment that is cut short, what the last call saw is there again. Costs a few stat(2). Fails,
// and touches no stats segment, when another engine holds the lock by now.
[[nodiscard]] Result<bool> renew_lost(const std::string& runtime_dir, os::ProcessLock& lock,
                                      StatsWriter& stats);

}  // namespace millrace::shm
