// SPDX-License-Identifier: Apache-2.0
//
// A configuration file as text becomes a Config, or everything that is wrong with it. Cold.
//
// The vocabulary is that of the ELBv2 API: names, defaults and ranges. The file is checked as a
// whole before anything of it is used, so that a wrong or empty one never changes what runs.
// Next on the way: reconcile/controller.h.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "controlplane/model/model.h"
#include "controlplane/yaml/text_file.h"

namespace millrace::control {

using LoadResult = std::variant<Config, std::vector<ConfigError>>;

// The interface on which this node has an address itself, "" when it has none such. Empty where
// nobody can say: on another machine than the node, or when what ran before must go on.
using FindOwnInterface = std::function<std::string(const IpAddress&)>;

// `name` stands for the text in messages; usually the path of the file. With `own_interface`, a VIP
// that is the node's own address is wrong, too.
[[nodiscard]] LoadResult load_config(std::string_view yaml_text, const std::string& name,
                                     const FindOwnInterface& own_interface = {});

// `node.engine` of a text of which all else may be wrong: a slip in some target group must not keep
// a unit from knowing which engine to start. nullopt when the text does not say for sure: it is no
// YAML, or names no engine and is no good config, of which a part may be missing.
[[nodiscard]] std::optional<EngineKind> load_engine_kind(std::string_view yaml_text);

// Reads the file at `path` and loads it. One that cannot be read is an error like any.
[[nodiscard]] LoadResult load_config_file(const std::string& path,
                                          const FindOwnInterface& own_interface = {});

}  // namespace millrace::control
