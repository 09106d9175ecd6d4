// SPDX-License-Identifier: Apache-2.0
//
// Holds the short way through parsing (core/glance.h) against the long one (core/parse.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace millrace::test {

// What glance() says of a frame and parse() doesn't; empty when they agree.
[[nodiscard]] std::string glance_objection(std::vector<std::uint8_t>& frame);

}  // namespace millrace::test
