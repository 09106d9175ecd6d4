// SPDX-License-Identifier: Apache-2.0
//
// The `connections` part of a profile. Cold.
#pragma once

#include "bench/pktgen/profile.h"
#include "controlplane/yaml/reader.h"

namespace millrace::pktgen {

// Usable when no errors were added.
[[nodiscard]] Connections read_connections(const control::Cursor& at, control::ErrorList& errors);

}  // namespace millrace::pktgen
