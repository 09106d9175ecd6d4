// SPDX-License-Identifier: Apache-2.0
//
// The XDP program that an interface has already, for an engine that wants its place. Cold; by
// system calls alone, because libbpf is the XDP engine's.
#pragma once

#include <cstdint>
#include <string>

#include "dataplane/core/result.h"

namespace millrace::os {

// What the kernel calls the program; "" when it is gone, or for who may not ask (CAP_SYS_ADMIN).
[[nodiscard]] std::string name_of_xdp_program(std::uint32_t id);

// Why an engine cannot have `interface`: the program `id` is on it, in generic mode or in the
// driver. Says whose that is, as far as it can be told, and what takes it off.
[[nodiscard]] Error interface_has_program(const std::string& interface, std::uint32_t id,
                                          bool is_generic);

}  // namespace millrace::os
