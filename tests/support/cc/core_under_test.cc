// SPDX-License-Identifier: Apache-2.0
#include "tests/support/cc/core_engine.h"
#include "tests/support/cc/engine_under_test.h"

namespace millrace::test {

std::unique_ptr<Engine> make_engine_under_test(const MacTable& nic_macs) {
  return make_core_engine(nic_macs);
}

const char* reason_to_skip(const std::string&) { return nullptr; }

}  // namespace millrace::test
