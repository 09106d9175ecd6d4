// SPDX-License-Identifier: Apache-2.0
//
// What an engine has in the runtime directory, made again when somebody removes it while the engine
// runs. Without the stats segment the control plane sees no engine and judges no health; without
// the lock a second engine could start. Cold.
#pragma once

#include <string>

#include "dataplane/core/result.h"
#include "dataplane/shm/process_lock.h"
#include "dataplane/shm/stats_writer.h"

namespace millrace::shm {

// True when something was missing and is there again. Costs two stat(2) when all is there. Fails,
// and touches no stats segment, when another engine holds the lock by now.
[[nodiscard]] Result<bool> renew_lost(const std::string& runtime_dir, ProcessLock& lock,
                                      StatsWriter& stats);

}  // namespace millrace::shm
