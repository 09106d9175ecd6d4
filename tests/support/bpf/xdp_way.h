// SPDX-License-Identifier: Apache-2.0
//
// Who runs the XDP program for xdp_engine.cc, chosen when it is linked: the kernel
// (xdp_way_kernel.cc) or the interpreter (xdp_way_interpreted.cc). Cold.
#pragma once

#include <cstdint>
#include <span>

#include "tests/support/bpf/xdp_program.h"

namespace millrace::test {

// One packet through `nlb_xdp`, with what became of it.
[[nodiscard]] XdpProgram::Run run_one_packet(const XdpProgram& program,
                                             std::span<const std::uint8_t> frame);

}  // namespace millrace::test
