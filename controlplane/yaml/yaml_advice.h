// SPDX-License-Identifier: Apache-2.0
//
// What the YAML parser stumbled over, in the words of somebody who writes configs: which line,
// which column, which bracket, and what to do. Cold; pure.
//
// A parser reports where it could not go on, in terms of its grammar ("end of map not found"). The
// mistake is mostly in how a line is indented, or in the line before. Nothing here decides whether
// a text is good.
#pragma once

#include <string>
#include <string_view>

#include "controlplane/yaml/yaml_tree.h"

namespace millrace::control {

// `said` is yaml-cpp's message of what is wrong with `text` at `place`.
[[nodiscard]] std::string explain_yaml_error(std::string_view text, const YamlPlace& place,
                                             const std::string& said);

}  // namespace millrace::control
