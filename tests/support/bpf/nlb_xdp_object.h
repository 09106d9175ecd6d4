// SPDX-License-Identifier: Apache-2.0
//
// The program's object file, as it was built into this test. Cold.
#pragma once

#include <cstddef>
#include <span>

namespace millrace::test {

[[nodiscard]] std::span<const std::byte> nlb_xdp_object();

}  // namespace millrace::test
