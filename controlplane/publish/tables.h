// SPDX-License-Identifier: Apache-2.0
//
// The two open-addressed tables of an image, built from its arrays. Cold and pure.
//
// At most half full and no run longer than MR_TABLE_PROBE_MAX: a table that comes out worse is
// built again at twice the size.
#pragma once

#include <vector>

#include "controlplane/publish/image_contents.h"

namespace millrace::control {

// (VIP, port, protocol) -> listener slot, and one entry per VIP.
[[nodiscard]] std::vector<mr_table_entry> listener_table(const std::vector<mr_listener>& listeners);

// (target address, port, protocol) -> target slot, for targets whose replies pass the node. `next`
// is the listener of the target's address family that forwards to its group, when there is exactly
// one and the address belongs to one group only.
[[nodiscard]] std::vector<mr_table_entry> reverse_table(const ImageContents& contents);

}  // namespace millrace::control
