// SPDX-License-Identifier: Apache-2.0
//
// A Snapshot in which every field has a value of its own, for tests.
#pragma once

#include "controlplane/reconcile/snapshot.h"

namespace millrace::test {

// Node lb-1 in zone a; one nic, two workers, listener web TCP 80, group web-80 with a healthy and a
// draining IPv4 target, group dns with an unhealthy IPv6 one.
[[nodiscard]] control::Snapshot sample_snapshot();

}  // namespace millrace::test
