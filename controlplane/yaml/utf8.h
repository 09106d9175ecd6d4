// SPDX-License-Identifier: Apache-2.0
//
// Is this text? Cold; looks at every byte once.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace millrace::control {

// Offset of the first byte that is not part of well-formed UTF-8 (RFC 3629: no overlong forms, no
// surrogates, at most U+10FFFF), or is a control character other than tab and line end.
[[nodiscard]] std::optional<std::size_t> find_bad_utf8(std::string_view text);

}  // namespace millrace::control
