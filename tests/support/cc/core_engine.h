// SPDX-License-Identifier: Apache-2.0
//
// The packet path of core as an Engine of golden packets: one Forwarder with everything it needs in
// memory of its own. Cold.
#pragma once

#include <memory>

#include "tests/support/cc/golden_case.h"

namespace millrace::test {

[[nodiscard]] std::unique_ptr<Engine> make_core_engine(const MacTable& nic_macs);

}  // namespace millrace::test
