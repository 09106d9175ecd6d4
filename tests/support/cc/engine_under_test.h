// SPDX-License-Identifier: Apache-2.0
//
// The engine that a test is linked with: core's (core_under_test.cc), or the XDP program in the
// kernel (tests/support/bpf/xdp_engine.cc). Cold.
#pragma once

#include <memory>
#include <string>

#include "tests/support/cc/golden_case.h"

namespace millrace::test {

[[nodiscard]] std::unique_ptr<Engine> make_engine_under_test(const MacTable& nic_macs);

// Why this engine can't be put through a case; null: it can.
[[nodiscard]] const char* reason_to_skip(const std::string& case_name);

}  // namespace millrace::test
