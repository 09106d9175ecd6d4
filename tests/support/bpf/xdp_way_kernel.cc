// SPDX-License-Identifier: Apache-2.0
#include "tests/support/bpf/xdp_way.h"

namespace millrace::test {

XdpProgram::Run run_one_packet(const XdpProgram& program, std::span<const std::uint8_t> frame) {
  return program.run("nlb_xdp", frame, 1, true);
}

}  // namespace millrace::test
