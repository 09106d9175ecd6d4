// SPDX-License-Identifier: Apache-2.0
//
// A profile as YAML text becomes a Profile, or everything that is wrong with it, each with its
// line. Cold. The keys are described in README.md.
#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "bench/pktgen/profile.h"
#include "controlplane/yaml/text_file.h"
#include "dataplane/core/result.h"

namespace millrace::pktgen {

using ProfileResult = std::variant<Profile, std::vector<control::ConfigError>>;

// `name` stands for the text in messages; usually the path of the file.
[[nodiscard]] ProfileResult load_profile(std::string_view yaml_text, const std::string& name);

// Reads `path` ("-": standard input). Captures that it names are relative to its folder.
[[nodiscard]] ProfileResult load_profile_file(const std::string& path);

// "max", or a number with one of pps, kpps, mpps, cps, kcps, mcps (packets or connections), bit,
// kbit, mbit, gbit right behind it; at least 1 per second.
[[nodiscard]] Result<Rate> parse_rate(const std::string& text);

}  // namespace millrace::pktgen
