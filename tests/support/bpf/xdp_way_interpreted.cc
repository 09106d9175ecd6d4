// SPDX-License-Identifier: Apache-2.0
#include "tests/support/bpf/xdp_way.h"

namespace millrace::test {

XdpProgram::Run run_one_packet(const XdpProgram& program, std::span<const std::uint8_t> frame) {
  static BpfInterpreter interpreter = program.interpreter("nlb_xdp");
  BpfInterpreter::Run run = interpreter.run(frame, 1);
  return {.verdict = run.verdict, .duration_ns = 0, .frame = std::move(run.frame)};
}

}  // namespace millrace::test
