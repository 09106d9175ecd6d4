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

namespace millrace::control {

struct ConfigError {
  std::string place;   // "web.yaml:12:9: load_balancers[0].listeners[1].port"
  std::string reason;  // says what is allowed

  friend bool operator==(const ConfigError&, const ConfigError&) = default;
};

// "PLACE: REASON", as a person reads it.
[[nodiscard]] std::string to_string(const ConfigError& error);

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

// The text of the file at `path`, at most one byte more than a config may have. Waits for nobody:
// what is no file, such as a named pipe, is an error.
[[nodiscard]] std::variant<std::string, ConfigError> read_config_file(const std::string& path);

// Likewise of what somebody names on a command line, who may wait: also a pipe, as in
// `apply <(sed ... FILE)`, and standard input ("-").
[[nodiscard]] std::variant<std::string, ConfigError> read_given_file(const std::string& word);

}  // namespace millrace::control
